"""Table: a static list for each tenant, workload or other fact."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from litellm_plugin.routing.strategies.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext, Strategy
    from litellm_plugin.routing.strategies.static import Static

_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Table:
    """The static list in the row of a fact's value.

    A row that lists no candidate leaves none: what is pinned does not go elsewhere.

    Attributes:
        by: The fact, by the name that conditions use.
        rows: A static list by the fact's value, as text.
        otherwise: What ranks where there is no row; None ranks nothing then.
    """

    name: ClassVar[str] = "static"

    by: str
    rows: Mapping[str, Static] = field(hash=False)
    otherwise: Strategy | None = None

    def _shown(self, value: str) -> str:
        """The value for a note; a caller can write a prompt where the model's name stands."""
        return "some model" if self.by == "request.model" else repr(value[:_SHOWN_CHARACTERS])

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:
        """Orders the candidates by the row's list."""
        value = {**context.facts.names(), **context.scope.names()}.get(self.by)
        row = None if value is None else self.rows.get(str(value))
        if row is not None:
            return row.rank(inputs, context)
        found = "absent" if value is None else self._shown(str(value))
        if self.otherwise is None:
            return Ranking((), (f"static: no row for {self.by} ({found}), and no `else`",))
        ranking = self.otherwise.rank(inputs, context)
        note = f"static: no row for {self.by} ({found}); {self.otherwise.name} ranks instead"
        return replace(ranking, notes=(note, *ranking.notes))
