"""The locks: each LiteLLM that is tested has one, and none knows the machine that made it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
VERSIONS = re.search(r"^LITELLM_VERSIONS := (.*)$", MAKEFILE, re.MULTILINE)[1].split()
LOCKED = re.search(r"^LOCKED := (.*)$", MAKEFILE, re.MULTILINE)[1]
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


def test_ci_runs_every_version_that_the_test_command_does_not():
    (versions,) = re.findall(r'make test-contract VERSIONS="(.*)"', (ROOT / ".ci/run").read_text())
    assert {*versions.split(), LOCKED} == set(VERSIONS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_names_no_index_and_no_folder(path):
    assert not re.findall(r"https?:|file:|index-url|find-links|(?<![\w.])/\w", path.read_text())


@pytest.mark.parametrize(
    "path", [p for p in FILES if not p.name.startswith("overrides")], ids=lambda p: p.name
)
def test_every_locked_package_has_a_hash(path):
    entries = re.split(r"^(?=\w)", path.read_text(), flags=re.MULTILINE)[1:]
    assert [entry.partition(" ")[0] for entry in entries if "--hash=sha256:" not in entry] == []
