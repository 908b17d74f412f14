from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from litellm_plugin.cli import app
from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.selfcheck import read_policy
from litellm_plugin.settings import Flags
from litellm_plugin.testing import PermitIssuer

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"

POLICY = {
    "permit": {
        "audience": "llm-router",
        "binding": "body",
        "issuers": [{"issuer": "https://policy.test", "jwks_file": "jwks.json", "algorithms": ["RS256"]}],
    },
    "classifications": {"public": {}},
    "latency_classes": {"interactive": {}},
    "tenant_tiers": ["pro"],
    "default": {"strategy": "cost"},
}
DEPLOYMENT = {
    "model_name": "gpt",
    "litellm_params": {"model": "openai/x", "api_base": "os.environ/EU_BASE"},
    "model_info": {"id": "eu-1", "endpoint": "eu", "region": "eu-west"},
}


def configuration(**changes):
    return {
        "model_list": [DEPLOYMENT],
        "litellm_settings": {"callbacks": ["litellm_plugin.permit_router"], "permit_router": POLICY},
        "router_settings": {"disable_cooldowns": True},
        **changes,
    }


@pytest.fixture
def check(tmp_path, monkeypatch):
    for name in ("ENABLED", "POLICY", "LOG", "REDIS_URL"):
        monkeypatch.delenv(f"PERMIT_ROUTER_{name}", raising=False)
    monkeypatch.setenv("EU_BASE", "https://eu.test")
    (tmp_path / "jwks.json").write_text(json.dumps(PermitIssuer().jwks()))

    def run(config):
        path = tmp_path / "config.yaml"
        path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        result = CliRunner().invoke(app, ["check", str(path)])
        return result.exit_code, result.output.splitlines()

    return run


def test_a_good_configuration_is_summed_up(check):
    code, lines = check(configuration())
    assert (code, lines[0]) == (0, "The permit router would start.")
    assert "  issuer: https://policy.test (RS256; keys from a file)" in lines
    assert "  endpoints: eu (deployments: 1)" in lines
    assert "  rule: default → cost" in lines
    assert not any(line.startswith("warning") for line in lines)


@pytest.mark.parametrize(
    ("probing", "declared", "told"),
    [
        (None, True, []),
        ({}, True, ["  probed: eu-1 (after 60 s of silence, 60 an hour at most)"]),
        (
            {},
            False,
            ["  probed: none (after 60 s of silence, 60 an hour at most)"],
        ),
    ],
)
def test_who_is_asked_with_synthetic_prompts_is_told(check, probing, declared, told):
    info = {**DEPLOYMENT["model_info"], "synthetic_prompts": declared}
    policy = {**POLICY, "resilience": {"probing": probing}}
    settings = {"callbacks": ["litellm_plugin.permit_router"], "permit_router": policy}
    config = configuration(litellm_settings=settings, model_list=[{**DEPLOYMENT, "model_info": info}])
    code, lines = check(config)
    assert (code, [line for line in lines if "probed" in line]) == (0, told)


@pytest.mark.parametrize(
    ("probing", "declared", "warned"),
    [
        ({}, True, []),
        (None, False, []),
        (
            {},
            False,
            [
                "resilience.probing is on, but no deployment has model_info.synthetic_prompts: true; nothing is asked"
            ],
        ),
        (
            None,
            True,
            ["model_info.synthetic_prompts of eu-1 has no effect: resilience.probing is off"],
        ),
    ],
)
def test_probing_that_asks_nobody_is_warned_of(check, probing, declared, warned):
    info = {**DEPLOYMENT["model_info"], "synthetic_prompts": declared}
    policy = {**POLICY, "resilience": {"probing": probing}}
    settings = {"callbacks": ["litellm_plugin.permit_router"], "permit_router": policy}
    code, lines = check(
        configuration(litellm_settings=settings, model_list=[{**DEPLOYMENT, "model_info": info}])
    )
    assert (code, [line for line in lines if line.startswith("warning")]) == (
        0,
        [f"warning: {text}" for text in warned],
    )


def test_a_mode_that_only_the_cost_map_knows_counts(check):
    image = {
        **DEPLOYMENT,
        "litellm_params": {**DEPLOYMENT["litellm_params"], "model": "openai/gpt-image-1"},
        "model_info": {"id": "image-1", "endpoint": "image", "region": "eu", "synthetic_prompts": True},
    }
    chat = {**DEPLOYMENT, "model_info": {**DEPLOYMENT["model_info"], "synthetic_prompts": True}}
    policy = {**POLICY, "resilience": {"probing": {}}}
    settings = {"callbacks": ["litellm_plugin.permit_router"], "permit_router": policy}
    code, lines = check(configuration(litellm_settings=settings, model_list=[chat, image]))
    (told,) = [line for line in lines if "probed" in line]
    assert (code, told.partition(" (after")[0]) == (
        0,
        "  probed: eu-1, not image-1 (by the mode of its model)",
    )


def test_each_finding_has_its_line_and_the_text_of_the_start(check, tmp_path):
    config = configuration(
        router_settings={"routing_strategy": "usage-based-routing"},
        general_settings={"allow_client_side_credentials": True},
    )

    code, lines = check(config)

    with pytest.raises(ConfigurationError) as started:
        read_policy(config, Flags(), base=tmp_path)
    assert code == 1
    assert [line.removeprefix("refused: ") for line in lines] == str(started.value).splitlines()
    assert len(lines) == 3


def test_faults_of_the_block_hide_none_of_the_configuration(check):
    policy = {**POLICY, "tenant_tier": ["pro"]}
    settings = {"callbacks": ["litellm_plugin.permit_router"], "permit_router": policy}
    code, lines = check(configuration(litellm_settings=settings, router_settings={}))
    assert code == 1
    assert "did you mean 'tenant_tiers'" in lines[0]
    assert lines[1].startswith("refused: router_settings.disable_cooldowns")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"permit_router": POLICY}, "callbacks does not list", id="no-callback"),
        pytest.param(
            {"callbacks": ["litellm_plugin.permit_router"]}, "permit_router is missing", id="no-block"
        ),
        pytest.param(
            {
                "callbacks": "litellm_plugin.permit_router",
                "permit_router": {**POLICY, "default": {"strategy": "static", "endpoints": ["eux"]}},
            },
            "did you mean 'eu'",
            id="endpoint",
        ),
    ],
)
def test_it_finds_what_litellm_settings_lack(check, settings, said):
    code, lines = check(configuration(litellm_settings=settings))
    assert code == 1
    assert said in "\n".join(lines)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param({"jwks_file": "gone.json"}, "keys of issuer 'https://policy.test'", id="no-file"),
        pytest.param({"jwks_url": "http://policy.test/jwks"}, "expected https", id="plain-http"),
        pytest.param({"jwks_url": "os.environ/NOT_SET_ANYWHERE"}, "0 are given", id="unset-variable"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(check, source, said):
    issuer = {"issuer": "https://policy.test", "algorithms": ["RS256"], **source}
    policy = {**POLICY, "permit": {**POLICY["permit"], "issuers": [issuer]}}
    settings = {"callbacks": ["litellm_plugin.permit_router"], "permit_router": policy}
    code, lines = check(configuration(litellm_settings=settings))
    assert code == 1
    assert said in lines[0]


def test_included_files_are_part_of_it(check, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "models.yaml").write_text(
        yaml.safe_dump({"include": ["rest.yaml"], "model_list": []})
    )
    other = {**DEPLOYMENT, "model_info": {"endpoint": "us"}}
    (tmp_path / "more" / "rest.yaml").write_text(yaml.safe_dump({"model_list": [other]}))
    code, lines = check(configuration(include=["more/models.yaml"]))
    assert code == 1
    assert lines[0].startswith("refused: model_list[1] ('gpt') has no model_info.id")


def test_variables_that_are_not_set_are_named(check, monkeypatch):
    monkeypatch.delenv("EU_BASE")
    code, lines = check(configuration())
    assert (code, lines[-1]) == (0, "warning: not set in this environment: EU_BASE")


def test_a_switch_from_the_environment_counts_as_at_the_start(check, monkeypatch):
    monkeypatch.setenv("COOLDOWNS_OFF", "True")
    code, _ = check(configuration(router_settings={"disable_cooldowns": "os.environ/COOLDOWNS_OFF"}))
    assert code == 0


def test_deployments_without_an_address_or_a_region_are_warned_of(check):
    bare = {**DEPLOYMENT, "litellm_params": {"model": "openai/x"}, "model_info": {"id": "eu-1"}}
    code, lines = check(configuration(model_list=[bare]))
    assert code == 0
    assert lines[-2].startswith("warning: model_list[0] ('gpt') has no litellm_params.api_base")
    assert lines[-1].startswith("warning: model_list[0] ('gpt') has no model_info.region")


def test_an_inert_environment_is_warned_of(check, monkeypatch):
    monkeypatch.setenv("PERMIT_ROUTER_ENABLED", "false")
    _, lines = check(configuration())
    assert "INERT" in lines[-1]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("model_list: [", id="no-yaml"),
        pytest.param("- a", id="a-list"),
        pytest.param("include: models.yaml", id="include-text"),
        pytest.param("include: [gone.yaml]", id="included-file-missing"),
    ],
)
def test_what_cannot_be_read_ends_with_2(check, text):
    code, lines = check(text)
    assert code == 2
    assert lines[0].startswith("error: ")


def test_a_missing_file_ends_with_2(tmp_path):
    assert CliRunner().invoke(app, ["check", str(tmp_path / "gone.yaml")]).exit_code == 2


def test_litellm_is_not_imported():
    script = (
        "import sys; sys.argv = ['permit-router', 'check', sys.argv[1]]\n"
        "from litellm_plugin.cli import app\n"
        "app(standalone_mode=False)\n"
        "sys.exit(sum(name in sys.modules for name in ('litellm', 'fastapi')))\n"
    )
    done = subprocess.run(  # noqa: S603 - this interpreter and this script
        [sys.executable, "-c", script, str(EXAMPLE)],
        env={"PERMIT_JWKS_URL": "https://policy.test/jwks"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "would start" in done.stdout
