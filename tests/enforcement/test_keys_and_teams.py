"""What LiteLLM's keys, teams, stored credentials and stored prompts may say of a request, and what they may not.

As in `test_side_doors` each row is tried twice: with the plugin nothing may arrive outside the permit's set,
and with the plugin switched off the same request must leave it, or the row says that LiteLLM shuts that door.
Most rows ask for a model group with one endpoint, so that nothing but the row's own trick can leave the set.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from fleet import CALLS, PATHS, POLICY, STREAMING
from keyed_fleet import EVIL, SINK, KeyedFleet, key_header, key_text

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

INSIDE = "eu-b"
GROUP = "eu-only"
TO_CLAUDE = [{GROUP: ["claude"]}]
TO_EVIL = {"model": "openai/gpt-test", "api_base": f"{EVIL}/v1", "api_key": "k"}
EVIL_GROUP = {"model_list": [{"model_name": GROUP, "litellm_params": TO_EVIL}]}
EVIL_FALLBACK = {"model": GROUP, "api_base": f"{EVIL}/v1", "api_key": "k"}


@dataclass(frozen=True)
class Door:
    """One way out: what the key carries and the request says, how it ends here, whether LiteLLM leaves it open."""

    name: str
    key: dict[str, Any] = field(default_factory=dict)
    says: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    reason: str | None = None
    breaks: tuple[str, ...] = ()
    is_open_without_us: bool = True


def team(**metadata: Any) -> dict[str, Any]:
    return {"team_id": "acme", "team_metadata": metadata}


def settings(**entries: Any) -> dict[str, Any]:
    return {"router_settings": entries}


WHOLE_GROUP = {"model": "gpt"}  # four endpoints, so that without the plugin any of them may serve
DENIED = {"status": 403, "reason": "not_authorized"}
BROKEN = {"status": 503, "reason": "chain_exhausted", "breaks": (INSIDE,)}
SHUT = {"is_open_without_us": False}

KEY_DOORS = [
    Door("alias", {"aliases": {GROUP: "claude"}}, **DENIED),
    Door("alias-to-deployment-id", {"aliases": {GROUP: "us-b-1"}}, **DENIED),
    Door("alias-to-provider-model", {"aliases": {GROUP: "anthropic/claude-test"}}, **DENIED),
    Door("alias-to-comma-list", {"aliases": {GROUP: f"{GROUP},claude"}}, status=400, reason="body_invalid"),
    Door("team-alias", {"team_id": "acme", "team_model_aliases": {GROUP: "claude"}}, **DENIED),
    Door("settings-alias", settings(model_group_alias={GROUP: "claude"}), **DENIED),
    Door("settings-fallbacks", settings(fallbacks=TO_CLAUDE), **BROKEN),
    Door("settings-fallbacks-for-all", settings(fallbacks=[{"*": ["claude"]}]), **BROKEN),
    Door("settings-fallbacks-to-a-host", settings(fallbacks=[{GROUP: [EVIL_FALLBACK]}]), **BROKEN),
    Door("settings-strategy", settings(routing_strategy="usage-based-routing"), WHOLE_GROUP),
    Door("settings-latency-strategy", settings(routing_strategy="latency-based-routing"), WHOLE_GROUP),
    Door("settings-weights", settings(weights={"us-b-1": 1}), WHOLE_GROUP),
    Door("settings-retries", settings(num_retries=25), WHOLE_GROUP, **BROKEN),
    Door("settings-model-list", settings(**EVIL_GROUP), **SHUT),
    Door("metadata-fallbacks", {"metadata": {"fallbacks": TO_CLAUDE}}, **BROKEN, **SHUT),
    Door("team-metadata-fallbacks", team(fallbacks=TO_CLAUDE), **BROKEN, **SHUT),
    Door("team-metadata-settings", team(router_settings={"fallbacks": TO_CLAUDE}), **BROKEN, **SHUT),
    Door("metadata-deployment", {"metadata": {"specific_deployment": "us-b-1", "model_group": "claude"}}, **SHUT),
    Door("metadata-allows-fallbacks", {"metadata": {"disable_fallbacks": False}}, {"fallbacks": ["claude"]}, **BROKEN),
    Door("team-credentials", team(model_config={"defaultconfig": {"openai": {"litellm_credentials": "elsewhere"}}})),
    Door("key-config", {"config": EVIL_GROUP}, **SHUT),
    # A team's own deployments replace the group's: what the permit names is not to be had for this team.
    Door("team-deployment", {"team_id": "byok"}, **DENIED),
    Door("team-model-name", {"team_id": "byok"}, {"model": "team-gpt"}, **DENIED),
    # LiteLLM refuses it with or without us.
    Door("models-of-the-key", {"models": ["gpt"]}, status=403, **SHUT),
]  # fmt: skip

STORED_DOORS = [
    Door("credential-of-a-deployment-that-has-one", says={"model": "by-credential", "litellm_credential_name": "elsewhere"}),
    Door("credential-of-a-deployment-with-an-address", says={"litellm_credential_name": "elsewhere"}, **SHUT),
    Door("prompt-of-another-group", says={"prompt_id": "to-claude"}),
    Door("prompt-of-a-deployment", says={"prompt_id": "to-us-b"}),
    Door("prompt-of-a-provider-model", says={"prompt_id": "to-provider-model"}),
]  # fmt: skip

OPENED_DOORS = [
    Door("api-base", says={"api_base": f"{EVIL}/v1"}),
    Door("api-base-and-key", says={"api_base": f"{EVIL}/v1", "api_key": "k"}),
    Door("base-url", says={"base_url": f"{EVIL}/v1"}),
    Door("base-url-and-key", says={"base_url": f"{EVIL}/v1", "api_key": "k"}),
    Door("extra-body", says={"extra_body": {"api_base": f"{EVIL}/v1"}}, **SHUT),
    Door("user-config", says={"user_config": EVIL_GROUP}),
    Door("model-list", says={**EVIL_GROUP}, **SHUT),
    Door("fallback-to-a-host", says={"fallbacks": [EVIL_FALLBACK]}, **BROKEN),
    Door("override-to-a-host", says={"router_settings_override": {"fallbacks": [{GROUP: [EVIL_FALLBACK]}]}}, **BROKEN),
]  # fmt: skip

LANGSMITH = {"langsmith_api_key": "k", "langsmith_project": "p", "langsmith_base_url": SINK}
LOGGING = [{"callback_name": "langsmith", "callback_vars": LANGSMITH}]
CALLBACKS = {"success_callback": ["langsmith"], "callback_vars": LANGSMITH}


@dataclass(frozen=True)
class Egress:
    """A place beside the providers to which LiteLLM sends a prompt, named by a key or by the caller."""

    key: dict[str, Any] = field(default_factory=dict)
    says: dict[str, Any] = field(default_factory=dict)
    call: str = "chat"
    breaks: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = (INSIDE,)
    is_open_without_us: bool = True


BOTH_CALLBACKS = {"success_callback": ["langsmith"], "failure_callback": ["langsmith"]}
KEY_LOGGING = {"metadata": {"logging": LOGGING}}

EGRESSES = {
    "key-logging": Egress(KEY_LOGGING),
    "key-logging-of-a-refused-request": Egress(KEY_LOGGING, endpoints=("nowhere",)),
    "team-logging": Egress(team(logging=LOGGING)),
    "team-callbacks": Egress(team(callback_settings=CALLBACKS)),
    # LiteLLM refuses the whole request without an enterprise licence.
    "key-guardrail": Egress({"metadata": {"guardrails": ["scanner"]}}, **SHUT),
    "team-guardrail": Egress(team(guardrails=["scanner"]), **SHUT),
    "body-guardrail": Egress(says={"guardrails": ["scanner"]}),
    "body-metadata-guardrail": Egress(says={"metadata": {"guardrails": ["scanner"]}}),
    # `opik` needs no configuration at all: by default it sends to www.comet.com, without a key.
    **{
        f"body-success-callback-{call}": Egress(says={"success_callback": ["opik"]}, call=call)
        for call in CALLS
    },
    "body-failure-callback": Egress(says={"failure_callback": ["langsmith"]}, breaks=(INSIDE,)),
    "body-callbacks-of-a-refused-request": Egress(says=BOTH_CALLBACKS, endpoints=("nowhere",)),
    "body-callbacks-list": Egress(says={"callbacks": ["opik"], "service_callback": ["opik"]}, **SHUT),
}

ELSEWHERE = {**LANGSMITH, "langsmith_base_url": EVIL}
LOGGING_ELSEWHERE = [{"callback_name": "langsmith", "callback_vars": ELSEWHERE}]
LOGGING_HERE = [{"callback_name": "langsmith", "callback_vars": {"turn_off_message_logging": "false"}}]
# They name a callback that is cleared, and another host for it.
REDIRECTS = {
    "redirected-key": {"metadata": {"logging": LOGGING_ELSEWHERE}},
    "redirected-team": team(logging=LOGGING_ELSEWHERE),
    "redirected-team-callbacks": team(
        callback_settings={"success_callback": ["langsmith"], "callback_vars": ELSEWHERE}
    ),
}

KEYS = {
    "plain": {},
    "logging-here": {"metadata": {"logging": LOGGING_HERE}},
    **REDIRECTS,
    "first-tenant": {"team_id": "acme"},
    "same-tenant": {"team_id": "acme"},
    "other-tenant": {"team_id": "globex"},
    "look-alike": {"team_id": "Acme"},
    "empty-team": {"team_id": ""},
    "rate-limited": {"metadata": {"model_rpm_limit": {GROUP: 1}}, **settings(fallbacks=TO_CLAUDE)},
    "rate-limited-too": {"metadata": {"model_rpm_limit": {GROUP: 1}}, **settings(fallbacks=TO_CLAUDE)},
    "disabled-callbacks": {
        "metadata": {
            "litellm_disabled_callbacks": ["permit_router", "PermitRouter", "litellm_plugin.permit_router"]
        }
    },
    "cache-namespace": {"metadata": {"cache": {"namespace": "everybody"}}},
    **{door.name: door.key for door in KEY_DOORS},
    **{name: egress.key for name, egress in EGRESSES.items()},
}


@pytest.fixture(scope="module")
def shared_keyed():
    with KeyedFleet(keys=KEYS) as fleet:
        yield fleet.ready()


@pytest.fixture(scope="module")
def shared_keyed_inert():
    with KeyedFleet(keys=KEYS, env={"PERMIT_ROUTER_ENABLED": "false"}) as fleet:
        yield fleet.ready()


@pytest.fixture(scope="module")
def shared_tenants():
    with KeyedFleet(keys=KEYS, policy={"permit": {"tenant_is_team": True}}) as fleet:
        yield fleet.ready()


@pytest.fixture(scope="module")
def shared_cleared():
    """The operator logs to langsmith himself, and clears it for everything."""
    callbacks = {
        "callbacks": ["litellm_plugin.permit_router", "other_logger.logger"],
        "success_callback": ["langsmith"],
        "failure_callback": ["langsmith"],
    }
    policy = {"egress": {**POLICY["egress"], "langsmith": ["public", "internal", "phi"]}}
    with KeyedFleet(keys=KEYS, settings={"litellm_settings": callbacks}, policy=policy) as fleet:
        yield fleet.ready()


@pytest.fixture
def keyed(shared_keyed):
    shared_keyed.clear()
    yield shared_keyed
    assert shared_keyed.out_of_set(shared_keyed.evil) == []


@pytest.fixture
def keyed_inert(shared_keyed_inert):
    shared_keyed_inert.clear()
    return shared_keyed_inert


@pytest.fixture
def tenants(shared_tenants):
    shared_tenants.clear()
    yield shared_tenants
    assert shared_tenants.out_of_set(shared_tenants.evil) == []


def through(fleet, door, key):
    for name in door.breaks:
        fleet.providers[name].always(Fault.status(500))
    says = {"model": GROUP, **fleet.real(door.says)}
    return fleet.send("chat", [INSIDE], headers=key_header(key), **says)


def assert_shut(fleet, door, battery, table, key="plain"):
    answer = through(fleet, door, key)
    reached = door.status == 200 or door.reason == "chain_exhausted"
    battery.tried(f"{table}: {door.name}", answer, arrivals=fleet.arrivals(fleet.evil), expected=int(reached))

    assert fleet.out_of_set(fleet.evil) == []
    assert answer.status_code == door.status, answer.text
    if door.reason is not None:
        assert answer.json()["error"]["code"] == door.reason
    assert fleet.calls() == ({INSIDE: 1} if reached else {})


def is_open(fleet, door, battery, table, key="plain"):
    for _ in range(20):
        through(fleet, door, key)
        if fleet.out_of_set(fleet.evil):
            return True
    battery.shut_by_litellm(f"{table}: {door.name}")
    return False


@pytest.mark.parametrize("door", KEY_DOORS, ids=lambda door: door.name)
def test_a_key_leads_nowhere_else(keyed, door, battery):
    assert_shut(keyed, door, battery, "key", door.name)


@pytest.mark.parametrize("door", KEY_DOORS, ids=lambda door: door.name)
def test_without_the_plugin_a_key_leads_elsewhere(keyed_inert, door, battery):
    assert is_open(keyed_inert, door, battery, "key", door.name) == door.is_open_without_us


@pytest.mark.parametrize("door", STORED_DOORS, ids=lambda door: door.name)
def test_what_litellm_stores_leads_nowhere_else(keyed, door, battery):
    assert_shut(keyed, door, battery, "stored")


@pytest.mark.parametrize("door", STORED_DOORS, ids=lambda door: door.name)
def test_without_the_plugin_what_litellm_stores_leads_elsewhere(keyed_inert, door, battery):
    assert is_open(keyed_inert, door, battery, "stored") == door.is_open_without_us


class TestClientSideCredentials:
    """`allow_client_side_credentials` turned on after the start, past the self-check."""

    @pytest.fixture
    def opened(self, keyed):
        yield from self.with_the_switch_on(keyed)

    @pytest.fixture
    def opened_inert(self, keyed_inert):
        yield from self.with_the_switch_on(keyed_inert)

    def with_the_switch_on(self, fleet):
        fleet.client.get("/v1/models", headers=key_header("opens"))
        yield fleet
        fleet.client.get("/v1/models", headers=key_header("shuts"))

    @pytest.mark.parametrize("door", OPENED_DOORS, ids=lambda door: door.name)
    def test_a_callers_host_gets_nothing(self, opened, door, battery):
        assert_shut(opened, door, battery, "opened")

    @pytest.mark.parametrize("door", OPENED_DOORS, ids=lambda door: door.name)
    def test_without_the_plugin_a_callers_host_gets_the_prompt(self, opened_inert, door, battery):
        assert is_open(opened_inert, door, battery, "opened") == door.is_open_without_us
        if door.is_open_without_us:
            assert opened_inert.evil.calls


class TestServed:
    """What a permit names is served through these keys and stores: the rows above do not pass by refusing all."""

    @pytest.mark.parametrize(
        ("key", "says", "endpoint"),
        [
            pytest.param("alias", {}, "claude-eu", id="alias"),
            pytest.param("alias-to-deployment-id", {}, "us-b", id="alias-to-deployment-id"),
            pytest.param("team-alias", {}, "claude-eu", id="team-alias"),
            pytest.param("settings-alias", {}, "claude-us", id="settings-alias"),
            pytest.param("team-deployment", {}, "us-a", id="team-deployment"),
            pytest.param("team-deployment", {"model": "team-gpt"}, "us-b", id="team-model-name"),
            pytest.param("plain", {"model": "by-credential"}, "eu-b", id="stored-credential"),
        ],
    )
    def test_an_endpoint_of_the_permit_serves(self, keyed, key, says, endpoint):
        answer = keyed.send("chat", [endpoint], headers=key_header(key), **{"model": GROUP, **says})

        assert answer.status_code == 200, answer.text
        assert keyed.calls() == {endpoint: 1}

    def test_a_teams_deployment_serves_a_permit_that_names_the_groups_too(self, keyed):
        answer = keyed.send("chat", [INSIDE, "us-a"], model=GROUP, headers=key_header("team-deployment"))

        assert answer.status_code == 200, answer.text
        assert keyed.calls() == {"us-a": 1}


class TestRateLimitedKey:
    """LiteLLM falls back from its own rate limit before any call, by starting its pre-call work again."""

    def second(self, fleet, key, endpoints):
        for _ in range(2):
            answer = fleet.send("chat", endpoints, model=GROUP, headers=key_header(key))
        return answer

    def test_the_fallback_outside_the_set_is_not_called(self, keyed):
        answer = self.second(keyed, "rate-limited", [INSIDE])

        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable"), answer.text
        assert keyed.calls() == {INSIDE: 1}

    def test_the_fallback_inside_the_set_serves(self, keyed):
        answer = self.second(keyed, "rate-limited-too", [INSIDE, "claude-eu"])

        assert answer.status_code == 200, answer.text
        assert keyed.calls() == {INSIDE: 1, "claude-eu": 1}

    def test_without_the_plugin_the_fallback_is_called(self, keyed_inert):
        self.second(keyed_inert, "rate-limited", [INSIDE])

        assert keyed_inert.out_of_set() != []


class TestCacheOfAKey:
    """A key whose metadata names the cache's namespace shares no answer between tenants."""

    def ask(self, fleet, prompt, endpoint, tenant):
        body = {"model": "gpt", "messages": [{"role": "user", "content": prompt}]}
        raw = json.dumps(body).encode()
        token = fleet.issuer.mint([endpoint], body=raw, tenant=tenant)
        return fleet.post(PATHS["chat"], raw, {"x-llm-permit": token, **key_header("cache-namespace")}).text

    def prompt(self, fleet):
        mark, _ = fleet.body("chat")
        fleet.ledger.allow(mark, ["eu-a", "us-a"])
        return f"cached question {mark}"

    def test_another_tenant_gets_its_own_answer(self, keyed):
        prompt = self.prompt(keyed)
        assert "answer from eu-a" in self.ask(keyed, prompt, "eu-a", "acme")
        assert "answer from us-a" in self.ask(keyed, prompt, "us-a", "globex")
        assert keyed.calls() == {"eu-a": 1, "us-a": 1}

    def test_without_the_plugin_another_tenant_gets_the_cached_answer(self, keyed_inert):
        prompt = self.prompt(keyed_inert)
        for tenant in ("acme", "globex"):
            self.ask(keyed_inert, prompt, "eu-a", tenant)
        assert sum(keyed_inert.calls().values()) == 1


class Sent:
    """Marked requests by name, and when the last of them was answered."""

    def __init__(self, marks):
        self.marks = marks
        self.answered_s = time.monotonic()

    def arrived(self, provider, name, within_s):
        """Whether a request's marker arrives at this place in so many seconds after the answers."""
        mark = self.marks[name].encode()
        while True:
            is_over = time.monotonic() > self.answered_s + within_s
            if any(mark in each.body for each in provider.requests):
                return True
            if is_over:
                return False
            time.sleep(0.1)


def send_for(fleet, name):
    """Sends a marked request for one of the places and gives its marker."""
    egress = EGRESSES[name]
    for broken in egress.breaks:
        fleet.providers[broken].always(Fault.status(500))
    mark, body = fleet.body(egress.call, model=GROUP, **egress.says)
    fleet.ledger.allow(mark, egress.endpoints)
    raw = json.dumps(body).encode()
    token = fleet.issuer.mint(egress.endpoints, body=raw)
    fleet.post(PATHS[egress.call], raw, {"x-llm-permit": token, **key_header(name)})
    for broken in egress.breaks:
        fleet.providers[broken].always(None)
    return mark


@pytest.fixture(scope="module")
def sent(shared_keyed):
    """A request for each place: their loggers' queues empty side by side."""
    shared_keyed.clear()
    sent = Sent({name: send_for(shared_keyed, name) for name in EGRESSES})
    assert shared_keyed.out_of_set(shared_keyed.evil) == []
    return sent


@pytest.fixture(scope="module")
def sent_without_the_plugin(shared_keyed_inert):
    shared_keyed_inert.clear()
    return Sent({name: send_for(shared_keyed_inert, name) for name in EGRESSES})


class TestEgress:
    """Places beside the providers: a key's own logging destination, and what a body names by itself."""

    @pytest.mark.parametrize("name", EGRESSES)
    def test_only_the_permits_endpoints_get_the_prompt(self, sent, keyed, name):
        assert not sent.arrived(keyed.sink, name, within_s=3)

    @pytest.mark.parametrize("name", EGRESSES)
    def test_without_the_plugin_the_prompt_leaves(self, sent_without_the_plugin, keyed_inert, name):
        is_open = EGRESSES[name].is_open_without_us
        within_s = 45 if is_open else 3
        assert sent_without_the_plugin.arrived(keyed_inert.sink, name, within_s=within_s) == is_open


# How a request ends, by its endpoints and what else it says.
ENDS = {
    "served": ((INSIDE,), {}),
    "refused": (("nowhere",), {}),
    "misshapen": ((INSIDE,), {"response_format": "misshapen"}),
}


def send_to_end(fleet, key, end="served"):
    """Sends a marked request with one of the keys and gives its marker."""
    endpoints, extra = ENDS[end]
    mark, body = fleet.body("chat", model=GROUP, **extra)
    fleet.ledger.allow(mark, endpoints)
    raw = json.dumps(body).encode()
    token = fleet.issuer.mint(endpoints, body=raw)
    fleet.post(PATHS["chat"], raw, {"x-llm-permit": token, **key_header(key)})
    return mark


@pytest.fixture(scope="module")
def redirected(shared_cleared):
    """A request for each row; what arrives stays recorded until the last test looked."""
    rows = itertools.product(REDIRECTS, ENDS)
    return Sent({(key, end): send_to_end(shared_cleared, key, end) for key, end in rows})


class TestRedirectedLogging:
    """`egress` clears a callback where the operator's environment sends it, and nowhere else."""

    def told(self, fleet, provider, key):
        """Sends a marked request and says whether the marker arrived at this place."""
        return Sent({key: send_to_end(fleet, key)}).arrived(provider, key, within_s=3)

    @pytest.mark.parametrize("key", REDIRECTS)
    @pytest.mark.parametrize("end", ENDS)
    def test_the_keys_host_gets_nothing(self, shared_cleared, redirected, key, end):
        assert not redirected.arrived(shared_cleared.evil, (key, end), within_s=3)

    def test_the_operators_host_is_told_as_it_is_without_a_key(self, shared_cleared):
        assert self.told(shared_cleared, shared_cleared.sink, "redirected-key")

    def test_a_key_may_name_a_cleared_callback_without_a_host(self, shared_cleared):
        assert self.told(shared_cleared, shared_cleared.sink, "logging-here")

    @pytest.mark.parametrize("key", REDIRECTS)
    def test_without_the_plugin_the_keys_host_is_told(self, keyed_inert, key):
        assert self.told(keyed_inert, keyed_inert.evil, key)


def test_a_key_that_disables_callbacks_does_not_disable_the_records(keyed):
    answer = keyed.send("chat", [INSIDE], model=GROUP, headers=key_header("disabled-callbacks"))

    assert answer.status_code == 200, answer.text
    deadline = time.monotonic() + 45
    kinds: list[str] = []
    while len(kinds) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        request_id = answer.headers["x-permit-request-id"]
        kinds = [each["type"] for each in keyed.records() if each["request_id"] == request_id]
    assert kinds == ["decision", "attempt"]


class TestTenants:
    """`tenant_is_team`: the permit's tenant is the team of the LiteLLM key in use."""

    def records_of(self, fleet, answer):
        request_id = answer.headers["x-permit-request-id"]
        return [each for each in fleet.records() if each["request_id"] == request_id]

    @pytest.mark.parametrize(
        ("tenant", "key", "says"),
        [
            pytest.param("globex", "first-tenant", {}, id="R65-tenant-is-not-the-keys-team"),
            pytest.param("acme", "other-tenant", {}, id="R72-permit-of-one-tenant-key-of-another"),
            pytest.param("acme", "plain", {}, id="R65-key-without-a-team"),
            pytest.param("acme", "empty-team", {}, id="R65-key-with-an-empty-team"),
            pytest.param("acme", "look-alike", {}, id="R65-team-in-other-case"),
            pytest.param("acme", None, {}, id="R65-master-key"),
            pytest.param(
                "globex",
                "first-tenant",
                {"metadata": {"user_api_key_team_id": "globex", "team_id": "globex"}},
                id="R65-team-claimed-by-the-body",
            ),
        ],
    )
    def test_another_tenants_permit_is_refused(self, tenants, tenant, key, says):
        headers = key_header(key) if key else {}

        answer = tenants.send("chat", ["eu-a"], headers=headers, permit={"tenant": tenant}, **says)

        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "claim_mismatch"), answer.text
        assert tenants.calls() == {}
        (record,) = self.records_of(tenants, answer)
        assert (record["outcome"], record["reason"]) == ("denied", "claim_mismatch")

    @pytest.mark.parametrize(
        ("call", "stream"),
        [
            pytest.param(call, stream, id=f"R65-{call}-{'stream' if stream else 'whole'}")
            for call in CALLS
            for stream in ((False, True) if call in STREAMING else (False,))
        ],
    )
    def test_every_call_type_holds_the_tenant(self, tenants, call, stream):
        endpoint = "claude-eu" if call == "messages" else "eu-a"
        shape = {"stream": True} if stream else {}

        refused = tenants.send(
            call, [endpoint], headers=key_header("other-tenant"), permit={"tenant": "acme"}, **shape
        )
        served = tenants.send(
            call, [endpoint], headers=key_header("first-tenant"), permit={"tenant": "acme"}, **shape
        )

        assert (refused.status_code, refused.headers["x-permit-reason"]) == (403, "claim_mismatch")
        assert served.status_code == 200, served.text
        assert tenants.calls() == {endpoint: 1}

    @pytest.mark.parametrize(
        ("key", "status"),
        [
            pytest.param("first-tenant", 200, id="R72-the-key-of-the-permit"),
            pytest.param("same-tenant", 403, id="R72-another-key-of-the-same-team"),
            pytest.param("other-tenant", 403, id="R72-a-key-of-another-team"),
        ],
    )
    def test_a_permit_for_one_key_serves_no_other(self, tenants, key, status):
        bound = hashlib.sha256(key_text("first-tenant").encode()).hexdigest()

        answer = self.only_key(tenants, key, tenant="acme", api_key_hash=bound)

        assert answer.status_code == status, answer.text
        if status == 200:
            assert tenants.calls() == {"eu-a": 1}
        else:
            assert answer.json()["error"]["code"] == "claim_mismatch"
            assert tenants.calls() == {}

    def only_key(self, fleet, key, **claims):
        """Sends the key as an OpenAI client does; beside the master key it would be one of two."""
        mark, body = fleet.body("chat")
        fleet.ledger.allow(mark, ["eu-a"])
        raw = json.dumps(body).encode()
        token = fleet.issuer.mint(["eu-a"], body=raw, **claims)
        headers = {
            "authorization": f"Bearer {key_text(key)}",
            "content-type": "application/json",
            "x-llm-permit": token,
        }
        return fleet.client.post(PATHS["chat"], content=raw, headers=headers)
