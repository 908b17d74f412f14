from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from litellm_plugin.cli import app

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_help_lists_the_demo(run):
    result = run("--help")
    assert result.exit_code == 0
    assert "demo" in result.output


def test_help_of_the_demo_names_its_options(run):
    result = run("demo", "--help")
    assert result.exit_code == 0
    assert all(option in result.output for option in ("--config", "--prompts", "--serve"))


def test_a_missing_configuration_is_named(run):
    result = run("demo")
    assert result.exit_code == 2
    assert "no configuration at 'config.example.yaml'" in result.output
    assert "--config" in result.output


def test_a_bad_prompts_file_stops_before_anything_starts(run, tmp_path):
    (tmp_path / "prompts.txt").write_text('Hello\n{"promt": "x"}\n')
    result = run("demo", "--config", str(EXAMPLE), "--prompts", "prompts.txt")
    assert result.exit_code == 2
    assert "prompts.txt, line 2" in result.output
    assert not (tmp_path / ".demo").exists()


def test_serving_and_playing_prompts_exclude_each_other(run):
    result = run("demo", "--config", str(EXAMPLE), "--prompts", "prompts.txt", "--serve")
    assert result.exit_code == 2
    assert "one of them is expected" in result.output


def test_a_configuration_without_the_demo_endpoints_is_refused(run, tmp_path):
    (tmp_path / "other.yaml").write_text(
        EXAMPLE.read_text().replace("endpoint: vllm-de", "endpoint: vllm-fr")
    )
    result = run("demo", "--config", "other.yaml")
    assert result.exit_code == 2
    assert "vllm-de" in result.output
