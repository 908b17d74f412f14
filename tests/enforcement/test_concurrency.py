"""Many requests at once, under permits that differ: whatever fails, hangs or leaves, nothing of one reaches another.

One crowd goes through one proxy: five call types, a third of them streamed, every permit another subset of the
endpoints, providers that fail, refuse and hang by a seeded plan, and clients that leave. What the crowd left
behind is then looked at from several sides.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
import pytest
from fleet import ANTHROPIC_ENDPOINTS, OPENAI_ENDPOINTS, PATHS, STREAMING, Fleet

from litellm_plugin.testing import Fault

pytestmark = pytest.mark.proxy

REQUESTS = 2_000
IN_FLIGHT = 100
SEED = 20_251
# Long enough that a busy machine does not take a whole answer for a hanging one.
GIVE_UP_S = 5
FAULTS = {Fault.status(500): 0.10, Fault.status(429): 0.05, Fault.hang(GIVE_UP_S + 2): 0.05}
CALL_WEIGHTS = {"chat": 6, "completions": 1, "embeddings": 1, "messages": 3, "responses": 1}
STREAMED, LEAVING = 1 / 3, 0.05
MARKER = re.compile(rb"marker-[0-9a-f]{32}")


class CrowdedFleet(Fleet):
    """LiteLLM gives a hanging provider up, and each answer tells whom it came from and for whom it is."""

    def config(self):
        config = super().config()
        for entry in config["model_list"]:
            entry["litellm_params"]["timeout"] = entry["litellm_params"]["stream_timeout"] = GIVE_UP_S
        for number, provider in enumerate(self.providers.values()):
            plan = random.Random(SEED + number)  # noqa: S311 - a test's plan
            chances = [*FAULTS.values(), 1 - sum(FAULTS.values())]
            provider.fail(*plan.choices([*FAULTS, None], chances, k=REQUESTS))
            provider.answer = telling(provider.name)
        return config


def telling(name):
    def answer(payload):
        return f"{name} answers {MARKER.search(json.dumps(payload).encode())[0].decode()}"

    return answer


@dataclass
class Visit:
    """One request of the crowd, and what came of it."""

    number: int
    call: str
    endpoints: list[str]
    is_stream: bool
    leaves: bool
    marker: str = ""
    status: int | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    text: str = ""

    @property
    def request_id(self):
        return f"crowd-{self.number}"


def crowd():
    """Visits by a seeded plan; every subset of the endpoints is named by some permit."""
    plan = random.Random(SEED)  # noqa: S311 - a test's plan
    calls = plan.choices(list(CALL_WEIGHTS), list(CALL_WEIGHTS.values()), k=REQUESTS)
    sets = {group: itertools.cycle(subsets(group)) for group in (OPENAI_ENDPOINTS, ANTHROPIC_ENDPOINTS)}
    for number, call in enumerate(calls):
        yield Visit(
            number=number,
            call=call,
            endpoints=next(sets[ANTHROPIC_ENDPOINTS if call == "messages" else OPENAI_ENDPOINTS]),
            is_stream=call in STREAMING and plan.random() < STREAMED,
            leaves=plan.random() < LEAVING,
        )


def subsets(group):
    sizes = range(1, len(group) + 1)
    return [list(each) for size in sizes for each in itertools.combinations(group, size)]


async def go(client, fleet, visit, gate):
    """Sends one request; a client that leaves does so at the first byte, or before the answer began."""
    visit.marker, body = fleet.body(visit.call, **({"stream": True} if visit.is_stream else {}))
    fleet.ledger.allow(visit.marker, visit.endpoints)
    raw = json.dumps(body).encode()
    async with gate:
        token = fleet.issuer.mint(visit.endpoints, body=raw, request_id=visit.request_id)
        headers = {"x-llm-permit": token, "authorization": f"Bearer {fleet.proxy.master_key}"}
        headers["content-type"] = "application/json"
        timeout_s = 0.5 if visit.leaves and not visit.is_stream else 180
        try:
            async with (
                asyncio.timeout(timeout_s),
                client.stream("POST", PATHS[visit.call], content=raw, headers=headers) as answer,
            ):
                visit.headers = answer.headers
                visit.status = answer.status_code
                if not visit.leaves:
                    visit.text = (await answer.aread()).decode()
        except TimeoutError:
            assert visit.leaves, f"{visit.request_id} got no answer"


async def send(fleet, visits):
    gate = asyncio.Semaphore(IN_FLIGHT)
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=fleet.proxy.url, timeout=180, trust_env=False, limits=limits) as client,
        asyncio.timeout(900),
        asyncio.TaskGroup() as group,
    ):
        for visit in visits:
            group.create_task(go(client, fleet, visit, gate))


@dataclass
class Aftermath:
    """What the crowd left: its own visits, the arrivals, the records, the proxy's count."""

    fleet: Fleet
    visits: list[Visit]
    admitted: int

    @property
    def answered(self):
        return [visit for visit in self.visits if visit.status is not None and not visit.leaves]

    def arrivals(self):
        return [each for provider in self.fleet.providers.values() for each in provider.requests]

    def of_crowd(self, kind):
        return [
            record
            for record in self.fleet.records()
            if record["type"] == kind and str(record["request_id"]).startswith("crowd-")
        ]

    def reached(self):
        """The endpoints that each request reached, by its id."""
        by_marker = self.fleet.ledger.judge(self.fleet.providers.values()).by_marker
        return {visit.request_id: by_marker.get(visit.marker, []) for visit in self.visits}

    def recorded(self, *, ended=None):
        """The endpoints of each request's attempts, by its id: of all, or of those that ended in one of these ways."""
        found = {visit.request_id: [] for visit in self.visits}
        for record in self.of_crowd("attempt"):
            if ended is None or record["status"] in ended:
                found[record["request_id"]].append(record["endpoint"])
        return found

    def unrecorded(self):
        """The arrivals that no attempt's record tells of."""
        return beyond(self.reached(), self.recorded())


def beyond(more, less):
    """What of each request's endpoints is in one table only."""
    differ = {name: Counter(endpoints) - Counter(less[name]) for name, endpoints in more.items()}
    return {name: list(left) for name, left in differ.items() if left}


@pytest.fixture(scope="module")
def aftermath():
    with CrowdedFleet(algorithm="ES256") as fleet:
        fleet.ready()
        before = fleet.health()["requests"]["admitted"]
        visits = list(crowd())
        asyncio.run(send(fleet, visits))
        visits += latecomers(fleet, len(visits))
        left = Aftermath(fleet, visits, fleet.health()["requests"]["admitted"] - before)
        settle(left)
        yield left


def latecomers(fleet, first):
    """Visits that leave a slow Responses stream at its first byte, one by one.

    LiteLLM reports any other call that its client left as the provider's success; in the crowd a stream may be sent
    whole before its client leaves.
    """
    for provider in fleet.providers.values():
        provider.always(None)  # what is left of the crowd's plan would go first
        provider.always(Fault.drip(2.0))
    late = [Visit(first + number, "responses", ["us-b"], is_stream=True, leaves=True) for number in range(3)]
    for visit in late:
        asyncio.run(send(fleet, [visit]))
    for provider in fleet.providers.values():
        provider.always(None)
    return late


def settle(left):
    """Waits until every arrival has its attempt's record; LiteLLM tells the ends of attempts late."""
    deadline_s = time.monotonic() + 45
    while left.unrecorded() and time.monotonic() < deadline_s:
        time.sleep(0.5)


def said(visit):
    """The answer's text, put together from a stream's events."""
    if not visit.is_stream:
        return whole(json.loads(visit.text))
    lines = (line.removeprefix("data: ") for line in visit.text.splitlines() if line.startswith("data: "))
    return "".join(piece(json.loads(line)) for line in lines if line != "[DONE]")


def whole(document):
    match document:
        case {"choices": [{"message": {"content": text}}]} | {"choices": [{"text": text}]}:
            return text
        case {"content": [{"text": text}]} | {"output": [{"content": [{"text": text}]}]}:
            return text
    return ""


def piece(event):
    match event:
        case {"choices": [{"delta": {"content": str(text)}}]} | {"choices": [{"text": str(text)}]}:
            return text
        case {"type": "response.output_text.delta", "delta": text}:
            return text
        case {"type": "content_block_delta", "delta": {"text": text}}:
            return text
    return ""


def test_nothing_arrives_outside_its_set(aftermath):
    assert aftermath.fleet.out_of_set() == []
    assert len(aftermath.arrivals()) > REQUESTS


def test_every_arrival_carries_one_request_only(aftermath):
    marks = [set(MARKER.findall(each.body)) for each in aftermath.arrivals() if each.method == "POST"]
    assert {len(each) for each in marks} == {1}


def test_every_fault_was_met(aftermath):
    """The crowd did meet what it was made for."""
    statuses = {record["status"] for record in aftermath.of_crowd("attempt")}
    assert {"success", "server_error", "rate_limited", "timeout", "abandoned"} <= statuses
    assert sum(visit.is_stream for visit in aftermath.visits) > REQUESTS / 4
    assert sum(visit.leaves for visit in aftermath.visits) > REQUESTS / 40


def test_every_answer_is_an_answer_or_an_outage_inside_the_set(aftermath):
    ends = {visit.status: visit for visit in aftermath.answered}
    assert set(ends) == {200, 503}, [(status, visit.text[:300]) for status, visit in ends.items()]
    assert sum(visit.status == 200 for visit in aftermath.answered) > len(aftermath.answered) * 0.8
    reasons = {v.headers["x-permit-reason"] for v in aftermath.answered if v.status == 503}
    assert reasons <= {"chain_exhausted", "unavailable"}


def test_a_streamed_text_completion_that_hangs_is_503(aftermath):
    """LiteLLM opens it after its retry loop is over, and tells its timeout by an answer of its own, 408."""
    fleet = aftermath.fleet
    fleet.providers["us-b"].always(None)  # what is left of the crowd's plan would go first
    fleet.providers["us-b"].always(Fault.hang(GIVE_UP_S + 2))
    try:
        answer = fleet.send("completions", ["us-b"], stream=True)
    finally:
        fleet.providers["us-b"].always(None)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chain_exhausted"), answer.text


def test_every_answer_carries_its_own_request_id(aftermath):
    wrong = [
        visit for visit in aftermath.answered if visit.headers["x-permit-request-id"] != visit.request_id
    ]
    assert wrong == []


def test_every_answer_is_of_the_endpoint_that_its_header_names(aftermath):
    served = [visit for visit in aftermath.answered if visit.status == 200 and visit.call != "embeddings"]
    expected = [f"{visit.headers['x-permit-endpoint']} answers {visit.marker}" for visit in served]
    assert [said(visit) for visit in served] == expected
    assert all(v.headers["x-permit-endpoint"] in v.endpoints for v in aftermath.answered if v.status == 200)


def test_every_decision_is_about_its_own_permit(aftermath):
    visits = {visit.request_id: visit for visit in aftermath.visits}
    for record in aftermath.of_crowd("decision"):
        visit = visits[record["request_id"]]
        assert record["authorized_endpoints"] == sorted(visit.endpoints)
        assert record["path"] == PATHS[visit.call]
        if record["outcome"] == "routed":
            assert record["chosen"]["endpoint"] in visit.endpoints


def test_every_attempt_belongs_to_a_decision_of_its_request(aftermath):
    decided = {record["decision_id"]: record for record in aftermath.of_crowd("decision")}
    for record in aftermath.of_crowd("attempt"):
        decision = decided[record["decision_id"]]
        assert decision["request_id"] == record["request_id"]
        assert record["endpoint"] in decision["authorized_endpoints"]


def test_every_arrival_is_one_recorded_attempt_and_none_is_left_open(aftermath):
    assert aftermath.unrecorded() == {}


def test_every_attempt_that_a_provider_answered_arrived(aftermath):
    # LiteLLM tells a connection that broke before the request got out as the provider's error, 500.
    answered = aftermath.recorded(ended={"success", "rate_limited"})
    assert beyond(answered, aftermath.reached()) == {}


def test_no_endpoint_is_called_twice_for_a_request(aftermath):
    assert [each for each in aftermath.reached().values() if len(each) != len(set(each))] == []


def test_every_admitted_request_is_counted_and_recorded(aftermath):
    recorded = {record["request_id"] for record in aftermath.of_crowd("decision")}
    assert aftermath.admitted == len(recorded)
    # Who left may have gone before the proxy looked.
    assert {visit.request_id for visit in aftermath.visits if not visit.leaves} <= recorded


def test_the_proxy_is_whole_and_serves_on(aftermath):
    health = aftermath.fleet.health()
    assert (health["status"], health["no_context_calls"], health["records_lost"]) == ("green", 0, 0)
    assert aftermath.fleet.send("chat", list(OPENAI_ENDPOINTS)).status_code == 200
