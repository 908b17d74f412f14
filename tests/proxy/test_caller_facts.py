from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugin.errors import Reason, RequestDenied
from litellm_plugin.proxy.caller_facts import CallerFacts, said_in_body, said_in_headers, utc_moment
from litellm_plugin.routing.facts import CallType, Moment, RequestFacts


def headers(*lines, tenant="acme"):
    return said_in_headers([(name.encode(), value.encode("latin-1")) for name, value in lines], tenant)


def body(tenant="acme", call_type=CallType.CHAT, **document):
    return said_in_body(document, call_type, tenant)


def metadata(**fields):
    return body(metadata=fields)


def refused(read, *args, **kwargs):
    with pytest.raises(RequestDenied) as denied:
        read(*args, **kwargs)
    assert denied.value.verdict.reason is Reason.BODY_INVALID
    return denied.value.verdict.message


def test_who_says_nothing_has_no_facts():
    assert headers() == body() == metadata() == CallerFacts()


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("x-latency-budget-ms", "800", "latency_budget_ms", 800),
        ("X-Latency-Budget-Ms", " 800 ", "latency_budget_ms", 800),
        ("x-latency-budget-ms", "800.9", "latency_budget_ms", 800),
        ("x-latency-budget-ms", "0.5", "latency_budget_ms", 1),
        ("x-latency-budget-ms", "999999999999", "latency_budget_ms", 2**31 - 1),
        ("x-workload", "nightly_report-2.1", "workload", "nightly_report-2.1"),
        ("idempotency-key", "k1", "is_idempotent", True),
        ("idempotency-key", "", "is_idempotent", False),
        ("x-request-writes", "TRUE", "writes", True),
        ("x-request-writes", "false", "writes", False),
        ("x-session-id", "", "session", None),
    ],
)
def test_what_a_header_says(name, value, field, expected):
    assert getattr(headers((name, value)), field) == expected


@pytest.mark.parametrize(
    ("field", "value", "fact", "expected"),
    [
        ("latency_budget_ms", 800, "latency_budget_ms", 800),
        ("latency_budget_ms", 800.5, "latency_budget_ms", 800),
        ("latency_budget_ms", "800", "latency_budget_ms", 800),
        ("latency_budget_ms", None, "latency_budget_ms", None),
        ("workload", "report", "workload", "report"),
        ("workload", None, "workload", None),
        ("writes", True, "writes", True),
        ("writes", "true", "writes", True),
        ("writes", None, "writes", False),
        ("session_id", ["x"], "session", None),
        ("session_id", True, "session", None),
    ],
)
def test_what_metadata_says(field, value, fact, expected):
    assert getattr(metadata(**{field: value}), fact) == expected


@pytest.mark.parametrize(
    "value", ["0", "-1", "", "soon", "1e3", "1_000", "nan", "inf", "١٢", "500, 200", "1" * 400]
)
def test_a_budget_that_is_no_positive_number_is_refused(value):
    assert "a number of milliseconds above 0" in refused(metadata, latency_budget_ms=value)
    if value.isascii():
        message = refused(headers, ("x-latency-budget-ms", value))
        assert "'x-latency-budget-ms'" in message
        assert len(message) < 250


@pytest.mark.parametrize("value", [0, -1, True, [], {}, float("nan"), float("inf"), 10**400])
def test_a_budget_in_metadata_that_is_no_positive_number_is_refused(value):
    assert "'metadata.latency_budget_ms'" in refused(metadata, latency_budget_ms=value)


@pytest.mark.parametrize("value", ["", "a b", "x" * 65, "é", "a\n"])
def test_a_workload_that_is_no_name_is_refused(value):
    assert "1 to 64 letters" in refused(metadata, workload=value)
    if value.isprintable():
        assert "1 to 64 letters" in refused(headers, ("x-workload", value))


def test_a_workload_that_is_no_text_is_refused():
    assert "1 to 64 letters" in refused(metadata, workload=5)


@pytest.mark.parametrize("value", ["yes", "1", 1, "", []])
def test_writes_must_be_true_or_false(value):
    assert "true or false" in refused(metadata, writes=value)


class TestBoth:
    """What is said twice."""

    @pytest.mark.parametrize(("header", "field"), [("800", 500), ("500", 800)])
    def test_the_tighter_budget_counts(self, header, field):
        both = headers(("x-latency-budget-ms", header)).and_also(metadata(latency_budget_ms=field))
        assert both.latency_budget_ms == 500

    def test_the_tightest_of_several_headers_counts(self):
        said = headers(("x-latency-budget-ms", "900"), ("x-latency-budget-ms", "300"))
        assert said.latency_budget_ms == 300

    def test_two_workloads_are_refused(self):
        message = refused(headers(("x-workload", "a")).and_also, metadata(workload="b"))
        assert message == "One workload is expected, the request names 'a' and 'b'."
        assert "One workload" in refused(headers, ("x-workload", "a"), ("x-workload", "b"))

    def test_one_workload_may_be_said_twice(self):
        assert headers(("x-workload", "a")).and_also(metadata(workload="a")).workload == "a"

    def test_one_false_does_not_take_a_write_back(self):
        assert headers(("x-request-writes", "true")).and_also(metadata(writes=False)).writes


class TestSessions:
    def test_the_name_is_not_kept(self):
        assert "chat-17" not in repr(headers(("x-session-id", "chat-17")))

    def test_every_way_to_name_it_names_the_same(self):
        named = {
            headers(("x-session-id", "17")).session,
            headers(("x-litellm-session-id", "17")).session,
            metadata(session_id="17").session,
            metadata(session_id=17).session,
            body(litellm_session_id="17").session,
        }
        assert len(named) == 1
        assert None not in named

    def test_two_tenants_sessions_of_one_name_are_two(self):
        name = ("x-session-id", "17")
        assert headers(name).session != headers(name, tenant="other").session
        assert headers(("x-session-id", "bc"), tenant="a").session != headers(name, tenant="ab").session

    def test_the_header_is_first(self):
        header = headers(("x-session-id", "17"))
        assert header.and_also(metadata(session_id="18")) == header


def test_a_pass_through_has_the_providers_own_metadata():
    said = body(call_type=CallType.PASS_THROUGH, metadata={"workload": "any thing", "writes": 3})
    assert said == CallerFacts()


def test_facts_are_added_to_those_of_the_body():
    said = headers(("x-workload", "report"), ("idempotency-key", "k"), ("x-latency-budget-ms", "700"))
    facts = said.added_to(RequestFacts("g", CallType.CHAT, input_tokens=5), wall_s=0.0)
    assert (facts.workload, facts.is_idempotent, facts.latency_budget_ms) == ("report", True, 700)
    assert (facts.input_tokens, facts.moment.date) == (5, "1970-01-01")


@pytest.mark.parametrize(
    ("wall_s", "moment"),
    [
        (0.0, Moment(hour=0, weekday=4, month=1, date="1970-01-01")),
        (1_704_067_199.9, Moment(hour=23, weekday=7, month=12, date="2023-12-31")),
        (1_709_164_800.0, Moment(hour=0, weekday=4, month=2, date="2024-02-29")),
    ],
)
def test_the_moment_is_in_utc(wall_s, moment):
    assert utc_moment(wall_s) == moment


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)
names = st.sampled_from(("latency_budget_ms", "workload", "session_id", "writes", "other"))


@given(st.dictionaries(names, values), values)
def test_any_metadata_is_read_or_refused(fields, session):
    try:
        said = body(metadata=fields, litellm_session_id=session)
    except RequestDenied:
        return
    assert said.latency_budget_ms is None or said.latency_budget_ms >= 1


@given(
    st.lists(
        st.tuples(st.sampled_from((b"X-Workload", b"x-latency-budget-ms", b"x")), st.binary()), max_size=4
    )
)
def test_any_header_is_read_or_refused(lines):
    try:
        said = said_in_headers(lines, "acme")
    except RequestDenied:
        return
    assert said.latency_budget_ms is None or said.latency_budget_ms >= 1
