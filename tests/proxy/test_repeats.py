"""Repeats: what the OpenAI client is told while it works for a request."""

from __future__ import annotations

import pytest
from openai import _models
from openai._models import FinalRequestOptions

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.context import Administrative
from litellm_plugin.proxy.repeats import are_forbidden, forbid_repeats


@pytest.fixture(autouse=True)
def guarded():
    forbid_repeats()


def test_inside_a_request_the_client_never_repeats(request_state):
    request_state(Administrative())
    asked = FinalRequestOptions.construct(method="post", url="/x", max_retries=5)
    assert asked.get_max_retries(2) == 0


def test_outside_a_request_it_does_as_it_is_told():
    assert FinalRequestOptions.construct(method="post", url="/x").get_max_retries(2) == 2
    assert FinalRequestOptions.construct(method="post", url="/x", max_retries=5).get_max_retries(2) == 5


def test_it_is_guarded_once():
    once = FinalRequestOptions.get_max_retries
    forbid_repeats()
    assert FinalRequestOptions.get_max_retries is once
    assert are_forbidden()


@pytest.mark.parametrize(
    ("owner", "name"), [(FinalRequestOptions, "get_max_retries"), (_models, "FinalRequestOptions")]
)
def test_a_client_that_does_not_ask_stops_the_start(monkeypatch, owner, name):
    monkeypatch.delattr(owner, name)
    with pytest.raises(ConfigurationError, match="get_max_retries"):
        forbid_repeats()
    assert not are_forbidden()
