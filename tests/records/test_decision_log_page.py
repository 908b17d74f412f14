import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from litellm_plugin.records import schemas, verify_chain
from litellm_plugin.records.chain import GENESIS

PAGE = (Path(__file__).parents[2] / "docs" / "decision-log.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


RECORDS = [json.loads(block) for block in blocks("json")]


def test_page_shows_a_decision_and_an_attempt():
    assert [record["type"] for record in RECORDS] == ["decision", "attempt"]


@pytest.mark.parametrize("record", [pytest.param(record, id=record["type"]) for record in RECORDS])
def test_example_obeys_its_schema(record):
    jsonschema.Draft202012Validator(schemas()[record["schema"]]).validate(record)


def test_examples_are_a_chain():
    assert verify_chain(blocks("json")).is_intact


def test_examples_are_what_the_builders_give(build):
    records = [{name: value for name, value in record.items() if name != "chain"} for record in RECORDS]
    assert records == [build.decision_record(), build.attempt_record()]


def test_settings_are_the_three():
    (block,) = blocks("yaml")
    assert set(yaml.safe_load(block)["decision_log"]) == {"file", "chain", "required"}


def test_snippet_verifies_a_log(tmp_path, monkeypatch, capsys):
    (snippet,) = blocks("python")
    decision, attempt = (json.dumps(record) for record in RECORDS)
    (tmp_path / "decisions.jsonl.1").write_text(decision + "\n")
    (tmp_path / "decisions.jsonl").write_text(attempt + "\n" + attempt + "\n")
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})  # noqa: S102 - the page's own example
    lines = capsys.readouterr().out.splitlines()
    writer = RECORDS[0]["chain"]["writer"]
    assert lines[0].startswith(f"line 3, writer {writer}: record 2 comes after record 2")
    assert lines[1] == f"{writer}: 2 records, head {RECORDS[1]['chain']['hash']}"
    assert RECORDS[0]["chain"]["prev"] == GENESIS
