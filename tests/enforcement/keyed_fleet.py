"""A fleet whose LiteLLM has keys, a team's own deployments, stored credentials, stored prompts and a guardrail.

Without a database LiteLLM has no virtual keys. `general_settings.custom_auth` replaces its authentication by
a function that gives what a key would carry: team, metadata, models, aliases, router settings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fleet import POLICY, Fleet, deployment
from layers_fleet import FORGET

from litellm_plugin.testing import RecordingProvider

# `sk-opens` and `sk-shuts` stand for an administrator who turns the proxy-wide opt-in on after the start,
# where no self-check sees it: LiteLLM reads the setting anew at every request.
AUTH_MODULE = f"""
import json, os, pathlib
from litellm.proxy import proxy_server
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

KEYS = json.loads(pathlib.Path("keys.json").read_text())
{FORGET}
async def authenticate(request, api_key):
    if os.environ.get("PERMIT_ROUTER_ENABLED") == "false":
        forget_callers_deployments()
    if api_key in ("sk-opens", "sk-shuts"):
        proxy_server.general_settings["allow_client_side_credentials"] = api_key == "sk-opens"
    if api_key in KEYS:
        return UserAPIKeyAuth(api_key=api_key, **KEYS[api_key])
    return UserAPIKeyAuth(api_key=api_key, user_role=LitellmUserRoles.PROXY_ADMIN)
"""

EVIL = "http://evil"
"""Stands for the address of a provider that no deployment names."""

SINK = "http://sink"
"""Stands for the address of a place that LiteLLM's loggers and guardrails send to."""

PROMPTS = {"to-claude": "claude", "to-us-b": "us-b-1", "to-provider-model": "anthropic/claude-test"}


def key_text(name: str) -> str:
    return f"sk-{name}"


def key_header(name: str) -> dict[str, str]:
    return {"x-litellm-api-key": key_text(name)}


@dataclass
class KeyedFleet(Fleet):
    """`keys` maps a name to what LiteLLM's key of that name carries."""

    keys: dict[str, dict[str, Any]] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        self.evil, self.sink = RecordingProvider("evil"), RecordingProvider("sink")
        self.evil_url, self.sink_url = (self.servers.add(each) for each in (self.evil, self.sink))
        carried = {key_text(name): key for name, key in self.keys.items()}
        self.files = {"key_auth.py": AUTH_MODULE, "keys.json": json.dumps(self.real(carried))}
        # A log line leaves at once, and an operator's environment names where to.
        self.env = {
            "LANGSMITH_BASE_URL": self.sink_url,
            "LANGSMITH_API_KEY": "k",
            "LANGSMITH_PROJECT": "p",
            "LANGSMITH_BATCH_SIZE": "1",
            "OPIK_URL_OVERRIDE": self.sink_url,
            "DEFAULT_FLUSH_INTERVAL_SECONDS": "1",
            **self.env,
        }
        # Cleared for everything, so that what keeps a prompt from it is that nobody may name it.
        self.policy = {
            "egress": {**POLICY["egress"], "scanner": ["public", "internal", "phi"]},
            **self.policy,
        }
        config = super().config()
        config["general_settings"] |= {
            "custom_auth": "key_auth.authenticate",
            "custom_auth_run_common_checks": True,
        }
        config["litellm_settings"] |= {
            "enable_post_custom_auth_checks": True,
            "enable_model_config_credential_overrides": True,
            "cache": True,
            "cache_params": {"type": "local"},
        }
        config["model_list"] += [
            self.of_team("us-a", "eu-only"),
            self.of_team("us-b", "team-gpt"),
            {
                "model_name": "by-credential",
                "litellm_params": {"model": "openai/gpt-test", "litellm_credential_name": "home"},
                "model_info": {"id": "eu-b-named", "endpoint": "eu-b"},
            },
        ]
        config["credential_list"] = [
            {
                "credential_name": name,
                "credential_info": {},
                "credential_values": {"api_base": f"{url}/v1", "api_key": "k"},
            }
            for name, url in (("home", self.urls["eu-b"]), ("elsewhere", self.evil_url))
        ]
        config["prompts"] = [stored_prompt(*each) for each in PROMPTS.items()]
        config["guardrails"] = [
            {
                "guardrail_name": "scanner",
                "litellm_params": {
                    "guardrail": "generic_guardrail_api",
                    "mode": "pre_call",
                    "api_base": self.sink_url,
                },
            }
        ]
        # Nothing is cleared for it, so whatever reaches it went round the policy.
        config["litellm_settings"]["permit_router"]["egress"] |= {"scanner": []}
        return config

    def of_team(self, endpoint: str, public_name: str) -> dict[str, Any]:
        own = {"id": f"{endpoint}-byok", "team_id": "byok", "team_public_model_name": public_name}
        return deployment(self.providers[endpoint], f"model_name_byok_{endpoint}", self.urls[endpoint], **own)

    def real(self, value: Any) -> Any:
        """The same value with this fleet's addresses in it."""
        text = json.dumps(value).replace(EVIL, self.evil_url).replace(SINK, self.sink_url)
        return json.loads(text)

    def clear(self) -> None:
        super().clear()
        self.evil.clear()


def stored_prompt(name: str, model: str) -> dict[str, Any]:
    content = f"---\nmodel: {model}\n---\nSystem: answer shortly"
    params = {"prompt_id": name, "prompt_integration": "dotprompt", "dotprompt_content": content}
    return {"prompt_id": name, "litellm_params": params}
