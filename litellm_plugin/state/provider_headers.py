"""Provider headers: what a provider says of its own rate limits, read from the headers of an answer or a refusal.

OpenAI and Azure: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, resets as durations such as `6m0s`
(https://platform.openai.com/docs/guides/rate-limits). Anthropic: `anthropic-ratelimit-{requests,tokens,input-tokens,
output-tokens}-{limit,remaining,reset}`, resets as RFC 3339 (https://docs.anthropic.com/en/api/rate-limits). All:
`retry-after` (RFC 9110 §10.2.3) and OpenAI's `retry-after-ms`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# Limits of a day may ask for hours; to ask once more in ten minutes costs one request.
MOST_WAIT_S: Final = 600.0
MOST_UNITS: Final = 10**14

_LONGEST: Final = 64
_UNITS_S: Final = {
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|us|µs|ns|d|h|m|s)")
_DURATION: Final = re.compile(f"(?:{_PART.pattern})+")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a provider says is left of one of its limits.

    Attributes:
        remaining: Units that are left; 0 or more.
        limit: Units of the whole limit; None where it was not said.
        reset_s: How long until the whole limit is there again, from 0 to ten minutes; None where it was not said.
    """

    remaining: int
    limit: int | None = None
    reset_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderReading:
    """What the headers of one answer say.

    Attributes:
        requests: What is left of the requests; None where nothing readable was said.
        tokens: What is left of the tokens, of those that run out first.
        retry_after_s: How long the provider wants to be left alone, from 0 to ten minutes.
    """

    requests: Allowance | None = None
    tokens: Allowance | None = None
    retry_after_s: float | None = None


NOTHING_SAID: Final = ProviderReading()


def read_headers(headers: Mapping[str, object], wall_s: float) -> ProviderReading:
    """Reads what a provider says of its limits; what cannot be read was not said, and what is absurd is clamped.

    Nor was a limit where less than nothing is left, or that is 0 or less as a whole: so servers without one say that.

    Names are lower case, as providers' come out of httpx; or as LiteLLM hands them on: behind `llm_provider-`, or with
    underscores.

    Args:
        headers: The headers, by name.
        wall_s: Seconds since the epoch, for resets that are dates.
    """
    # A look-up in httpx's own headers goes through all of them.
    said = headers if isinstance(headers, dict) else dict(headers)
    return ProviderReading(
        requests=_allowance(said, wall_s, "requests"),
        tokens=_tokens(said, wall_s),
        retry_after_s=_retry_after(said, wall_s),
    )


def _spellings(name: str) -> tuple[str, ...]:
    return name, f"llm_provider-{name}", name.replace("-", "_")


def _names(*names: str) -> tuple[tuple[str, ...], ...]:
    return tuple(_spellings(name) for name in names)


def _openai(what: str) -> tuple[tuple[str, ...], ...]:
    return _names(*(f"x-ratelimit-{each}-{what}" for each in ("remaining", "limit", "reset")))


def _anthropic(what: str) -> tuple[tuple[str, ...], ...]:
    return _names(*(f"anthropic-ratelimit-{what}-{each}" for each in ("remaining", "limit", "reset")))


# What is left, the limit and the reset, by what is limited. LiteLLM hands on some of Anthropic's under OpenAI's names
# too, without their resets (LiteLLM 1.101 to 1.109).
_LIMITS: Final = {
    "requests": (_anthropic("requests"), _openai("requests")),
    "tokens": (_anthropic("tokens"), _openai("tokens")),
    "input-tokens": (_anthropic("input-tokens"),),
    "output-tokens": (_anthropic("output-tokens"),),
}
_RETRY_AFTER_MS: Final = _spellings("retry-after-ms")
_RETRY_AFTER: Final = _spellings("retry-after")


def _value(said: Mapping[str, object], spellings: tuple[str, ...]) -> object:
    for name in spellings:
        if name in said:
            return said[name]
    return None


def _tokens(said: Mapping[str, object], wall_s: float) -> Allowance | None:
    """The tokens that a prompt is counted in, or those of the answer where they have run out.

    Anthropic's `tokens` is whichever of its limits is the narrowest now, which may be the one of answers alone.
    """
    answers = _allowance(said, wall_s, "output-tokens")
    if answers is not None and answers.remaining == 0:
        return answers
    return _allowance(said, wall_s, "input-tokens") or _allowance(said, wall_s, "tokens")


def _allowance(said: Mapping[str, object], wall_s: float, what: str) -> Allowance | None:
    for remaining, limit, reset in _LIMITS[what]:
        left, whole = _number(_value(said, remaining)), _number(_value(said, limit))
        # Servers without a limit say so with 0 or -1.
        is_limited = whole is None or whole > 0
        if left is not None and left >= 0 and is_limited:
            units = None if whole is None else _units(whole)
            return Allowance(_units(left), units, _reset(_value(said, reset), wall_s))
    return None


def _retry_after(said: Mapping[str, object], wall_s: float) -> float | None:
    milliseconds = _number(_value(said, _RETRY_AFTER_MS))
    text = _text(_value(said, _RETRY_AFTER))
    seconds = _number(text) if milliseconds is None else milliseconds / 1000
    if seconds is None:
        return _until(text, wall_s)
    # RFC 9110 §10.2.3 knows no negative delay: who sends one said nothing.
    return None if seconds < 0 else _wait(seconds)


def _reset(value: object, wall_s: float) -> float | None:
    text = _text(value)
    seconds = _number(text)
    if seconds is None and _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    return _wait(seconds) if seconds is not None else _until(text, wall_s)


def _until(text: str, wall_s: float) -> float | None:
    """The time until a date, RFC 3339 or RFC 9110 §5.6.7; one without a zone is UTC."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            date = read(text)
            return _wait((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall_s)
        except (ValueError, TypeError, OverflowError):
            continue
    return None


def _wait(seconds: float) -> float | None:
    return None if math.isnan(seconds) else min(max(0.0, seconds), MOST_WAIT_S)


def _units(number: float) -> int:
    return int(min(number, MOST_UNITS))


def _number(value: object) -> float | None:
    text = _text(value)
    return float(text) if _NUMBER.fullmatch(text) else None


def _text(value: object) -> str:
    """A header's value; LiteLLM makes some of them numbers."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = str(value) if isinstance(value, str | float) or abs(value) <= MOST_UNITS else ""
    return text.strip() if len(text) <= _LONGEST else ""
