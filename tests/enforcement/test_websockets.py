"""Websockets through a real proxy: one permit a socket, every frame judged, nothing outside the set."""

from __future__ import annotations

import json
import time

import openai
import pytest
from fleet import Fleet
from redis import Redis
from sockets import PATHS, allowed, create, frames, opened, record
from websockets.exceptions import InvalidStatus
from websockets.protocol import State

from litellm_plugin.testing import Fault, marker

pytestmark = pytest.mark.proxy

KINDS = ("responses", "realtime")
ALL = ("eu-a", "eu-b", "us-a", "us-b")
# Long enough for a socket's first answer on a loaded machine.
LIFETIME_S = 10
OTHER_PATHS = ("/vertex_ai/live?model=gpt", "/openai/realtime?model=gpt", "/openai_passthrough/v1/realtime")


@pytest.fixture(scope="module")
def own_fleet(valkey):
    """Permits that bind no body, so that a socket may be used until they expire or are revoked."""
    policy = {"permit": {"binding": "none", "leeway_seconds": 0}}
    with Fleet(policy=policy, env={"PERMIT_ROUTER_REDIS_URL": valkey.url}) as fleet:
        yield fleet.ready()


@pytest.fixture(scope="module")
def single_use_fleet():
    with Fleet(policy={"permit": {"binding": "single_use"}}) as fleet:
        yield fleet.ready()


@pytest.fixture
def free(own_fleet):
    own_fleet.clear()
    yield own_fleet
    assert own_fleet.out_of_set() == []


@pytest.fixture
def single_use(single_use_fleet):
    single_use_fleet.clear()
    yield single_use_fleet
    assert single_use_fleet.out_of_set() == []


def handshakes(fleet):
    return {name: each.handshakes for name, each in fleet.providers.items() if each.handshakes}


def refused_at_handshake(fleet, kind, permit, **how):
    with pytest.raises(InvalidStatus) as caught, opened(fleet, kind, permit, **how):
        pytest.fail("the handshake was accepted")
    return caught.value.response.status_code


@pytest.mark.parametrize("kind", KINDS)
class TestBoth:
    def test_frames_reach_the_authorized_endpoint_alone(self, free, kind):
        mark = allowed(free, "eu-a")
        with opened(free, kind, free.issuer.mint(["eu-a"])) as client:
            for _ in range(2):
                client.create(mark)
                assert client.answer()[-1]["response"]["status"] == "completed"
        assert frames(free) == [("eu-a", "response.create")] * 2
        assert handshakes(free) == {"eu-a": 1}

    def test_the_cheapest_authorized_endpoint_is_chosen(self, free, kind):
        mark = allowed(free, "eu-a", "us-a")
        with opened(free, kind, free.issuer.mint(["eu-a", "us-a"])) as client:
            client.create(mark)
            client.answer()
        assert frames(free) == [("us-a", "response.create")]

    def test_the_permit_reaches_no_provider(self, free, kind):
        mark = allowed(free, "eu-a")
        with opened(free, kind, free.issuer.mint(["eu-a"])) as client:
            client.create(mark)
            client.answer()
        (request,) = free.providers["eu-a"].requests
        assert not [name for name in request.headers if "permit" in name]
        assert b"eyJ" not in request.body

    def test_the_decision_and_the_attempt_are_recorded(self, free, kind):
        mark = allowed(free, "eu-a")
        with opened(free, kind, free.issuer.mint(["eu-a"], request_id=f"req-{mark}")) as client:
            client.create(mark)
            client.answer()
        attempt = record(free, lambda r: r["type"] == "attempt" and r["request_id"] == f"req-{mark}")
        assert (attempt["endpoint"], attempt["status"]) == ("eu-a", "success")
        # LiteLLM 1.101 counts no tokens on a Responses socket.
        assert kind == "responses" or attempt["output_tokens"] > 0
        decision = record(
            free, lambda r: r["decision_id"] == attempt["decision_id"] and r["type"] == "decision"
        )
        assert (decision["outcome"], decision["method"], decision["requested_model"]) == (
            "routed",
            "WEBSOCKET",
            "gpt",
        )

    def test_without_a_permit_the_handshake_is_refused(self, free, kind):
        assert refused_at_handshake(free, kind, None) == 403
        assert handshakes(free) == {}

    def test_with_an_expired_permit_the_handshake_is_refused(self, free, kind):
        now = int(time.time())
        permit = free.issuer.mint(["eu-a"], iat=now - 100, exp=now - 50)
        assert refused_at_handshake(free, kind, permit) == 403
        wanted = (PATHS[kind], "expired", None)
        record(free, lambda r: (r.get("path"), r.get("reason"), r["request_id"]) == wanted)
        assert handshakes(free) == {}

    def test_a_model_named_twice_is_refused(self, free, kind):
        permit = free.issuer.mint(["eu-a"])
        assert refused_at_handshake(free, kind, permit, query="?model=gpt&model=gpt") == 403
        assert handshakes(free) == {}

    def test_a_group_without_an_authorized_endpoint_closes_with_4403(self, free, kind):
        with opened(free, kind, free.issuer.mint(["claude-eu"]), query="?model=gpt") as client:
            client.create(allowed(free))
            assert client.close_code() == (4403, "not_authorized")
        assert (frames(free), handshakes(free)) == ([], {})

    def test_a_model_that_the_permit_does_not_name_closes_with_4403(self, free, kind):
        with opened(free, kind, free.issuer.mint(["eu-a"], models=["claude"])) as client:
            client.create(allowed(free))
            assert client.close_code() == (4403, "claim_mismatch")
        assert handshakes(free) == {}

    def test_the_id_of_another_deployment_closes_with_4403(self, free, kind):
        with opened(free, kind, free.issuer.mint(["eu-a"]), query="?model=us-a-1") as client:
            client.create(allowed(free), **({"model": "us-a-1"} if kind == "responses" else {}))
            assert client.close_code() == (4403, "not_authorized")
        assert handshakes(free) == {}

    def test_after_expiry_the_next_response_closes_with_4401(self, free, kind):
        mark, late = allowed(free, "eu-a"), allowed(free)
        expires = int(time.time()) + LIFETIME_S
        with opened(free, kind, free.issuer.mint(["eu-a"], exp=expires)) as client:
            client.create(mark)
            client.answer()
            time.sleep(max(0.0, expires - time.time()) + 0.5)
            client.create(late)
            assert client.close_code() == (4401, "expired")
        assert frames(free) == [("eu-a", "response.create")]

    def test_after_revocation_a_next_response_closes_with_4401(self, free, valkey, kind):
        mark, jti = allowed(free, "eu-a"), marker()
        with opened(free, kind, free.issuer.mint(["eu-a"], jti=jti)) as client:
            client.create(mark)
            client.answer()
            with Redis.from_url(valkey.url) as redis:
                redis.zadd("permit-router:revoked:jti", {jti: int(time.time()) + 3600})
            deadline_s = time.monotonic() + 60
            while client.socket.state is State.OPEN and time.monotonic() < deadline_s:
                time.sleep(0.5)
                client.create(mark)
            assert client.close_code() == (4401, "revoked")

    def test_another_model_in_a_frame_closes_with_4403(self, free, kind):
        mark, other = allowed(free, "eu-a"), allowed(free)
        with opened(free, kind, free.issuer.mint(["eu-a"])) as client:
            client.create(mark)
            client.answer()
            client.create(other, model="eu-only")
            assert client.close_code() == (4403, "body_invalid")
        assert frames(free) == [("eu-a", "response.create")]

    def test_tools_that_send_the_prompt_elsewhere_close_with_4403(self, free, kind):
        tools = [{"type": "mcp", "server_label": "x", "server_url": free.urls["us-b"]}]
        with opened(free, kind, free.issuer.mint(["eu-a"])) as client:
            client.create(allowed(free), tools=tools)
            assert client.close_code() == (4403, "body_invalid")
        assert frames(free) == []

    def test_fields_that_steer_do_not_reach_the_provider(self, free, kind):
        mark = allowed(free, "eu-a")
        with opened(free, kind, free.issuer.mint(["eu-a"])) as client:
            client.create(mark, api_base=free.urls["us-b"], fallbacks=["claude"], foo=1)
            client.answer()
        (request,) = free.providers["eu-a"].requests
        assert not any(name in request.body for name in (b"api_base", b"fallbacks", b"foo"))

    def test_a_provider_that_refuses_the_handshake_ends_the_socket(self, free, kind):
        for name in ("eu-a", "eu-b"):
            free.providers[name].always(Fault.status(500))
        request_id = f"req-{marker()}"
        with opened(free, kind, free.issuer.mint(["eu-a", "eu-b"], request_id=request_id)) as client:
            client.create(allowed(free, "eu-a", "eu-b")) if kind == "responses" else None
            assert client.close_code() == (4503, "unavailable")
        attempt = record(free, lambda r: r["type"] == "attempt" and r["request_id"] == request_id)
        assert attempt["status"] not in {"success", "abandoned"}

    def test_a_handshakes_redirect_carries_no_session_to_another_host(self, free, kind):
        free.providers["eu-a"].always(Fault.redirect(free.urls["us-a"]))
        with opened(free, kind, free.issuer.mint(["eu-a"])) as client:
            client.create(allowed(free, "eu-a")) if kind == "responses" else None
            assert client.close_code() == (4503, "chain_exhausted")
        assert handshakes(free) == {"eu-a": 1}
        assert frames(free) == []

    def test_without_the_plugin_a_redirect_carries_it_there(self, inert_fleet, kind):
        for name in ALL:
            if name != "us-a":
                inert_fleet.providers[name].always(Fault.redirect(inert_fleet.urls["us-a"]))
        with opened(inert_fleet, kind, None) as client:
            client.create(allowed(inert_fleet, "eu-a"))
            client.answer()
        assert {name for name, _ in frames(inert_fleet)} == {"us-a"}

    def test_without_the_plugin_the_same_socket_leaves_the_set(self, inert_fleet, kind):
        """The control: nothing but the plugin keeps these frames inside."""
        for _ in range(20):
            mark = allowed(inert_fleet, "eu-a")
            with opened(inert_fleet, kind, None) as client:
                client.create(mark)
                client.answer()
            if inert_fleet.out_of_set():
                return
        pytest.fail("20 sockets and none left the permit's set although nothing is enforced")


@pytest.mark.parametrize("kind", KINDS)
class TestBound:
    """The shared fleet binds bodies."""

    def test_the_bound_frame_is_answered_once(self, fleet, kind):
        mark = allowed(fleet, "eu-a")
        frame = json.dumps(create(kind, mark))
        with opened(fleet, kind, fleet.issuer.mint(["eu-a"], body=frame.encode())) as client:
            client.say(frame)
            assert client.answer()[-1]["response"]["status"] == "completed"
            client.say(frame)
            assert client.close_code() == (4401, "binding_mismatch")
        assert frames(fleet) == [("eu-a", "response.create")]

    def test_another_frame_reaches_nobody(self, fleet, kind):
        with opened(fleet, kind, fleet.issuer.mint(["eu-a"], body=b"{}")) as client:
            client.create(allowed(fleet))
            assert client.close_code() == (4401, "binding_mismatch")
        assert frames(fleet) == []

    def test_a_permit_without_a_body_is_refused(self, fleet, kind):
        assert refused_at_handshake(fleet, kind, fleet.issuer.mint(["eu-a"])) == 403


@pytest.mark.parametrize("kind", KINDS)
class TestSingleUse:
    def test_a_socket_gives_one_response(self, single_use, kind):
        mark, again = allowed(single_use, "eu-a"), allowed(single_use)
        with opened(single_use, kind, single_use.issuer.mint(["eu-a"])) as client:
            client.create(mark)
            client.answer()
            client.create(again)
            assert client.close_code() == (4401, "replayed")
        assert frames(single_use) == [("eu-a", "response.create")]

    def test_a_permit_is_good_for_one_socket(self, single_use, kind):
        mark = allowed(single_use, "eu-a")
        permit = single_use.issuer.mint(["eu-a"])
        with opened(single_use, kind, permit) as client:
            client.create(mark)
            client.answer()
        with opened(single_use, kind, permit) as client:
            client.create(mark)
            assert client.close_code() == (4401, "replayed")
        assert frames(single_use) == [("eu-a", "response.create")]


class TestRealtime:
    def test_after_expiry_nothing_is_said_any_more(self, free):
        mark = allowed(free, "eu-a")
        content = [{"type": "input_text", "text": mark}]
        item = {
            "type": "conversation.item.create",
            "item": {"type": "message", "role": "user", "content": content},
        }
        expires = int(time.time()) + LIFETIME_S
        with opened(free, "realtime", free.issuer.mint(["eu-a"], exp=expires)) as client:
            client.say(item)
            time.sleep(max(0.0, expires - time.time()) + 0.5)
            client.say(item)
            assert client.close_code() == (4401, "expired")
        assert frames(free) == [("eu-a", "conversation.item.create")]

    @pytest.mark.parametrize("path", ["/realtime", "/openai/v1/realtime"])
    def test_the_other_paths_are_governed_too(self, free, path):
        mark = allowed(free, "eu-a")
        with opened(free, "realtime", free.issuer.mint(["eu-a"]), path=path) as client:
            client.create(mark)
            client.answer()
        assert frames(free) == [("eu-a", "response.create")]

    def test_the_official_client_works(self, free):
        mark = allowed(free, "eu-a")
        client = openai.OpenAI(
            api_key=free.proxy.master_key,
            websocket_base_url=free.proxy.url.replace("http://", "ws://") + "/v1",
        )
        headers = {"x-llm-permit": free.issuer.mint(["eu-a"])}
        with client.realtime.connect(model="gpt", extra_headers=headers) as connection:
            content = [{"type": "input_text", "text": mark}]
            connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
            connection.response.create(response={"instructions": mark})
            text = next(event.text for event in connection if event.type == "response.output_text.done")
        assert text == "answer from eu-a"
        assert frames(free) == [("eu-a", "conversation.item.create"), ("eu-a", "response.create")]


class TestResponses:
    def test_the_short_path_is_governed_too(self, free):
        mark = allowed(free, "eu-a")
        with opened(free, "responses", free.issuer.mint(["eu-a"]), path="/responses") as client:
            client.create(mark)
            client.answer()
        assert frames(free) == [("eu-a", "response.create")]

    def test_a_provider_without_sockets_is_called_for_each_response(self, free):
        """LiteLLM speaks HTTP to it; each response is an attempt of its own."""
        mark = allowed(free, "claude-eu")
        with opened(free, "responses", free.issuer.mint(["claude-eu"])) as client:
            for _ in range(5):
                client.create(mark, model="claude")
                client.answer()
        assert free.calls() == {"claude-eu": 5}

    def test_the_last_response_may_be_built_on(self, free):
        mark = allowed(free, "eu-a")
        with opened(free, "responses", free.issuer.mint(["eu-a"])) as client:
            client.create(mark)
            made = client.answer()[-1]["response"]["id"]
            client.create(mark, previous_response_id=made)
            client.answer()
        with opened(free, "responses", free.issuer.mint(["eu-a"])) as client:
            client.create(allowed(free), previous_response_id=made)
            assert client.close_code() == (4403, "body_invalid")
        assert frames(free) == [("eu-a", "response.create")] * 2


def test_other_websockets_are_refused(free):
    for path in OTHER_PATHS:
        assert refused_at_handshake(free, "responses", free.issuer.mint(["eu-a"]), path=path) == 403
    assert handshakes(free) == {}
