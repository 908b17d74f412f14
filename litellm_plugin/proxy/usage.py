"""Usage: what a provider says that an answer took, held against what it can have taken.

A tenant's budget must not be at the mercy of one provider's mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from litellm_plugin.proxy.context import Attempt, Permitted

# What no answer has that nobody knows a limit of: so many tokens, or so many context windows.
MOST_TOKENS: Final = 2_000_000
_MOST_WINDOWS: Final = 10


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


def believable(said: Usage, state: Permitted, attempt: Attempt) -> Usage:
    """The same with as many output tokens as the attempt can have had; what was billed for more is replaced.

    Where tokens were clamped its cost is what was expected, or the part of the bill that the clamped tokens are of
    those that were told.
    """
    window = attempt.candidate.max_input_tokens
    bound = MOST_TOKENS if window is None else max(1, _MOST_WINDOWS * window)
    clamped = replace(
        said,
        # A batch of embeddings has many prompts of a whole window each.
        input_tokens=_least(said.input_tokens, None),
        output_tokens=_least(said.output_tokens, _most_output(state, attempt, bound)),
    )
    if clamped == said:
        return said
    cost_usd = attempt.expected_cost_usd
    if cost_usd is None and said.cost_usd is not None:
        cost_usd = said.cost_usd * (_sum(clamped) / max(1, _sum(said)))
    return replace(clamped, cost_usd=cost_usd)


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
