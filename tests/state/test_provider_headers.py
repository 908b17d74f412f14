"""Provider headers: what OpenAI, Azure and Anthropic say of their limits, and what nobody can mean."""

from __future__ import annotations

import math

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.state.provider_headers import (
    MOST_UNITS,
    MOST_WAIT_S,
    NOTHING_SAID,
    Allowance,
    ProviderReading,
    read_headers,
)

WALL_S = 1_700_000_000.0  # 2023-11-14T22:13:20Z
OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-reset-tokens": "6m0s",
}
OPENAI_SAYS = ProviderReading(Allowance(59, 60, 1.0), Allowance(149_984, 150_000, 360.0))


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(OPENAI, id="as they are sent"),
        pytest.param({f"llm_provider-{name}": value for name, value in OPENAI.items()}, id="of an answer"),
        pytest.param({name.replace("-", "_"): value for name, value in OPENAI.items()}, id="of the log"),
        pytest.param(httpx.Headers({name.title(): value for name, value in OPENAI.items()}), id="of httpx"),
        pytest.param(
            {name: int(value) if value.isdecimal() else value for name, value in OPENAI.items()},
            id="numbers",
        ),
    ],
)
def test_openai_headers_are_read_however_they_are_handed_on(headers):
    assert read_headers(headers, WALL_S) == OPENAI_SAYS


def anthropic(what, remaining, limit="1000", reset="2023-11-14T22:13:50Z"):
    return {
        f"anthropic-ratelimit-{what}-limit": limit,
        f"anthropic-ratelimit-{what}-remaining": remaining,
        f"anthropic-ratelimit-{what}-reset": reset,
    }


def test_anthropic_resets_are_dates():
    reading = read_headers(anthropic("requests", "7") | anthropic("tokens", "80"), WALL_S)
    assert reading == ProviderReading(Allowance(7, 1000, 30.0), Allowance(80, 1000, 30.0))


def test_what_litellm_makes_of_anthropic_headers_keeps_their_resets():
    handed_on = {f"llm_provider-{name}": value for name, value in anthropic("requests", "7").items()}
    under_other_names = {
        "x_ratelimit_remaining_requests": 7,
        "llm_provider-x-ratelimit-remaining-requests": "7",
    }
    assert read_headers(under_other_names | handed_on, WALL_S).requests == Allowance(7, 1000, 30.0)


@pytest.mark.parametrize(
    ("output", "remaining"),
    [pytest.param("5", 900, id="some left"), pytest.param("0", 0, id="used up")],
)
def test_tokens_of_answers_count_when_they_are_used_up(output, remaining):
    said = anthropic("tokens", "5") | anthropic("input-tokens", "900") | anthropic("output-tokens", output)
    assert read_headers(said, WALL_S).tokens == Allowance(remaining, 1000, 30.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("1s", 1.0, id="seconds"),
        pytest.param("6m0s", 360.0, id="minutes"),
        pytest.param("20ms", 0.02, id="milliseconds"),
        pytest.param("2m59.56s", 179.56, id="fractions"),
        pytest.param("1h", MOST_WAIT_S, id="C14 an hour is cut"),
        pytest.param("59", 59.0, id="plain seconds"),
        pytest.param("-5", 0.0, id="C14 negative"),
        pytest.param("2023-11-14T22:13:19Z", 0.0, id="past"),
        pytest.param("2023-11-14T23:13:25+01:00", 5.0, id="zone"),
        pytest.param("2023-11-14T22:13:25", 5.0, id="no zone"),
        pytest.param("Tue, 14 Nov 2023 22:13:25 GMT", 5.0, id="HTTP date"),
        pytest.param("9999-12-31T23:59:59Z", MOST_WAIT_S, id="C14 far away"),
        pytest.param("0001-01-01T00:00:00+14:00", 0.0, id="C14 before all time"),
        pytest.param("1x", None, id="C14 unknown unit"),
        pytest.param("s", None, id="C14 no number"),
        pytest.param("", None, id="empty"),
        pytest.param("9" * 65 + "s", None, id="C14 too long"),
        pytest.param("9" * 60 + "s", MOST_WAIT_S, id="C14 huge"),
    ],
)
def test_a_reset_is_a_duration_or_a_date(text, seconds):
    said = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": text}
    assert read_headers(said, WALL_S).requests == Allowance(
        0, None, None if seconds is None else pytest.approx(seconds)
    )


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        pytest.param({"retry-after": "7"}, 7.0, id="C25 seconds"),
        pytest.param({"retry-after": "1.5"}, 1.5, id="C25 fraction"),
        pytest.param({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0, id="C25 HTTP date"),
        pytest.param({"retry-after": "0"}, 0.0, id="C25 zero"),
        pytest.param({"retry-after": "-3"}, None, id="C25 negative"),
        pytest.param({"retry-after": "abc"}, None, id="C25 abc"),
        pytest.param({"retry-after": "1000000000"}, MOST_WAIT_S, id="C25 1e9"),
        pytest.param({"retry-after": "1e9"}, None, id="C25 exponent"),
        pytest.param({"retry-after": "nan"}, None, id="C25 nan"),
        pytest.param({"retry-after": "٣"}, None, id="C25 other digits"),
        pytest.param({"retry-after": True}, None, id="C25 no text"),
        pytest.param({"retry-after": None}, None, id="C25 nothing"),
        pytest.param({"retry-after-ms": "250", "retry-after": "1"}, 0.25, id="C25 milliseconds first"),
        pytest.param({"retry-after-ms": "soon", "retry-after": "1"}, 1.0, id="C25 milliseconds unreadable"),
        pytest.param({"llm_provider-retry-after": "7"}, 7.0, id="C25 of LiteLLM"),
    ],
)
def test_retry_after_is_read_and_clamped(said, seconds):
    assert read_headers(said, WALL_S).retry_after_s == seconds


@pytest.mark.parametrize("value", ["many", "nan", "inf", "", None, [], {}, True, "1,000"])
def test_what_cannot_be_read_was_not_said(value):
    """C14."""
    assert read_headers({"x-ratelimit-remaining-requests": value}, WALL_S) == NOTHING_SAID


@pytest.mark.parametrize(("value", "units"), [("9" * 40, MOST_UNITS), (3.0, 3), (math.inf, None)])
def test_absurd_units_are_clamped(value, units):
    """C14."""
    said = read_headers({"x-ratelimit-remaining-tokens": value}, WALL_S).tokens
    assert said == (None if units is None else Allowance(units))


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"remaining": "-1"}, id="C14 less than nothing left"),
        pytest.param({"remaining": "-0.5", "limit": "60"}, id="C14 less than nothing left of a limit"),
        pytest.param({"remaining": "0", "limit": "0"}, id="C14 a limit of nothing"),
        pytest.param({"remaining": "-1", "limit": "-1", "reset": "0s"}, id="C14 no limit"),
        pytest.param({"remaining": 0, "limit": -1}, id="C14 numbers"),
    ],
)
@pytest.mark.parametrize("what", ["requests", "tokens"])
def test_a_server_without_a_limit_has_said_nothing(said, what):
    headers = {f"x-ratelimit-{name}-{what}": value for name, value in said.items()}
    assert read_headers(headers, WALL_S) == NOTHING_SAID


def test_a_limit_that_is_none_hides_no_other():
    said = anthropic("requests", "0", limit="0") | OPENAI
    assert read_headers(said, WALL_S) == OPENAI_SAYS


values = st.one_of(
    st.text(), st.none(), st.integers(), st.floats(), st.from_regex(r"[0-9.]+(ms|s|m|h)", fullmatch=True)
)
names = st.one_of(
    st.text(),
    st.sampled_from(
        [*OPENAI, *anthropic("tokens", ""), *anthropic("requests", ""), "retry-after", "retry-after-ms"]
    ),
)


@given(st.dictionaries(names, values), st.floats(0, 4e9))
def test_any_headers_are_read_within_bounds(headers, wall_s):
    """C14, C25."""
    reading = read_headers(headers, wall_s)
    assert reading.retry_after_s is None or 0 <= reading.retry_after_s <= MOST_WAIT_S
    for each in (reading.requests, reading.tokens):
        if each is not None:
            assert 0 <= each.remaining <= MOST_UNITS
            assert each.reset_s is None or 0 <= each.reset_s <= MOST_WAIT_S
