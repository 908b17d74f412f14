"""Rankings: what a strategy is, what it sees, and what it answers."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.candidates import NO_AFFINITY, Affinity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from litellm_plugin.routing.decision import Assessment
    from litellm_plugin.routing.facts import RequestFacts, RoutingScope


# A permit holds up to 64 endpoints; a note stays a sentence.
_SHOWN_NAMES = 8


@dataclass(frozen=True, slots=True)
class RankingContext:
    """What a strategy may know beside the candidates; neither the permit nor who sent the request.

    Attributes:
        facts: The request.
        scope: What its permit opens, without identity.
        seed: What ties are broken with.
        affinity: What earlier requests of the same tenant and classification left where.
        output_tokens: The expected length of the answer in tokens; None where the call generates none.
    """

    facts: RequestFacts
    scope: RoutingScope
    seed: int
    affinity: Affinity = NO_AFFINITY
    output_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One candidate as a strategy ranked it.

    Attributes:
        assessment: The candidate.
        score: What the strategy ranks by, in a unit of its own, lower is better; None where it ranks by an order
            that somebody wrote down.
        terms: What went into the score, by name, for the record.
        outer: The band and the score that each strategy before this one gave, the first strategy first; empty where
            one strategy ranked alone. Scores are compared within equal bands only.
    """

    assessment: Assessment
    score: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict, hash=False)
    outer: tuple[tuple[int, float | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """A strategy's answer.

    Attributes:
        bands: Groups of candidates that are equal to the strategy, best first; load decides within a band, or
            the strategy behind `then`.
        notes: What a reader of the record must know of the order, a sentence each.
    """

    bands: tuple[tuple[Ranked, ...], ...]
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Ranked]:
        """Every candidate, best band first."""
        return (ranked for band in self.bands for ranked in band)


class Strategy(Protocol):
    """Puts candidates in the order in which attempts take them."""

    @property
    def name(self) -> str:
        """The name that configuration and records use."""

    def rank(self, inputs: Sequence[Assessment], context: RankingContext) -> Ranking:
        """Orders `inputs`, best first; may leave some out, may not add any.

        The same inputs in any order and the same context give the same ranking, apart from the order within
        a band.
        """


def most_attempts(strategy: Strategy) -> int | None:
    """How many attempts a request may have under this strategy; None where it does not say."""
    return getattr(strategy, "most_attempts", None)


def tie_break(assessment: Assessment, seed: int) -> bytes:
    """A key that spreads equal candidates evenly over seeds, and in which none depends on the others.

    Source: rendezvous hashing, Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6(1), 1998.
    """
    text = f"{seed}:{assessment.candidate.deployment_id}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def spread(band: Sequence[Ranked], seed: int) -> list[Ranked]:
    """The order within a band: the less loaded of two that the seed picks first, the others by the seed.

    Source: power of two choices, Mitzenmacher, IEEE Transactions on Parallel and Distributed Systems 12(10), 2001.
    """
    order = sorted(band, key=lambda ranked: tie_break(ranked.assessment, seed))
    if len(order) > 1 and order[1].assessment.in_flight < order[0].assessment.in_flight:
        order[0], order[1] = order[1], order[0]
    return order


def bands_by_score(ranked: Sequence[Ranked], tolerance: float = 0.0) -> tuple[tuple[Ranked, ...], ...]:
    """Bands of candidates whose scores lie within a share of the band's best; those without a score come last.

    Args:
        ranked: Candidates with scores, not negative; in any order.
        tolerance: How far a score may lie above the band's best, as a share of it.
    """
    scored = sorted(
        (score, position) for position, score in enumerate(map(_finite, ranked)) if score is not None
    )
    bands: list[list[Ranked]] = []
    limit = -1.0
    for score, position in scored:
        if not bands or score > limit:
            bands.append([])
            limit = score * (1.0 + tolerance)
        bands[-1].append(ranked[position])
    unscored = [each for each in ranked if _finite(each) is None]
    return tuple(tuple(band) for band in (*bands, unscored) if band)


def bands_by_endpoint(
    inputs: Sequence[Assessment], endpoints: Iterable[str]
) -> tuple[tuple[Ranked, ...], ...]:
    """A band for each endpoint that has candidates, in the order of `endpoints`; other candidates are left out."""
    bands: dict[str, list[Ranked]] = {endpoint: [] for endpoint in endpoints}
    for each in inputs:
        if each.candidate.endpoint in bands:
            bands[each.candidate.endpoint].append(Ranked(each))
    return tuple(tuple(band) for band in bands.values() if band)


def listed(names: Iterable[str]) -> str:
    """Names in one line for a note, eight at most."""
    distinct = list(dict.fromkeys(names))
    hidden = len(distinct) - _SHOWN_NAMES
    return ", ".join(distinct[:_SHOWN_NAMES]) + (f" and {hidden} more" if hidden > 0 else "")


def absent(endpoints: Iterable[str], inputs: Iterable[Assessment]) -> list[str]:
    """Those of the endpoints that no candidate stands for, in their order."""
    present = {each.candidate.endpoint for each in inputs}
    return [endpoint for endpoint in endpoints if endpoint not in present]


def listed_candidates(assessments: Iterable[Assessment]) -> str:
    """The deployment ids of candidates in one line for a note, in an order that is always the same."""
    return listed(sorted(each.candidate.deployment_id for each in assessments))


def check_share(key: str, value: float) -> None:
    """Makes sure that a value is a number from 0 to 1.

    Raises:
        ConfigurationError: It is not; names the key.
    """
    if not 0 <= value <= 1:
        raise ConfigurationError(f"{key}: expected a number from 0 to 1, got {value!r}")


def _finite(ranked: Ranked) -> float | None:
    return ranked.score if ranked.score is not None and math.isfinite(ranked.score) else None
