"""Stickiness: a conversation stays with the deployment that answered it, unless moving gains enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.candidates import Affinity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litellm_plugin.routing.strategies import Ranked, Ranking, RankingContext


@dataclass(frozen=True, slots=True)
class Stickiness:
    """What the operator configured of conversations.

    Attributes:
        keeps_sessions: Whether a session stays where it was answered last.
        leave_at_gain: The share of the score above which it moves all the same, from 0 to 1.
        session_ttl_s: How long after its last answer a session is remembered.
        prefers_warm_caches: Whether what providers have cached of a prompt counts.

    Raises:
        ConfigurationError: The share is no share.
    """

    keeps_sessions: bool = True
    leave_at_gain: float = 0.3
    session_ttl_s: float = 3600.0
    prefers_warm_caches: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.leave_at_gain <= 1:
            raise ConfigurationError(f"leave_at_gain: expected 0 to 1, got {self.leave_at_gain}")

    def sees(self, affinity: Affinity) -> Affinity:
        """What counts under these settings of what earlier requests left."""
        return Affinity(
            session_deployment=affinity.session_deployment if self.keeps_sessions else None,
            warm_tokens=affinity.warm_tokens if self.prefers_warm_caches else {},
        )


def stick(
    stickiness: Stickiness, order: Sequence[Ranked], ranking: Ranking, context: RankingContext
) -> tuple[list[Ranked], tuple[str, ...]]:
    """Moves the session's deployment to the front where it should stay, and says for the record what was done.

    The order that is given is a permutation of `order`; what is not in it does not come in.

    Args:
        stickiness: The operator's settings.
        order: The candidates as the strategy and the spread of load put them.
        ranking: The strategy's answer that the order was made from.
        context: The request, and what earlier ones left where.
    """
    unchanged = list(order)
    session_id = context.affinity.session_deployment
    if not stickiness.keeps_sessions or session_id is None:
        return unchanged, ()
    sticky = next((each for each in order if _id(each) == session_id), None)
    if sticky is None:
        return unchanged, (f"session left {session_id}: it is not eligible or the strategy does not take it",)
    best = order[0]
    if sticky is best:
        return unchanged, (f"session kept at {session_id}: it is the first of the ranking",)
    stays, why = _weighed(stickiness, sticky, best, ranking, context)
    if not stays:
        return unchanged, (f"session left {session_id} for {_id(best)}: {why}",)
    return [sticky, *(each for each in order if each is not sticky)], (
        f"session kept at {session_id}: {why}",
    )


def _weighed(
    stickiness: Stickiness, sticky: Ranked, best: Ranked, ranking: Ranking, context: RankingContext
) -> tuple[bool, str]:
    if context.facts.tool_step > 0:
        return True, f"step {context.facts.tool_step} of a tool loop"
    gain = _gain(sticky, best)
    if gain is None:
        is_equal = _band(ranking, sticky) == _band(ranking, best)
        return is_equal, f"{'equal to' if is_equal else 'ranked after'} {_id(best)}, without scores"
    limit = stickiness.leave_at_gain
    is_enough = gain > limit
    relation = "above" if is_enough else "not above"
    return not is_enough, f"moving to {_id(best)} would gain {gain:.3f}, {relation} {limit:.3f}"


def _gain(sticky: Ranked, best: Ranked) -> float | None:
    """What share of the session's score the best one saves; None where one of them has none.

    Where an outer strategy tells the two apart, its scores count and not those within its bands.
    """
    for (mine, sticky_score), (theirs, best_score) in zip(sticky.outer, best.outer, strict=False):
        if mine != theirs:
            return _saved(sticky_score, best_score)
    return _saved(sticky.score, best.score)


def _saved(sticky: float | None, best: float | None) -> float | None:
    if sticky is None or best is None or not math.isfinite(sticky) or not math.isfinite(best):
        return None
    return (sticky - best) / sticky if sticky > 0 else 0.0


def _band(ranking: Ranking, ranked: Ranked) -> int | None:
    wanted = _id(ranked)
    bands = (n for n, band in enumerate(ranking.bands) if any(_id(each) == wanted for each in band))
    return next(bands, None)


def _id(ranked: Ranked) -> str:
    return ranked.assessment.candidate.deployment_id
