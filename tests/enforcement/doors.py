"""The side doors: ways past a narrowed list, what each request says, and how it ends where nothing is left open."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fleet import PATHS

from litellm_plugin.testing import Fault

INSIDE = "eu-a"


@dataclass(frozen=True)
class Door:
    """One way out: what the request says, how it ends here, and whether LiteLLM leaves it open."""

    name: str
    says: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    reason: str | None = None
    breaks: tuple[str, ...] = ()
    is_open_without_us: bool = True
    path: str | None = None

    @property
    def arrivals(self) -> int:
        """How many requests a provider gets: a refused one is not sent, an exhausted one was sent once."""
        return 1 if self.status in {200, 503} else 0


EVIL = "http://evil"  # replaced by the address of a provider that no configuration names

DOORS = [
    Door("another-endpoint-of-the-group"),
    Door("deployment-id", {"model": "us-b-1"}, 403, "not_authorized"),
    Door("provider-model-name", {"model": "openai/gpt-test"}),
    Door("alias", {"model": "gpt-alias"}),
    Door("unknown-model", {"model": "nothing"}, 400, is_open_without_us=False),
    Door("comma-list", {"model": "gpt,claude"}, 400, "body_invalid"),
    Door("model-list", {"model": ["gpt", "claude"]}, 400, is_open_without_us=False),
    Door("fastest-response", {"model": "gpt,claude", "fastest_response": True}, 400, "body_invalid"),
    Door("fallbacks-string", {"fallbacks": ["claude"]}, 503, "chain_exhausted", (INSIDE,)),
    Door("fallbacks-dict", {"fallbacks": [{"gpt": ["claude"]}]}, 503, "chain_exhausted", (INSIDE,)),
    Door("fallbacks-to-deployment-id", {"fallbacks": ["us-b-1"]}, 503, "chain_exhausted", (INSIDE,)),
    Door("retries-elsewhere", {"num_retries": 25}, 503, "chain_exhausted", (INSIDE,)),
    # LiteLLM's own authentication would refuse these; they are taken out before it looks.
    Door("api-base", {"api_base": f"{EVIL}/v1"}, is_open_without_us=False),
    Door("base-url", {"base_url": f"{EVIL}/v1"}, is_open_without_us=False),
    Door("user-config", {"user_config": {"model_list": []}}, is_open_without_us=False),
    Door("model-list-field", {"model_list": []}, is_open_without_us=False),
    Door("router-settings", {"router_settings_override": {"fallbacks": [{"gpt": ["claude"]}]}}, 503, "chain_exhausted", (INSIDE,)),
    Door("api-key", {"api_key": "sk-attacker"}),
    Door("provider-swap", {"custom_llm_provider": "anthropic"}),
    Door("specific-deployment", {"specific_deployment": "us-b-1"}),
    Door("excluded-deployments", {"_excluded_deployment_ids": ["eu-a-1"]}),
    Door("retry-skip", {"_retry_skipped_deployment_ids": ["eu-a-1"]}),
    Door("tags", {"tags": ["us"], "metadata": {"tags": ["us"]}}),
    Door("no-log", {"no-log": True}),
    Door("mock-response", {"mock_response": "not from a provider"}),
    Door("spoofed-metadata", {"metadata": {"model_group": "claude", "deployment": "us-b-1"}}),
    Door("spoofed-spend-metadata", {"metadata": {"spend_logs_metadata": "x"}}),
    Door("spoofed-litellm-metadata", {"litellm_metadata": {"model_group": "claude", "user_api_key": "x"}}),
    Door("spoofed-proxy-request", {"proxy_server_request": {"headers": {"x-llm-permit": "x"}}}),
    Door("organization", {"organization": "org-attacker"}),
    Door("extra-headers", {"extra_headers": {"x-evil": "1"}}),
    Door("prompt-id", {"prompt_id": "p", "prompt_variables": {}}),
    Door("credential-name", {"litellm_credential_name": "other"}),
    Door("model-in-the-query", {}, path=f"{PATHS['chat']}?model=us-b-1"),
]  # fmt: skip


def real(says, evil):
    """What a door says, with the address of a provider that is there."""
    return json.loads(json.dumps(says).replace(EVIL, evil.url))


def through(fleet, door, evil):
    says = real(door.says, evil)
    for name in door.breaks:
        fleet.providers[name].always(Fault.status(500))
    return fleet.send("chat", [INSIDE], path=door.path, **says)


def differences(fleet, door, evil, answer):
    """What is not as the row says it, judged by the answer and by what the providers received."""
    return [said for differs, said in _compared(fleet, door, evil, answer) if differs]


def _compared(fleet, door, evil, answer):
    outside = [each.endpoint for each in fleet.out_of_set(evil)]
    yield outside, f"arrived outside the set: {outside}"
    yield answer.status_code != door.status, f"status {answer.status_code}: {answer.text[:300]}"
    reason = answer.headers.get("x-permit-reason")
    yield door.reason not in {None, reason}, f"reason {reason}"
    calls = fleet.calls()
    yield calls != ({INSIDE: door.arrivals} if door.arrivals else {}), f"calls {calls}"
    if door.status == 200:
        yield f"answer from {INSIDE}" not in answer.text, f"answered {answer.text[:300]}"
    for provider in (*fleet.providers.values(), evil):
        for each in provider.requests:
            yield from _foreign(each)


def _foreign(arrival):
    """What of an arrival only a caller can have put there."""
    if arrival.method != "POST":
        return
    key = arrival.headers.get("authorization")
    yield key != f"Bearer key-of-{arrival.endpoint}", f"the key {key!r} arrived"
    headers = {"x-evil", "openai-organization"} & arrival.headers.keys()
    yield headers, f"the headers {sorted(headers)} arrived"
    fields = set(arrival.json) - {"model", "messages"}
    yield fields, f"the fields {sorted(fields)} arrived"
