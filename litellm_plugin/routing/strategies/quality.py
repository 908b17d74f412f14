"""Quality: the wanted tier first, and nothing below a floor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.strategies.ranking import Ranked, Ranking, check_share, listed_candidates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from litellm_plugin.routing.candidates import Candidate
    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.strategies.ranking import RankingContext


@dataclass(frozen=True, slots=True)
class Quality:
    """The wanted tier, then the higher ones from the nearest on, then the lower ones; candidates of a tier are equal.

    Without a wanted tier, all that meet the floor are equal. What a candidate does not declare it does not have:
    without a tier it fails a floor and comes last otherwise, without a quality it fails a minimum.

    Attributes:
        tiers: Every tier, the lowest first.
        tier: The tier that is wanted; None for any.
        floor: The lowest tier that may serve; None for any.
        minimum_quality: The lowest declared quality that may serve, from 0 to 1; None for any.

    Raises:
        ConfigurationError: A tier is not one of `tiers`, the floor lies above the wanted tier, the minimum is not
            a share, or nothing is asked for.
    """

    name: ClassVar[str] = "quality"

    tiers: tuple[str, ...] = ()
    tier: str | None = None
    floor: str | None = None
    minimum_quality: float | None = None

    def __post_init__(self) -> None:
        if self.tier is None and self.floor is None and self.minimum_quality is None:
            raise ConfigurationError("quality: expected `tier`, `floor` or `minimum_quality`, got none")
        for key, tier in (("tier", self.tier), ("floor", self.floor)):
            if tier is not None and tier not in self.tiers:
                known = ", ".join(self.tiers) or "`quality_tiers`, and none is declared"
                raise ConfigurationError(f"{key}: expected one of {known}; got {tier!r}")
        wanted, floor = self._level(self.tier), self._level(self.floor)
        if wanted is not None and floor is not None and wanted < floor:
            raise ConfigurationError(f"floor {self.floor!r} lies above the wanted tier {self.tier!r}")
        if self.minimum_quality is not None:
            check_share("minimum_quality", self.minimum_quality)

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:  # noqa: ARG002 - the protocol's
        """Orders the candidates by their distance from the wanted tier."""
        bands: dict[tuple[int, int], list[Ranked]] = {}
        for each in inputs:
            if self._suffices(each.candidate):
                bands.setdefault(self._place(each.candidate), []).append(
                    Ranked(each, terms=self._terms(each.candidate))
                )
        order = tuple(tuple(bands[place]) for place in sorted(bands))
        return Ranking(order, tuple(self._notes(inputs, order)))

    def _level(self, tier: str | None) -> int | None:
        """The tier's place among the tiers, from 0; None where it is none of them."""
        return self.tiers.index(tier) if tier in self.tiers else None

    def _suffices(self, candidate: Candidate) -> bool:
        level, floor = self._level(candidate.tier), self._level(self.floor)
        if floor is not None and (level is None or level < floor):
            return False
        return self.minimum_quality is None or (
            candidate.quality is not None and candidate.quality >= self.minimum_quality
        )

    def _place(self, candidate: Candidate) -> tuple[int, int]:
        """Its place: the wanted tier, the tiers above, the tiers below, the undeclared."""
        level, wanted = self._level(candidate.tier), self._level(self.tier)
        if wanted is None:
            return (0, 0)
        if level is None:
            return (2, 0)
        return (0, level - wanted) if level >= wanted else (1, wanted - level)

    def _terms(self, candidate: Candidate) -> dict[str, float]:
        terms: dict[str, float] = {}
        level = self._level(candidate.tier)
        if level is not None:
            terms["tier_level"] = level
        if candidate.quality is not None and math.isfinite(candidate.quality):
            terms["quality"] = candidate.quality
        return terms

    def _notes(self, inputs: Sequence[Assessment], order: Sequence[Sequence[Ranked]]) -> Iterator[str]:
        dropped = [each for each in inputs if not self._suffices(each.candidate)]
        if dropped:
            yield f"quality: below the floor or undeclared, so left out: {listed_candidates(dropped)}"
        first = self._level(order[0][0].assessment.candidate.tier) if order else self._level(self.tier)
        if self.tier is not None and first != self._level(self.tier):
            instead = "of no declared tier" if first is None else f"of tier {self.tiers[first]!r}"
            yield f"quality: no candidate of tier {self.tier!r}; the first is {instead}"
