"""The expected cost of a request at a candidate, and where its parts come from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing.facts import CallType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugin.routing.candidates import Candidate, Prices
    from litellm_plugin.routing.facts import RequestFacts, RoutingScope

# A neutral length for an answer of which nothing is known; only the order of candidates depends on it.
DEFAULT_OUTPUT_TOKENS: Final = 512
# The most answers that a request is expected to have, whatever it asks for: `n` of OpenAI's
# CreateChatCompletionRequest has this maximum, and what asks for more is mostly refused unread.
MOST_ANSWERS: Final = 128
# A neutral length for a recording, whose length no body tells.
DEFAULT_AUDIO_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class ExpectedCost:
    """What a request is expected to cost at a candidate.

    Attributes:
        total_usd: The sum of the terms, in USD; finite and not negative.
        terms: USD by what is charged: `input`, `cached_input`, `output`, `request`, `images`, `audio`,
            `characters`, `query`. What is not charged has no term.
        output_tokens: The expected length of the answer in tokens; None for calls that generate no text.
    """

    total_usd: float
    terms: Mapping[str, float]
    output_tokens: float | None = None


def route_of(facts: RequestFacts, scope: RoutingScope) -> str:
    """Names the route whose earlier answers tell how long the next one will be.

    Requests of one model group, call type, workload and reasoning effort are alike in that, within a tenant and a
    classification: what one of them asks tells nothing to another.
    """
    parts = (
        scope.tenant,
        scope.data_classification,
        facts.model_group,
        facts.call_type,
        facts.workload or "",
        facts.reasoning_effort or "",
    )
    return "\n".join(parts)


def expected_cost(
    candidate: Candidate,
    facts: RequestFacts,
    *,
    tenant_tier: str = "",
    warm_tokens: int = 0,
    answer_tokens: float | None = None,
    most_answers: int = MOST_ANSWERS,
) -> ExpectedCost | None:
    """The expected cost of the request; None when a price that it needs is unknown.

    A negative or non-finite price is unknown, never free. Which prices a request needs follows from its call
    type: text needs input and output, embeddings input alone, images a price per image, speech one per
    character, a transcription one per second or per token, a ranking one per query or per token.

    Args:
        candidate: Where it would go.
        facts: The request.
        tenant_tier: Whose prices apply.
        warm_tokens: How many of its input tokens the provider has likely cached.
        answer_tokens: The mean length of this route's earlier answers; None when there were none.
        most_answers: How many answers are paid at most.
    """
    prices = candidate.prices_for(tenant_tier).at(facts.input_tokens)
    output_tokens = expected_output_tokens(
        facts, answer_tokens, candidate.max_output_tokens, most_answers=most_answers
    )
    terms = _input_terms(prices, facts, warm_tokens, expected_answers(facts, most_answers))
    if output_tokens is not None:
        terms["output"] = _term(output_tokens, prices.output_usd)
    terms["request"] = _term(1, prices.request_usd)
    charged = {name: value for name, value in terms.items() if value}
    total_usd = sum(charged.values())
    if None in terms.values() or not math.isfinite(total_usd):
        return None
    return ExpectedCost(total_usd, charged, output_tokens)


def expected_output_tokens(
    facts: RequestFacts,
    answer_tokens: float | None = None,
    longest_tokens: int | None = None,
    *,
    most_answers: int = MOST_ANSWERS,
) -> float | None:
    """The expected length of all answers together in tokens; None for calls that generate no text.

    It is the mean of earlier answers and not a quantile: cost grows in proportion to the length, so that the
    mean cost is the cost at the mean length.

    Args:
        facts: The request; its limit caps each answer.
        answer_tokens: The mean length of one answer on this route; None takes a neutral length.
        longest_tokens: The longest answer that the endpoint gives; None when unknown.
        most_answers: How many answers are expected at most.
    """
    if not facts.call_type.generates_text:
        return None
    expected = DEFAULT_OUTPUT_TOKENS if answer_tokens is None else answer_tokens
    for limit in (facts.max_output_tokens, longest_tokens):
        if limit is not None and limit < expected:
            expected = limit
    return max(0, expected) * expected_answers(facts, most_answers)


def expected_answers(facts: RequestFacts, most: int = MOST_ANSWERS) -> int:
    """How many answers or images are expected, 1 or more."""
    return min(max(1, facts.output_count), most)


def _input_terms(
    prices: Prices, facts: RequestFacts, warm_tokens: int, answers: int
) -> dict[str, float | None]:
    """What the request itself costs, by term; None where a price that is needed is unknown."""
    match facts.call_type:
        case CallType.IMAGE_GENERATION | CallType.IMAGE_EDIT:
            return {
                **_optional("input", facts.input_tokens, prices.input_usd),
                "images": _term(answers, prices.image_output_usd),
            }
        case CallType.SPEECH:
            return {"characters": _term(facts.spoken_characters, prices.character_usd)}
        case CallType.TRANSCRIPTION if prices.audio_input_usd is not None:
            return {"audio": _term(max(1, facts.audio_count) * DEFAULT_AUDIO_S, prices.audio_input_usd)}
        case CallType.RERANK if prices.query_usd is not None:
            return {
                **_optional("input", facts.input_tokens, prices.input_usd),
                "query": _term(1, prices.query_usd),
            }
        case _:
            terms = _token_terms(prices, facts.input_tokens, warm_tokens)
            if facts.image_count or facts.audio_count:
                terms |= _optional("images", facts.image_count, prices.image_input_usd)
                terms |= _optional("audio", facts.audio_count * DEFAULT_AUDIO_S, prices.audio_input_usd)
            return terms


def _token_terms(prices: Prices, input_tokens: int, warm_tokens: int) -> dict[str, float | None]:
    warm = min(max(0, warm_tokens), input_tokens)
    if not warm or prices.cached_input_usd is None:
        # LiteLLM too bills cached tokens as ordinary ones where no price says otherwise.
        return {"input": _term(input_tokens, prices.input_usd)}
    return {
        "input": _term(input_tokens - warm, prices.input_usd),
        "cached_input": _term(warm, prices.cached_input_usd),
    }


def _optional(name: str, quantity: float, price_usd: float | None) -> dict[str, float | None]:
    """A term that counts where a price is stated: the provider may count it among the tokens."""
    return {name: _term(quantity, price_usd)} if quantity and price_usd is not None else {}


def _term(quantity: float, price_usd: float | None) -> float | None:
    if price_usd is None or not math.isfinite(price_usd) or price_usd < 0:
        return None
    return quantity * price_usd
