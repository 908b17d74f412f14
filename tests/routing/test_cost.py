from __future__ import annotations

import math

import pytest
from hypothesis import given
from routing_cases import a_request, prices, requests

from litellm_plugin.routing import CallType, Prices, expected_cost_usd


@pytest.mark.parametrize(
    ("given_prices", "facts", "expected"),
    [
        pytest.param(Prices(1e-6, 2e-6), {}, 100e-6 + 1024e-6, id="default output"),
        pytest.param(Prices(1e-6, 2e-6), {"max_output_tokens": 10}, 120e-6, id="limit caps output"),
        pytest.param(Prices(1e-6, 2e-6), {"max_output_tokens": 9999}, 1124e-6, id="limit is no expectation"),
        pytest.param(Prices(1e-6, 2e-6), {"max_output_tokens": -5}, 100e-6, id="negative limit"),
        pytest.param(Prices(0.0, 0.0, 0.5), {}, 0.5, id="per request"),
        pytest.param(Prices(0.0, 0.0), {}, 0.0, id="declared free"),
        pytest.param(Prices(None, 1.0), {}, None, id="input unknown"),
        pytest.param(Prices(1.0, None), {}, None, id="output unknown"),
        pytest.param(Prices(1e-6, None), {"call_type": CallType.EMBEDDING}, 100e-6, id="embedding"),
        pytest.param(Prices(-1.0, 1.0), {}, None, id="negative"),
        pytest.param(Prices(math.nan, 1.0), {}, None, id="not a number"),
        pytest.param(Prices(1.0, math.inf), {}, None, id="infinite"),
        pytest.param(Prices(1.0, 1.0, -1.0), {}, None, id="negative per request"),
        pytest.param(Prices(1e308, 1e308), {}, None, id="overflow"),
    ],
)
def test_expected_cost(given_prices, facts, expected):
    cost = expected_cost_usd(given_prices, a_request(**facts))
    assert cost == (None if expected is None else pytest.approx(expected))


def test_the_default_output_can_be_set():
    assert expected_cost_usd(Prices(0.0, 1.0), a_request(), default_output_tokens=7) == 7.0


@given(prices, prices, requests)
def test_a_known_cost_is_finite_and_not_negative(input_usd, output_usd, facts):
    cost = expected_cost_usd(Prices(input_usd, output_usd), facts)
    assert cost is None or (math.isfinite(cost) and cost >= 0)
