import json
import math
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litellm_plugin.errors import Reason, Verdict
from litellm_plugin.records import (
    ATTEMPT_SCHEMA,
    DECISION_SCHEMA,
    FileDecisionLog,
    RequestIds,
    probe_record,
    schemas,
    verify_chain,
)
from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.budgets import (
    Budget,
    BudgetAccount,
    BudgetAction,
    BudgetPer,
    BudgetPeriod,
    BudgetReading,
)
from litellm_plugin.routing.candidates import EndpointStatistics
from litellm_plugin.routing.decision import Assessment, Exclusion

VALIDATORS = {name: jsonschema.Draft202012Validator(schema) for name, schema in schemas().items()}
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)
AWKWARD = st.one_of(
    ANY_TEXT, st.sampled_from(["\u2028\u2029", "a\nb\r\x00", "\x7f\x85", "\ud800", "😀" * 200])
)


def validate(record):
    VALIDATORS[record["schema"]].validate(record)


@pytest.mark.parametrize("name", [DECISION_SCHEMA, ATTEMPT_SCHEMA])
def test_schema_is_a_valid_schema(name):
    jsonschema.Draft202012Validator.check_schema(schemas()[name])


def test_routed_record_obeys_the_schema(build):
    record = build.decision_record()
    validate(record)
    assert (record["outcome"], record["reason"]) == ("routed", None)


@pytest.mark.parametrize("reason", list(Reason))
def test_denial_before_a_decision_obeys_the_schema(build, reason):
    record = build.decision_record(
        ids=RequestIds("decision-1"),
        decision=None,
        verdict=build.denial(reason),
        permit=None,
        call_type=None,
        requested_model=None,
        dropped_fields=[],
        statistics_age_ms=None,
        timings_ms={},
    )
    validate(record)
    assert (record["outcome"], record["reason"], record["permit"]) == ("denied", str(reason), None)


def test_denial_by_the_decision_obeys_the_schema(build):
    record = build.decision_record(decision=build.decision(verdict=build.denial(Reason.NOT_ELIGIBLE)))
    validate(record)
    assert (record["reason"], record["chosen"], record["plan"]) == ("not_eligible", None, [])


def test_record_without_optional_facts_obeys_the_schema(build):
    decision = build.decision(statistics=False, max_output_tokens=None)
    record = build.decision_record(decision=decision, permit=None, statistics_age_ms=None)
    validate(record)
    assert record["candidates"][0]["statistics"] is None


@pytest.mark.parametrize("exclusion", list(Exclusion))
def test_every_exclusion_obeys_the_schema(build, exclusion):
    decision = build.decision()
    assessment = Assessment(decision.assessments[0].candidate, exclusion, detail="baa")
    validate(build.decision_record(decision=replace(decision, assessments=(assessment,))))


def reading(per, subject, left_usd=0.25, **fields):
    budget = Budget("free", BudgetPer(per), 50.0, BudgetPeriod.MONTH)
    account = BudgetAccount("free", subject, BudgetPeriod.MONTH, "2026-11", 50.0, "2026-12-01T00:00:00Z")
    return BudgetReading(budget, account, left_usd, **fields)


def budgets_of(build, *readings):
    record = build.decision_record(decision=replace(build.decision(), budgets=readings))
    validate(record)
    return record["budgets"]


def test_a_budget_tells_what_was_left_when_it_resets_and_what_was_done(build):
    assert budgets_of(build, reading("tenant", "acme", action=BudgetAction.CHEAPEST)) == [
        {
            "name": "free",
            "per": "tenant",
            "subject": "acme",
            "period": "2026-11",
            "limit_usd": 50.0,
            "left_usd": 0.25,
            "resets_at": "2026-12-01T00:00:00Z",
            "deployment_ids": None,
            "action": "cheapest",
        }
    ]


def test_a_route_is_told_by_the_request_s_own_members_alone(build):
    (told,) = budgets_of(build, reading("route", "acme\nphi\na whole prompt\nchat"))
    assert (told["per"], told["subject"]) == ("route", None)


def test_budgets_are_bounded_and_those_of_whole_requests_come_first(build):
    of_endpoints = [reading("endpoint", f"e{n}", deployment_ids=frozenset({f"d{n}"})) for n in range(200)]
    told = budgets_of(build, *of_endpoints, reading("tenant", "t" * 500, math.nan))
    assert (len(told), told[0]["subject"], told[0]["left_usd"]) == (128, "t" * 128, None)
    assert told[1]["deployment_ids"] == ["d0"]


@pytest.mark.parametrize("status", list(AttemptStatus))
def test_attempt_obeys_the_schema(build, status):
    validate(build.attempt_record(status=status))


@pytest.mark.parametrize("status", [None, *AttemptStatus])
@pytest.mark.parametrize("cause", ["silent", "half_open"])
def test_probe_obeys_the_schema(status, cause):
    record = probe_record(
        time="2026-01-31T12:00:01.498Z",
        probe_id="p",
        instance="w",
        config_hash="h",
        deployment_id="d" * 500,
        endpoint="eu",
        cause=cause,
        status=status,
        total_ms=math.inf,
        cost_usd=math.nan,
    )
    validate(record)
    assert record["event"] == ("asked" if status is None else "ended")
    assert (record["request_id"], len(record["deployment_id"])) == (None, 128)


def test_attempt_without_an_answer_obeys_the_schema(build):
    validate(
        build.attempt_record(
            status=AttemptStatus.CONNECTION_ERROR,
            http_status=None,
            error_class="APIConnectionError",
            first_token_ms=None,
            input_tokens=None,
            output_tokens=None,
            cost_usd=None,
            cache_hit=None,
            is_final=False,
        )
    )


@pytest.mark.parametrize(
    ("definition", "closed_set"),
    [
        pytest.param(schemas()[DECISION_SCHEMA]["properties"]["reason"], Reason, id="reason"),
        pytest.param(
            schemas()[DECISION_SCHEMA]["$defs"]["candidate"]["properties"]["exclusion"],
            Exclusion,
            id="exclusion",
        ),
        pytest.param(schemas()[ATTEMPT_SCHEMA]["properties"]["status"], AttemptStatus, id="status"),
        pytest.param(
            schemas()[DECISION_SCHEMA]["$defs"]["budget"]["properties"]["per"], BudgetPer, id="budget-per"
        ),
        pytest.param(
            schemas()[DECISION_SCHEMA]["$defs"]["budget"]["properties"]["action"],
            BudgetAction,
            id="budget-action",
        ),
    ],
)
def test_schema_lists_the_closed_set(definition, closed_set):
    assert {value for value in definition["enum"] if value} == set(map(str, closed_set))


def test_schema_refuses_an_unknown_member(build):
    with pytest.raises(jsonschema.ValidationError):
        validate({**build.decision_record(), "prompt": "hello"})


def test_verdict_of_the_caller_wins(build):
    assert build.decision_record(verdict=build.denial(Reason.LOG_UNAVAILABLE))["reason"] == "log_unavailable"


def test_scope_of_a_denial_before_a_decision_is_recorded(build):
    record = build.decision_record(decision=None, verdict=build.denial(), scope=build.scope(("b", "a")))
    validate(record)
    assert record["authorized_endpoints"] == ["a", "b"]


def test_neither_decision_nor_verdict_is_a_mistake(build):
    with pytest.raises(ValueError, match="got neither"):
        build.decision_record(decision=None)


def test_query_string_is_left_out(build):
    assert build.decision_record(path="/v1/realtime?api_key=sk-1")["path"] == "/v1/realtime"


def test_text_from_outside_is_cut(build):
    record = build.decision_record(requested_model="m" * 256)
    assert len(record["requested_model"]) == 128


@pytest.mark.parametrize(
    "model", ["gpt-4o", "openai/gpt-4o", "azure/*", "us.anthropic.claude-3-5:0", "ft:gpt-4o@acme+x", ""]
)
def test_a_model_name_is_recorded(build, model):
    record = build.decision_record(requested_model=model)
    assert record["requested_model"] == model


@pytest.mark.parametrize("model", ["my card is 4111", "m" * 257, "gpt\n", "é", "a=b"])
def test_text_that_is_no_model_name_is_not_recorded(build, model):
    record = build.decision_record(requested_model=model, decision=build.decision(model=model))
    validate(record)
    assert record["requested_model"] == "(not a model name)"
    assert record["request"]["model_group"] == "(not a model name)"
    assert json.dumps(model)[1:-1] not in json.dumps(record)


def test_a_message_holds_no_text_that_is_no_model_name(build):
    verdict = Verdict(Reason.NOT_AUTHORIZED, "No endpoint of model group 'my card is 4111' is in the set.")
    record = build.decision_record(requested_model="my card is 4111", verdict=verdict)
    assert record["message"] == "No endpoint of model group (not a model name) is in the set."


def test_text_that_is_no_field_name_is_one_entry(build):
    names = ["my card is 4111", "tags", "metadata.deployment", "include[]", "f" * 65, "é"]
    record = build.decision_record(dropped_fields=names)
    validate(record)
    assert record["dropped_fields"] == ["tags", "metadata.deployment", "include[]", "(other)"]
    assert record["dropped_fields_count"] == 6


def test_the_other_entry_has_room(build):
    record = build.decision_record(dropped_fields=[*(f"f{n}" for n in range(100)), "a b"])
    validate(record)
    assert (len(record["dropped_fields"]), record["dropped_fields"][-1]) == (64, "(other)")


def test_message_is_cut(build):
    verdict = Verdict(Reason.NOT_AUTHORIZED, "m" * 9999)
    assert len(build.decision_record(verdict=verdict)["message"]) == 512


def test_dropped_fields_are_bounded_and_counted(build):
    record = build.decision_record(dropped_fields=[f"f{n}" for n in range(1000)])
    validate(record)
    assert (len(record["dropped_fields"]), record["dropped_fields_count"]) == (64, 1000)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_number_that_is_not_finite_becomes_null(build, value):
    decision = build.decision()
    first = replace(
        decision.assessments[0],
        expected_cost_usd=value,
        statistics=EndpointStatistics(1, 0, total_p50_ms=value),
    )
    rule = replace(decision.rule, values={"request.difficulty": value})
    record = build.decision_record(
        decision=replace(decision, assessments=(first,), rule=rule),
        statistics_age_ms=value,
        timings_ms={"routing": value},
    )
    validate(record)
    json.dumps(record, allow_nan=False)
    attempt = build.attempt_record(total_ms=value, first_token_ms=value, cost_usd=value)
    validate(attempt)
    json.dumps(attempt, allow_nan=False)


@settings(deadline=None)
@given(model=AWKWARD, names=st.lists(AWKWARD, max_size=4), request_id=AWKWARD)
def test_any_text_gives_one_line_of_printable_ascii(build, tmp_path_factory, model, names, request_id):
    record = build.decision_record(
        ids=RequestIds("decision-1", request_id=request_id),
        decision=build.decision(model=model),
        requested_model=model,
        dropped_fields=names,
    )
    validate(record)
    path = tmp_path_factory.mktemp("log") / "decisions.jsonl"
    log = FileDecisionLog(path, required=True, chain=True, writer="w")
    log.write(record)
    log.close()
    line = path.read_bytes()
    assert line.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    written = json.loads(line)
    del written["chain"]
    assert written == record
    assert verify_chain([line]).is_intact
