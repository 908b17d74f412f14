"""The locks: each LiteLLM that is tested has one, and none knows the machine that made it."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
VERSIONS = re.search(r"^LITELLM_VERSIONS := (.*)$", MAKEFILE, re.MULTILINE)[1].split()
LOCKED = re.search(r"^LOCKED := (.*)$", MAKEFILE, re.MULTILINE)[1]
HALVES = ("first", "second")
FILES = sorted((ROOT / "requirements").iterdir())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tested_version_has_a_lock(version):
    name = "dev" if version == LOCKED else f"litellm-{version}"
    assert f"\nlitellm=={version} \\\n" in (ROOT / "requirements" / f"{name}.txt").read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tested_version_is_one_that_the_package_takes(version):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (litellm,) = [each for each in map(Requirement, project["dependencies"]) if each.name == "litellm"]
    assert version in litellm.specifier
    assert "1.107.1" not in litellm.specifier


def planned(goal):
    """The commands that a goal of the Makefile would run."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    commands = ["make", "--dry-run", "--no-print-directory", goal]
    ended = subprocess.run(commands, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)  # noqa: S603 - make and a goal's name
    return ended.stdout


def test_ci_runs_the_enforcement_suite_on_every_version_and_the_rest_on_one():
    steps = re.findall("^make .*", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert steps == ["make lint", "make test", "make demo"]
    commands = planned("test")
    runs = re.findall(r"(\S+)/bin/python -m pytest .*? -o cache_dir=.runs/(\S+)\.cache ", commands)
    folders = {version: ".venv" if version == LOCKED else f".venv-{version}" for version in VERSIONS}
    halves = {(folder, f"{version}-{half}") for version, folder in folders.items() for half in HALVES}
    assert len(runs) == len(set(runs))
    assert set(runs) == {*halves, (".venv", "proxied"), (".venv", "others")}
    for _, run in halves:
        assert f"--battery=.runs/{run}.json" in commands


def test_the_halves_and_the_rest_leave_no_test_out():
    first, second, proxied, others, chaos = (
        re.search(rf"-m pytest (.*?) (?:--battery=\S+{half}\S* )?-o cache_dir=\S*{half}", planned(goal))[
            1
        ].split()
        for half, goal in (
            ("first", f"run-{LOCKED}-first"),
            ("second", f"run-{LOCKED}-second"),
            ("proxied", "run-proxied"),
            ("others", "run-others"),
            ("chaos", "run-chaos"),
        )
    )
    assert {path for path in first if not (ROOT / path).is_file()} == set()
    assert [part.removeprefix("--ignore=") for part in second if part.startswith("--ignore=")] == first
    enforcement = [part for part in second if not part.startswith("--ignore=")]
    assert "tests/enforcement" in enforcement
    assert {path for path in (*proxied, *chaos) if not (ROOT / path).exists()} == set()
    assert others == ["tests", *(f"--ignore={part}" for part in (*enforcement, *chaos, *proxied))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_names_no_index_and_no_folder(path):
    assert not re.findall(r"https?:|file:|index-url|find-links|(?<![\w.])/\w", path.read_text())


@pytest.mark.parametrize(
    "path", [p for p in FILES if not p.name.startswith("overrides")], ids=lambda p: p.name
)
def test_every_locked_package_has_a_hash(path):
    entries = re.split(r"^(?=\w)", path.read_text(), flags=re.MULTILINE)[1:]
    assert [entry.partition(" ")[0] for entry in entries if "--hash=sha256:" not in entry] == []
