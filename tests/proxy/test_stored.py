from __future__ import annotations

import base64

import pytest
from litellm.proxy.common_utils.encrypt_decrypt_utils import encrypt_value_helper
from litellm.responses.utils import ResponsesAPIRequestUtils
from litellm.types.utils import SpecialEnums

from litellm_plugin.proxy.stored import StoredId, read_stored_id

OURS = StoredId(deployment_id="eu-a-1", provider="openai", provider_id="resp_abc123")


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("LITELLM_SALT_KEY", "sk-salt-of-this-test")


def named(provider="openai", deployment="eu-a-1", provider_id="resp_abc123"):
    return ResponsesAPIRequestUtils._build_responses_api_response_id(provider, deployment, provider_id)


def sealed(inner, user="user-1", team="team-1"):
    template = SpecialEnums.LITELLM_MANAGED_RESPONSE_API_RESPONSE_ID_COMPLETE_STR.value
    return f"resp_{encrypt_value_helper(value=template.format(inner, user, team))}"


def encoded(text):
    return f"resp_{base64.b64encode(text.encode()).decode()}"


def test_litellms_own_id_is_read():
    assert read_stored_id(named()) == OURS


@pytest.mark.parametrize(("user", "team"), [("user-1", "team-1"), ("", "")])
def test_a_sealed_id_is_read(user, team):
    assert read_stored_id(sealed(named(), user, team)) == OURS


def test_an_id_sealed_with_another_key_is_not_read(monkeypatch):
    foreign = sealed(named())
    monkeypatch.setenv("LITELLM_SALT_KEY", "sk-another-salt")
    assert read_stored_id(foreign) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="nothing"),
        pytest.param(7, id="number"),
        pytest.param("", id="empty"),
        pytest.param("resp_", id="prefix"),
        pytest.param("resp_abc123", id="raw"),
        pytest.param("litellm_poll_abc", id="polling"),
        pytest.param(named().removeprefix("resp_"), id="no-prefix"),
        pytest.param(f"resp_{named()}", id="two-prefixes"),
        pytest.param(named() + "=", id="more-padding"),
        pytest.param(named() + "\n", id="line-end"),
        pytest.param(named(deployment=None), id="no-deployment-but-none"),
        pytest.param(named(deployment=""), id="empty-deployment"),
        pytest.param(named(provider=""), id="empty-provider"),
        pytest.param(named(provider_id=""), id="empty-id"),
        pytest.param(named(provider_id="../files"), id="path"),
        pytest.param(named(provider_id="a?b=c"), id="query"),
        pytest.param(named(provider_id="a;model_id:us-b-1"), id="second-deployment"),
        pytest.param(encoded("litellm:custom_llm_provider:openai;model_id:eu-a-1"), id="cut"),
        pytest.param(encoded("custom_llm_provider:openai;model_id:eu-a-1;response_id:a"), id="no-litellm"),
        pytest.param("resp_" + "A" * 4_000, id="long"),
    ],
)
def test_any_other_id_is_not_read(text):
    found = read_stored_id(text)
    # LiteLLM writes None as a word; no deployment has that id.
    assert found is None or found.deployment_id == "None"
