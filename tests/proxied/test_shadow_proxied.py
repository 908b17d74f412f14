"""A second policy beside the one in force: computed for each decision, recorded, never sent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from fleet import POLICY, Fleet

pytestmark = pytest.mark.proxy

PATIENT_S = 60.0


def shadow_block(**changes):
    issuer = {
        "issuer": "https://shadow.example",
        "jwks_url": "http://127.0.0.1:9/jwks",
        "algorithms": ["ES256"],
    }
    permit = {**POLICY["permit"], "issuers": [issuer], **changes.pop("permit", {})}
    return yaml.safe_dump({**POLICY, "permit": permit, **changes})


PINNED = {"strategy": "static", "endpoints": ["us-a"]}


@pytest.fixture(scope="module")
def shadowed():
    files = {"other.yaml": shadow_block(default=PINNED)}
    with Fleet(policy={"shadow": "other.yaml"}, files=files) as fleet:
        yield fleet.ready()


@pytest.fixture
def fleet(shadowed):
    shadowed.clear()
    write(shadowed, default=PINNED)
    yield shadowed
    assert shadowed.out_of_set() == []


def write(fleet, **changes):
    """Writes the shadow's file again, and waits until the proxy took it."""
    Path(fleet.folder.name, "other.yaml").write_text(shadow_block(**changes))
    key = {"authorization": f"Bearer {fleet.proxy.master_key}"}
    return fleet.client.post("/permit-router/v1/reload", headers=key)


def decided(fleet, answer):
    return next(each for each in fleet.records_of(answer) if each["type"] == "decision")


def test_both_choices_are_recorded_and_one_is_sent(fleet):
    answer = fleet.send("chat", ["us-a", "us-b"])
    record = decided(fleet, answer)
    shadow = record["shadow"]
    assert (record["chosen"]["endpoint"], fleet.calls()) == ("us-b", {"us-b": 1})
    assert (shadow["chosen"]["endpoint"], shadow["plan"], shadow["agrees"]) == ("us-a", ["us-a-1"], False)
    assert shadow["config_hash"] == fleet.health()["shadow"]["config_hash"] != record["config_hash"]


def test_an_agreement_is_said(fleet):
    shadow = decided(fleet, fleet.send("chat", ["us-a"]))["shadow"]
    assert (shadow["outcome"], shadow["agrees"]) == ("routed", True)


def test_a_shadow_that_would_refuse_refuses_nothing(fleet):
    answer = fleet.send("chat", ["us-b"])
    shadow = decided(fleet, answer)["shadow"]
    assert (answer.status_code, fleet.calls()) == (200, {"us-b": 1})
    assert (shadow["outcome"], shadow["reason"], shadow["chosen"]) == ("denied", "not_eligible", None)


def test_a_shadow_that_would_serve_serves_nothing(fleet):
    answer = fleet.send("chat", ["us-a"], permit={"data_classification": "phi"})
    assert answer.status_code == 403
    record = next(
        each for each in fleet.records() if each["decision_id"] == answer.headers["x-permit-decision-id"]
    )
    assert record["shadow"]["outcome"] == "denied"
    write(fleet, default=PINNED, classifications={"public": {}, "internal": {}, "phi": {}})
    answer = fleet.send("chat", ["us-a"], permit={"data_classification": "phi"})
    record = next(
        each for each in fleet.records() if each["decision_id"] == answer.headers["x-permit-decision-id"]
    )
    assert (answer.status_code, record["shadow"]["outcome"], fleet.calls()) == (403, "routed", {})


def test_a_permit_that_it_does_not_know_is_refused_by_it_alone(fleet):
    write(fleet, tenant_tiers=["free"])
    answer = fleet.send("chat", ["us-a"])
    shadow = decided(fleet, answer)["shadow"]
    assert (answer.status_code, shadow["reason"], shadow["rule"]) == (200, "claim_invalid", None)


def test_disagreements_are_counted(fleet):
    before = fleet.health()["shadow"]
    fleet.send("chat", ["us-a", "us-b"])
    fleet.send("chat", ["us-a"])
    after = fleet.health()["shadow"]
    assert after["decisions"] == before["decisions"] + 2
    assert (after["disagreements"], after["errors"]) == (before["disagreements"] + 1, before["errors"])


def test_its_file_is_watched_too(fleet):
    before = fleet.health()
    Path(fleet.folder.name, "other.yaml").write_text(shadow_block(resilience={"attempts": 1}))
    deadline_s = time.monotonic() + PATIENT_S
    while (after := fleet.health())["shadow"] == before["shadow"] and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert after["shadow"]["config_hash"] != before["shadow"]["config_hash"]
    assert after["config_hash"] == before["config_hash"]


def test_a_broken_one_keeps_both(fleet):
    before = fleet.health()
    answer = write(fleet, default={"strategy": "no-such"})
    assert (answer.status_code, answer.json()["result"]) == (422, "refused")
    assert "other.yaml" in answer.json()["error"]
    after = fleet.health()
    assert (after["shadow"], after["config_hash"]) == (before["shadow"], before["config_hash"])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param({}, "cannot be read as YAML", id="missing"),
        pytest.param({"other.yaml": shadow_block(default={"strategy": "no-such"})}, "no-such", id="broken"),
        pytest.param({"other.yaml": shadow_block(shadow="third.yaml")}, "no shadow of its own", id="nested"),
    ],
)
def test_a_broken_one_stops_the_start(files, said):
    with Fleet(policy={"shadow": "other.yaml"}, files=files) as fleet:
        assert fleet.proxy.wait_exit() != 0
        assert "permit_router.shadow 'other.yaml'" in fleet.proxy.log_text()
        assert said in fleet.proxy.log_text()
