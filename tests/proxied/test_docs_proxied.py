"""The page on testing: its example, as a reader would run it beside the configuration of the README."""

from __future__ import annotations

import copy
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
    """The blocks of the quick start, with a second endpoint."""
    config = {}
    for block in YAML.findall((ROOT / "README.md").read_text())[:2]:
        config |= yaml.safe_load(block)
    (us,) = config["model_list"]
    eu = copy.deepcopy(us)
    eu["model_info"] |= {"id": "openai-eu-4o-mini", "endpoint": "openai-eu"}
    config["model_list"].append(eu)
    return config


def test_the_example_passes_beside_the_quick_start(tmp_path):
    (example,) = PYTHON.findall((ROOT / "docs/testing.md").read_text())
    (tmp_path / "test_my_routing.py").write_text(example)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(readme_config()))
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
    assert "4 passed" in ran.stdout
