from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

from packaging.version import Version

import litellm_plugin

IMPORTED = """
import sys
import litellm_plugin, litellm_plugin.settings, litellm_plugin.permit, litellm_plugin.routing
import litellm_plugin.records, litellm_plugin.state, litellm_plugin.testing, litellm_plugin.cli
print(sorted(name for name in sys.modules if name.partition(".")[0] == "litellm"))
"""
RESOLVED = """
from litellm.proxy.proxy_server import app
app.middleware_stack = app.build_middleware_stack()  # LiteLLM loads callbacks when it stands
import litellm_plugin
print([type(getattr(litellm_plugin, name)).__name__ for name in litellm_plugin.__all__])
"""


def run(source, **env):
    return subprocess.run(  # noqa: S603 - our own interpreter and source
        [sys.executable, "-W", "ignore", "-c", source], capture_output=True, text=True, check=True, env=env
    ).stdout.strip()


def test_nothing_but_the_proxy_room_imports_litellm():
    assert run(IMPORTED) == "[]"


def test_every_public_name_resolves():
    env = {"PERMIT_ROUTER_ENABLED": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    last = run(RESOLVED, **env).splitlines()[-1]
    assert last == "['type', 'str', 'PermitRouter', 'function']"


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(litellm_plugin, "permit_ruoter")


def test_the_version_is_one():
    assert str(Version(litellm_plugin.__version__)) == litellm_plugin.__version__


def test_the_types_ship():
    assert resources.files("litellm_plugin").joinpath("py.typed").is_file()


def test_each_test_module_has_a_name_of_its_own():
    """They are no packages, so two of one name cannot be collected together."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
