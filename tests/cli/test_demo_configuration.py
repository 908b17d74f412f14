from __future__ import annotations

from pathlib import Path

import pytest

from litellm_plugin.cli.demo.configuration import read_configuration
from litellm_plugin.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


@pytest.fixture
def changed(tmp_path):
    def write(old: str, new: str) -> Path:
        text = EXAMPLE.read_text()
        assert old in text
        path = tmp_path / "config.yaml"
        path.write_text(text.replace(old, new))
        return path

    return write


def test_every_variable_of_the_file_gets_a_value():
    configuration = read_configuration(EXAMPLE)
    urls = {name: f"http://127.0.0.1/{name}" for name in configuration.endpoints}
    environment = configuration.environment(urls, "http://127.0.0.1/jwks")
    assert set(environment) == configuration.variables - {"LITELLM_MASTER_KEY"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("OPENAI_EU_BASE", "http://openai-eu/v1", id="openai"),
        pytest.param("VLLM_DE_BASE", "http://vllm-de/v1", id="vllm"),
        pytest.param("AZURE_EU_BASE", "http://azure-eu", id="azure"),
        pytest.param("ANTHROPIC_US_BASE", "http://anthropic-us", id="anthropic"),
        pytest.param("PERMIT_JWKS_URL", "http://keys", id="keys"),
    ],
)
def test_addresses_are_those_of_the_simulated_providers(variable, value):
    configuration = read_configuration(EXAMPLE)
    urls = {name: f"http://{name}" for name in configuration.endpoints}
    assert configuration.environment(urls, "http://keys")[variable] == value


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("os.environ/VLLM_DE_BASE", "https://vllm.example", "expects os.environ/NAME", id="real"),
        pytest.param("os.environ/AZURE_US_BASE", "os.environ/AZURE_EU_BASE", "tell them apart", id="shared"),
        pytest.param("os.environ/PERMIT_JWKS_URL", "https://x.example", "its own issuer", id="keys"),
        pytest.param("[RS256, ES256]", "[PS256]", "signs with one of", id="algorithm"),
        pytest.param("  permit_router:", "  permit_rooter:", "permit_router: a mapping", id="block"),
        pytest.param("model_list:", "models:", "model_list: a list", id="models"),
        pytest.param("model_list:", "model_list: [", "cannot be read as YAML", id="yaml"),
    ],
)
def test_a_configuration_that_the_demo_cannot_simulate_is_refused(changed, old, new, message):
    with pytest.raises(ConfigurationError, match=message):
        read_configuration(changed(old, new))
