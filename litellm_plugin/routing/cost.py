"""The expected cost of a request at a deployment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litellm_plugin.routing.candidates import Prices
    from litellm_plugin.routing.facts import RequestFacts

# A neutral length for an answer of which nothing is known; only the order of candidates depends on it.
DEFAULT_OUTPUT_TOKENS = 512


def expected_cost_usd(
    prices: Prices, facts: RequestFacts, *, default_output_tokens: int = DEFAULT_OUTPUT_TOKENS
) -> float | None:
    """The expected cost of the request in USD; None when a price that it needs is unknown.

    A negative or non-finite price is unknown, never free. Calls that generate no text
    (embeddings, rankings, images, speech) need no output price.

    Args:
        prices: Prices in USD, per token and per request.
        facts: The request.
        default_output_tokens: The expected length of an answer, in tokens; the caller's limit caps it.
    """
    output_tokens = expected_output_tokens(facts, default_output_tokens)
    terms = (
        _term(facts.input_tokens, prices.input_usd),
        0.0 if output_tokens is None else _term(output_tokens, prices.output_usd),
        _term(1, prices.request_usd),
    )
    known = [term for term in terms if term is not None]
    total = sum(known)
    return total if len(known) == len(terms) and math.isfinite(total) else None


def expected_output_tokens(facts: RequestFacts, default: int = DEFAULT_OUTPUT_TOKENS) -> int | None:
    """The expected length of the answer in tokens; None for calls that generate none."""
    if not facts.call_type.generates_text:
        return None
    return default if facts.max_output_tokens is None else max(0, min(default, facts.max_output_tokens))


def _term(quantity: int, price_usd: float | None) -> float | None:
    if price_usd is None or not math.isfinite(price_usd) or price_usd < 0:
        return None
    return quantity * price_usd
