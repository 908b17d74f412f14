"""Usage: what a provider says that an answer took, held against what it can have taken.

A tenant's budget must not be at the mercy of one provider's mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing import CallType

if TYPE_CHECKING:
    import logging

    from litellm_plugin.proxy.context import Attempt, Permitted

# What no answer has that nobody knows a limit of: so many tokens, or so many context windows.
MOST_TOKENS: Final = 2_000_000
_MOST_WINDOWS: Final = 10
# A batch of embeddings has many prompts of a whole window each; rerankers read the query again with each document.
_BATCHES: Final = frozenset({CallType.EMBEDDING, CallType.RERANK})


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took.

    Attributes:
        input_tokens: Tokens of the prompt; None when nobody told.
        output_tokens: Tokens of all its answers; None when nobody told.
        cost_usd: What LiteLLM billed; None when unknown.
    """

    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


class Doubts:
    """Says once of each deployment that it told a usage that it cannot have had.

    Args:
        log: Where to say it.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._doubted: set[str] = set()

    def compare(self, deployment_id: str, said: Usage, believed: Usage) -> None:
        """Holds what was said against what is believed of it."""
        if said == believed or deployment_id in self._doubted:
            return
        self._doubted.add(deployment_id)
        self._log.warning(
            "Deployment %r told a usage that it cannot have had, %.40s and %.40s tokens: clamped to %s and %s",
            deployment_id,
            said.input_tokens,
            said.output_tokens,
            believed.input_tokens,
            believed.output_tokens,
        )


def believable(said: Usage, state: Permitted, attempt: Attempt) -> Usage:
    """The same with as many tokens as the attempt can have had; what was billed for more is replaced.

    Where tokens were clamped its cost is what was expected, or the part of the bill that the clamped tokens are of
    those that were told.
    """
    window = attempt.candidate.max_input_tokens
    bound = MOST_TOKENS if window is None else max(1, _MOST_WINDOWS * window)
    clamped = clamp(
        said,
        most_input=_most_input(state, bound),
        most_output=_most_output(state, attempt, bound),
    )
    if clamped == said:
        return said
    cost_usd = attempt.expected_cost_usd
    if cost_usd is None and said.cost_usd is not None:
        cost_usd = said.cost_usd * (_sum(clamped) / max(1, _sum(said)))
    return replace(clamped, cost_usd=cost_usd)


def clamp(said: Usage, *, most_input: int | None, most_output: int) -> Usage:
    """The same with no more tokens than these, and none known where less than nothing was told; None is no bound."""
    return replace(
        said,
        input_tokens=_least(said.input_tokens, most_input),
        output_tokens=_least(said.output_tokens, most_output),
    )


def _most_input(state: Permitted, bound: int) -> int | None:
    # A session has as many prompts as its user sends.
    if state.is_socket or state.call_type in _BATCHES:
        return None
    # One text completion or moderation may have many prompts, all of which were counted.
    counted = state.facts.input_tokens if state.facts is not None else 0
    return max(bound, _MOST_WINDOWS * counted)


def _most_output(state: Permitted, attempt: Attempt, bound: int) -> int:
    if state.facts is None or state.is_socket:
        # A session has as many answers as its user asks for.
        return bound
    known = [
        each
        for each in (state.facts.max_output_tokens, attempt.candidate.max_output_tokens)
        if each is not None
    ]
    return min(known, default=bound) * max(1, state.facts.output_count)


def _least(said: int | None, most: int | None) -> int | None:
    if said is None or said < 0:
        return None
    return said if most is None else min(said, most)


def _sum(usage: Usage) -> int:
    return (usage.input_tokens or 0) + (usage.output_tokens or 0)
