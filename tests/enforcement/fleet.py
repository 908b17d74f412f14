"""A fleet on loopback: providers, a permit issuer and a real LiteLLM Proxy with this plugin, or without."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import yaml
from battery import Arrivals

from litellm_plugin.testing import Ledger, PermitIssuer, ProxyProcess, RecordingProvider, ServerThread, marker

# Another logger beside the plugin, as operators have one: it writes what LiteLLM tells its callbacks.
LOGGER_MODULE = """
import json, pathlib
from litellm.integrations.custom_logger import CustomLogger
from litellm.llms.custom_httpx import llm_http_handler

# LiteLLM hands a TLS context to each Responses socket, also where the address is ws://; loopback has no TLS.
llm_http_handler.get_shared_realtime_ssl_context = lambda: None

class Logger(CustomLogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        line = json.dumps(kwargs.get("standard_logging_object"), default=str)
        with pathlib.Path("logged.jsonl").open("a") as file:
            file.write(line + "\\n")

logger = Logger()
"""

OPENAI_ENDPOINTS = ("eu-a", "eu-b", "us-a", "us-b")
ANTHROPIC_ENDPOINTS = ("claude-eu", "claude-us")
PRICES = {"eu-a": 3e-6, "eu-b": 2e-6, "us-a": 1e-6, "us-b": 5e-7, "claude-eu": 4e-6, "claude-us": 1e-6}

POLICY: dict[str, Any] = {
    "permit": {"audience": "llm-router", "binding": "body", "issuers": []},
    "classifications": {"public": {}, "internal": {}, "phi": {"require": ["baa"]}},
    "latency_classes": {"interactive": {}, "batch": {}},
    "tenant_tiers": ["free", "pro"],
    "default": {"strategy": "cost"},
    "resilience": {"attempts": 3},
    "egress": {"other_logger.logger": ["public", "internal", "phi"]},
}

# Real settings of a careless operator: what they open must stay shut.
SETTINGS = {
    "litellm_settings": {"cache": True, "cache_params": {"type": "local"}, "default_fallbacks": ["claude"]},
    "router_settings": {
        "num_retries": 0,
        "disable_cooldowns": True,
        "fallbacks": [{"eu-only": ["claude"]}, {"gemini": ["claude", "gpt"]}],
        "model_group_alias": {"gpt-alias": "gpt", "files-alias": "gpt"},
    },
}


# The faults of one test must not count in another's.
UNTOUCHED = {"breaker": None, "retry_budget": None}


def deployment(provider: RecordingProvider, group: str, url: str, **info: Any) -> dict[str, Any]:
    name = provider.name
    facts = {
        "attributes": ["baa"] if name.startswith("eu") else [],
        "supports_function_calling": True,
        "supports_vision": True,
        "supports_response_schema": True,
        "max_input_tokens": 200_000 if name == "eu-a" else 8_000,
        **info,
    }
    model = "anthropic/claude-test" if name in ANTHROPIC_ENDPOINTS else "openai/gpt-test"
    return provider.deployment(group, url, model=model, **facts)


@dataclass
class Fleet:
    """What one module's tests share; `settings` are merged into LiteLLM's configuration, `files` lie beside it."""

    policy: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    registered: bool = True
    startup_hook: bool = True
    algorithm: str = "RS256"
    files: dict[str, str] = field(default_factory=dict)
    workers: int = 1

    def __enter__(self) -> Self:
        self.folder = tempfile.TemporaryDirectory()
        self.issuer = PermitIssuer(algorithm=self.algorithm)
        self.servers = ServerThread()
        names = (*OPENAI_ENDPOINTS, *ANTHROPIC_ENDPOINTS)
        self.providers = {name: RecordingProvider(name, price_usd=(PRICES[name],) * 2) for name in names}
        self.urls = {name: self.servers.add(provider) for name, provider in self.providers.items()}
        self.jwks_url = self.servers.add(self.issuer.app) + "/.well-known/jwks.json"
        self.ledger = Ledger()
        self.allowed_paths: set[tuple[str, str]] = set()
        self.log_path = Path(self.folder.name, "decisions.jsonl")
        config_path = Path(self.folder.name, "config.yaml")
        Path(self.folder.name, "other_logger.py").write_text(LOGGER_MODULE)
        config_path.write_text(yaml.safe_dump(self.config()))
        for name, text in self.files.items():
            Path(self.folder.name, name).write_text(text)
        self.servers.start()
        env = {"PERMIT_ROUTER_LOG": str(self.log_path), **self.env}
        try:
            self.proxy = ProxyProcess(
                config_path,
                env=env,
                startup_hook=self.startup_hook,
                cwd=self.folder.name,
                workers=self.workers,
            )
        except BaseException:
            self.servers.stop()
            raise
        # A fresh connection for each request: uvicorn resets one after an error that LiteLLM lets escape.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(base_url=self.proxy.url, timeout=60, trust_env=False, limits=limits)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.proxy.stop()
        self.servers.stop()
        self.folder.cleanup()

    def config(self) -> dict[str, Any]:
        policy = {**POLICY, **self.policy}
        policy["resilience"] = {**UNTOUCHED, **policy["resilience"]}
        issuers = [
            {"issuer": self.issuer.issuer, "jwks_url": self.jwks_url, "algorithms": ["RS256", "ES256"]}
        ]
        policy["permit"] = {"issuers": issuers, **POLICY["permit"], **self.policy.get("permit", {})}
        policy["permit"]["issuers"] = policy["permit"]["issuers"] or issuers
        policy["egress"] = dict(policy["egress"])
        config: dict[str, Any] = {
            "model_list": [
                *self.group("gpt", OPENAI_ENDPOINTS),
                *self.group("claude", ANTHROPIC_ENDPOINTS),
                *self.group("eu-only", ["eu-b"], id="eu-b-2"),
                *self.dialect("ranker", "cohere/rerank-test", ["eu-a", "us-a"]),
                *self.dialect("gemini", "gemini/gemini-test", ["eu-a", "us-a"]),
                *self.dialect("aio", "aiohttp_openai/gpt-test", ["eu-a", "us-a"]),
            ],
            "litellm_settings": {"permit_router": policy},
            "router_settings": {"num_retries": 0, "disable_cooldowns": True},
            "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        }
        if self.registered:
            config["litellm_settings"]["callbacks"] = ["litellm_plugin.permit_router", "other_logger.logger"]
        for section, entries in self.settings.items():
            config[section] = {**config.get(section, {}), **entries}
        return config

    def group(self, name: str, endpoints: tuple[str, ...] | list[str], **info: Any) -> list[dict[str, Any]]:
        return [deployment(self.providers[each], name, self.urls[each], **info) for each in endpoints]

    def dialect(self, name: str, model: str, endpoints: list[str]) -> list[dict[str, Any]]:
        """A group whose deployments speak another provider's dialect at the same endpoints."""
        return [
            self.providers[each].deployment(name, self.urls[each], model=model, id=f"{each}-{name}")
            for each in endpoints
        ]

    def ready(self) -> Self:
        """Waits until the proxy answers and its first keys are loaded; other faults are a test's own matter."""
        self.proxy.wait_ready()
        deadline_s = time.monotonic() + 60
        while "keys_unavailable" in self.faults() and time.monotonic() < deadline_s:
            time.sleep(0.1)
        return self

    def health(self) -> dict[str, Any]:
        return self.client.get("/permit-router/v1/health").json()

    def faults(self) -> list[str]:
        """The reasons for which the proxy refuses now; none where the plugin is not there."""
        answer = self.client.get("/permit-router/v1/health")
        if answer.headers.get("content-type") != "application/json":
            return []
        return [each["reason"] for each in answer.json().get("faults", [])]

    def clear(self) -> None:
        for provider in self.providers.values():
            provider.clear()
            provider.always(None)
        self.ledger = Ledger()
        self.allowed_paths.clear()

    def body(self, call: str, *, model: str | None = None, **extra: Any) -> tuple[str, dict[str, Any]]:
        """A marked body for one of the five call types, and its marker."""
        mark = marker()
        text = f"hello {mark}"
        model = model or ("claude" if call == "messages" else "gpt")
        content: dict[str, Any] = {
            "chat": {"messages": [{"role": "user", "content": text}]},
            "completions": {"prompt": text},
            "embeddings": {"input": text},
            "messages": {"max_tokens": 16, "messages": [{"role": "user", "content": text}]},
            "responses": {"input": text},
            "image": {"prompt": text},
            "speech": {"input": text, "voice": "alloy"},
            "moderation": {"input": text},
            "rerank": {"query": text, "documents": ["one", "two"]},
            "gemini": {"contents": [{"role": "user", "parts": [{"text": text}]}]},
        }[call]
        named = {} if call == "gemini" else {"model": model}
        return mark, {**named, **content, **extra}

    def send(
        self,
        call: str,
        endpoints: list[str] | tuple[str, ...],
        *,
        path: str | None = None,
        model: str | None = None,
        headers: dict[str, str] | None = None,
        permit: dict[str, Any] | None = None,
        **extra: Any,
    ) -> httpx.Response:
        """Sends a request with a body-bound permit for `endpoints`, past any gateway."""
        mark, body = self.body(call, model=model, **extra)
        self.ledger.allow(mark, endpoints)
        raw = json.dumps(body).encode()
        token = self.issuer.mint(list(endpoints), body=raw, **(permit or {}))
        return self.post(path or PATHS[call], raw, {"x-llm-permit": token, **(headers or {})})

    def send_form(
        self,
        path: str,
        endpoints: list[str],
        fields: dict[str, str],
        file: tuple[str, tuple[str, bytes, str]],
        **permit: Any,
    ) -> httpx.Response:
        """Sends a form with a file, under a permit that is bound to its bytes."""
        mark = marker()
        self.ledger.allow(mark, endpoints)
        name, (filename, content, kind) = file
        part = {name: (filename, content + mark.encode(), kind)}
        request = httpx.Request("POST", self.client.base_url.join(path), data=fields, files=part)
        raw = request.read()
        token = self.issuer.mint(endpoints, body=raw, **permit)
        return self.post(path, raw, {"x-llm-permit": token, "content-type": request.headers["content-type"]})

    def post(self, path: str, raw: bytes, headers: dict[str, str] | list[tuple[str, str]]) -> httpx.Response:
        own = {"authorization": f"Bearer {self.proxy.master_key}"}
        if "content-type" not in dict(headers):
            own["content-type"] = "application/json"
        lines = [*own.items(), *(headers.items() if isinstance(headers, dict) else headers)]
        return self.client.post(path, content=raw, headers=lines)

    def bodiless(
        self, method: str, path: str, endpoints: list[str], *, line: str | None = None, **permit: Any
    ) -> httpx.Response:
        """Sends a request without a body, with a permit that is bound to its request line."""
        token = self.issuer.mint(endpoints, body=(line or f"{method} {path}").encode(), **permit)
        headers = {"authorization": f"Bearer {self.proxy.master_key}", "x-llm-permit": token}
        return self.client.request(method, path, headers=headers)

    def calls(self) -> dict[str, int]:
        counts = {
            name: sum(each.method == "POST" for each in provider.requests)
            for name, provider in self.providers.items()
        }
        return {name: count for name, count in counts.items() if count}

    def out_of_set(self, *others: RecordingProvider) -> list[Any]:
        """Every arrival that no permit named; LiteLLM's own look at the model lists carries no request."""
        judgement = self.ledger.judge([*self.providers.values(), *others])
        return [
            each
            for each in judgement.out_of_set
            if (each.method, each.path, each.body) != ("GET", "/v1/models", b"")
            and (each.endpoint, each.path) not in self.allowed_paths
        ]

    def wait_for(self, holds: Any) -> None:
        """Waits until something is true: LiteLLM reports the end of a call after its answer."""
        deadline_s = time.monotonic() + 45
        while not holds() and time.monotonic() < deadline_s:
            time.sleep(0.05)

    def arrivals(self, *others: RecordingProvider) -> Arrivals:
        """How many requests arrived since the last `clear`, and how many of them no permit named."""
        inside = sum(self.calls().values())
        elsewhere = sum(each.method == "POST" for other in others for each in other.requests)
        return Arrivals(inside + elsewhere, len(self.out_of_set(*others)))

    def logged(self) -> list[dict[str, Any]]:
        """What LiteLLM told another logger."""
        path = Path(self.folder.name, "logged.jsonl")
        lines = path.read_text().splitlines() if path.exists() else []
        # Of a websocket's frames LiteLLM tells events without an object of its own.
        return [logged for logged in map(json.loads, lines) if logged is not None]

    def records(self) -> list[dict[str, Any]]:
        if not self.log_path.exists():
            return []
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def records_of(self, answer: httpx.Response, *, attempts: int = 1) -> list[dict[str, Any]]:
        """The records of one request, once so many of its attempts ended; LiteLLM tells their ends late."""
        request_id = answer.headers["x-permit-request-id"]
        began_s = time.monotonic()
        while True:
            found = [record for record in self.records() if record["request_id"] == request_id]
            ended = [record for record in found if record["type"] == "attempt"]
            # A denied request may have no attempt to wait for.
            patience_s = 5 if any(record.get("outcome") == "denied" for record in found) else 45
            if len(ended) >= attempts or time.monotonic() - began_s > patience_s:
                return found
            time.sleep(0.05)


PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
}
CALLS = tuple(PATHS)
STREAMING = ("chat", "completions", "messages", "responses")
