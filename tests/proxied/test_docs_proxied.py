"""The page on testing: its example, as a reader would run it beside each configuration that the project shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.proxy

ROOT = Path(__file__).parent.parent.parent
PYTHON = re.compile(r"^```python\n# test_my_routing.py\n(.*?)^```", re.MULTILINE | re.DOTALL)
YAML = re.compile(r"^ *```yaml\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def readme_config():
    """The blocks of the quick start."""
    config = {}
    for block in YAML.findall((ROOT / "README.md").read_text())[:2]:
        config |= yaml.safe_load(block)
    return config


CONFIGURATIONS = {
    "quick-start": readme_config,
    "example": lambda: yaml.safe_load((ROOT / "config.example.yaml").read_text()),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_example_passes_beside_a_configuration_of_the_project(tmp_path, name):
    (example,) = PYTHON.findall((ROOT / "docs/testing.md").read_text())
    (tmp_path / "test_my_routing.py").write_text(example)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIGURATIONS[name]()))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PERMIT_ROUTER_")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "5 passed" in ran.stdout
