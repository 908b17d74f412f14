"""Stored responses: read, ended and continued by id, at the one deployment that holds them, inside the set."""

from __future__ import annotations

import base64
import re

import pytest
from fleet import PATHS

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

CALLS = [
    pytest.param("GET", "", id="get"),
    pytest.param("DELETE", "", id="delete"),
    pytest.param("POST", "/cancel", id="cancel"),
    pytest.param("GET", "/input_items", id="input-items"),
]
SPELLINGS = ["/v1/responses", "/responses", "/openai/v1/responses"]


# The provider's own ids, as LiteLLM found them inside the ones that it gave out.
PROVIDER_ID = re.compile(r"resp_[0-9a-f]{32}")


def create(fleet, endpoint, **extra):
    """Makes a stored response at `endpoint` and gives the id that the proxy gave out."""
    answer = fleet.send("responses", [endpoint], **extra)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def forged(deployment, provider="openai", provider_id="resp_abc123"):
    text = f"litellm:custom_llm_provider:{provider};model_id:{deployment};response_id:{provider_id}"
    return f"resp_{base64.b64encode(text.encode()).decode()}"


def arrivals(fleet, suffix=""):
    """Arrivals that name a stored response in their path, and the provider's ids that they name."""
    found = [
        (name, each.method, each.path)
        for name, provider in fleet.providers.items()
        for each in provider.requests
        if "/responses/" in each.path
    ]
    fleet.allowed_paths |= {(name, path) for name, _, path in found}
    return found


@pytest.mark.parametrize(("method", "suffix"), CALLS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_deployment_that_made_it_serves(fleet, method, suffix, spelling):
    made = create(fleet, "eu-a")

    answer = fleet.bodiless(method, f"{spelling}/{made}{suffix}", ["us-a", "eu-a"])

    assert answer.status_code == 200, answer.text
    ((name, used, path),) = arrivals(fleet)
    assert (name, used) == ("eu-a", method)
    assert re.fullmatch(rf"/v1/responses/{PROVIDER_ID.pattern}{suffix}", path)
    assert answer.headers["x-permit-endpoint"] == "eu-a"
    assert answer.headers["x-permit-reason"] == "selected"


@pytest.mark.parametrize(("method", "suffix"), CALLS)
def test_an_id_of_another_endpoint_is_refused(fleet, method, suffix):
    made = create(fleet, "us-a")

    answer = fleet.bodiless(method, f"/v1/responses/{made}{suffix}", ["eu-a", "eu-b"])

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_authorized")
    assert arrivals(fleet) == []


FORGED = [
    pytest.param("resp_abc123", id="raw"),
    pytest.param("resp_%%%", id="garbage"),
    pytest.param("litellm_poll_abc", id="polling"),
    pytest.param("other", id="no-prefix"),
    pytest.param(forged("nowhere-1"), id="unknown-deployment"),
    pytest.param(forged("None"), id="no-deployment"),
    pytest.param(forged("eu-a-1", provider="anthropic"), id="provider-swap"),
    pytest.param(forged("eu-a-1", provider_id="../../v1/files"), id="path-in-id"),
    pytest.param(forged("gpt"), id="group-as-deployment"),
]


@pytest.mark.parametrize("stored", FORGED)
def test_an_id_that_is_not_ours_reaches_nobody(fleet, stored):
    path = f"/v1/responses/{stored}"

    answer = fleet.bodiless("GET", path.replace("%", "%25"), ["eu-a"], line=f"GET {path}")

    # An id with a slash in it is another path.
    expected = {(400, "body_invalid"), (403, "path_not_permitted")}
    assert (answer.status_code, answer.json()["error"]["code"]) in expected
    assert arrivals(fleet) == []


@pytest.mark.parametrize("stored", FORGED)
def test_no_other_id_is_continued(fleet, stored):
    answer = fleet.send("responses", ["eu-a"], previous_response_id=stored)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "body_invalid")
    assert fleet.calls() == {}


def test_without_the_plugin_a_forged_id_reaches_another_endpoint(inert_fleet):
    answer = inert_fleet.bodiless("GET", f"/v1/responses/{forged('us-b-1')}", ["eu-a"])

    assert answer.status_code == 200
    assert [name for name, _, _ in arrivals(inert_fleet)] == ["us-b"]


class TestContinued:
    def test_it_goes_where_the_first_one_went(self, fleet):
        made = create(fleet, "eu-a")

        for _ in range(3):
            answer = fleet.send("responses", ["us-b", "eu-a", "us-a"], previous_response_id=made)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-permit-endpoint"] == "eu-a"

        assert fleet.calls() == {"eu-a": 4}
        body = fleet.providers["eu-a"].requests[-1].json
        assert PROVIDER_ID.fullmatch(body["previous_response_id"])

    def test_a_stream_too(self, fleet):
        made = create(fleet, "eu-a")

        answer = fleet.send("responses", ["us-b", "eu-a"], previous_response_id=made, stream=True)

        assert answer.status_code == 200, answer.text
        assert fleet.calls() == {"eu-a": 2}

    def test_outside_the_set_it_is_refused(self, fleet):
        made = create(fleet, "us-a")
        before = fleet.calls()

        answer = fleet.send("responses", ["eu-a"], previous_response_id=made)

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_authorized")
        assert fleet.calls() == before

    def test_another_group_cannot_continue_it(self, fleet):
        made = create(fleet, "us-a")
        before = fleet.calls()

        answer = fleet.send("responses", ["us-a", "eu-b"], model="eu-only", previous_response_id=made)

        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "body_invalid")
        assert fleet.calls() == before

    def test_it_does_not_fail_over(self, fleet):
        made = create(fleet, "eu-a")
        fleet.providers["eu-a"].always(Fault.status(500))

        answer = fleet.send("responses", ["eu-a", "us-a"], previous_response_id=made)

        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chain_exhausted")
        assert fleet.calls() == {"eu-a": 2}

    def test_a_classification_holds(self, fleet):
        made = create(fleet, "us-a")

        answer = fleet.send(
            "responses", ["us-a"], previous_response_id=made, permit={"data_classification": "phi"}
        )

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_eligible")
        assert fleet.calls() == {"us-a": 1}


@pytest.mark.parametrize(
    "field",
    [{"background": True}, {"conversation": "conv_1"}, {"prompt": {"id": "pmpt_1"}}],
    ids=["background", "conversation", "prompt"],
)
def test_work_and_state_elsewhere_stay_refused(fleet, field):
    answer = fleet.send("responses", ["eu-a"], **field)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "body_invalid")
    assert fleet.calls() == {}


class TestBinding:
    def test_a_permit_for_one_id_does_not_fit_another(self, fleet):
        one, other = create(fleet, "eu-a"), create(fleet, "eu-a")

        answer = fleet.bodiless("GET", f"/v1/responses/{one}", ["eu-a"], line=f"GET /v1/responses/{other}")

        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "binding_mismatch")
        assert arrivals(fleet) == []

    def test_a_permit_to_read_does_not_delete(self, fleet):
        made = create(fleet, "eu-a")

        answer = fleet.bodiless("DELETE", f"/v1/responses/{made}", ["eu-a"], line=f"GET /v1/responses/{made}")

        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "binding_mismatch")
        assert arrivals(fleet) == []

    def test_a_query_is_bound_and_dropped(self, fleet):
        made = create(fleet, "eu-a")

        answer = fleet.bodiless("GET", f"/v1/responses/{made}?model=us-b-1&stream=true", ["eu-a"])

        assert answer.status_code == 200, answer.text
        assert [name for name, _, _ in arrivals(fleet)] == ["eu-a"]

    def test_a_body_is_refused(self, fleet):
        raw = b'{"custom_llm_provider": "anthropic"}'
        token = fleet.issuer.mint(["eu-a"], body=raw)
        made = create(fleet, "eu-a")

        answer = fleet.post(f"/v1/responses/{made}/cancel", raw, {"x-llm-permit": token})

        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "body_invalid")
        assert arrivals(fleet) == []

    def test_without_a_permit_nothing_is_read(self, fleet):
        made = create(fleet, "eu-a")

        answer = fleet.client.get(
            f"/v1/responses/{made}", headers={"authorization": f"Bearer {fleet.proxy.master_key}"}
        )

        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "permit_missing")
        assert arrivals(fleet) == []


def test_a_failing_deployment_is_not_replaced(fleet):
    made = create(fleet, "eu-a")
    fleet.providers["eu-a"].always(Fault.status(500))

    answer = fleet.bodiless("GET", f"/v1/responses/{made}", ["eu-a", "us-a", "claude-eu"])

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chain_exhausted")
    assert [name for name, _, _ in arrivals(fleet)] == ["eu-a"]


def test_a_response_that_is_gone_is_the_callers_matter(fleet):
    made = create(fleet, "eu-a")
    fleet.providers["eu-a"].always(Fault.status(404))

    answer = fleet.bodiless("GET", f"/v1/responses/{made}", ["eu-a"])

    assert answer.status_code == 404, answer.text
    assert [name for name, _, _ in arrivals(fleet)] == ["eu-a"]


@pytest.mark.parametrize(("method", "suffix"), CALLS)
def test_the_call_is_on_record(fleet, method, suffix):
    made = create(fleet, "eu-a")

    answer = fleet.bodiless(method, f"/v1/responses/{made}{suffix}", ["eu-a"])

    arrivals(fleet)
    decision_id = answer.headers["x-permit-decision-id"]
    fleet.wait_for(lambda: len([r for r in fleet.records() if r["decision_id"] == decision_id]) == 2)
    decision, attempt = [r for r in fleet.records() if r["decision_id"] == decision_id]
    assert (decision["call_type"], decision["chosen"]["endpoint"]) == ("stored_response", "eu-a")
    assert (decision["method"], decision["path"]) == (method, f"/v1/responses/{{response_id}}{suffix}")
    assert (attempt["endpoint"], attempt["status"], attempt["cost_usd"]) == ("eu-a", "success", None)
    assert made not in fleet.log_path.read_text()


def test_the_streamed_ids_are_ours_too(fleet):
    answer = fleet.send("responses", ["eu-a"], stream=True)
    made = answer.text.split('"id":"resp_')[1].split('"')[0]

    found = fleet.bodiless("GET", f"{PATHS['responses']}/resp_{made}", ["eu-a"])

    assert found.status_code == 200, found.text
    assert [name for name, _, _ in arrivals(fleet)] == ["eu-a"]
