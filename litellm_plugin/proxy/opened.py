"""Opened paths: whether what the policy block opens exists, and is what the block says it is."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from litellm.proxy import _lazy_features
from litellm.proxy.auth.route_checks import RouteChecks

from litellm_plugin.proxy.paths import ADMINISTRATIVE, GOVERNED, PASS_THROUGH_MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from litellm_plugin.proxy.paths import RouteTable

_BLOCK: Final = "litellm_settings.permit_router.paths"
# LiteLLM's handlers for the list of pass-throughs, in the same modules.
_ABOUT_PASS_THROUGH: Final = "/config/pass_through_endpoint"  # noqa: S105 - a path
# Words in LiteLLM's paths that carry a prompt, or run something with one, without asking a hook of each call.
_PROMPT_WORDS: Final = frozenset(
    [
        "apply_guardrail",
        "batches",
        "chat",
        "compliance",
        "count_tokens",
        "enrich",
        "evals",
        "event_logging",
        "files",
        "fine_tuning",
        "input_tokens",
        "lens",
        "mcp",
        "mcp-rest",
        "memory",
        "messages",
        "otel-spans",
        "plugin-proxy",
        "queue",
        "shadow_eval",
        "skills",
        "start",
        "suggest",
        "test",
        "test-pipeline",
        "test_connection",
        "test_custom_code",
        "test_policies_and_guardrails",
        "test_routing",
        "token_counter",
        "toolset",
        "traces",
        "transform_request",
        "videos",
        "workflows",
    ]
)


def forbidden(opened: Mapping[tuple[str, str], str | None], config: Mapping[str, Any]) -> Iterator[str]:
    """Says which paths may not be opened so, and why, as far as the configuration tells.

    Args:
        opened: The opened paths.
        config: LiteLLM's whole configuration.
    """
    targets = _configured(config)
    for (method, template), endpoint in opened.items():
        where = f"{_BLOCK}: {method} {template}"
        if (method, template) in GOVERNED:
            yield f"{where} is governed: it is open to every request with a permit; remove it"
        elif (method, template) in ADMINISTRATIVE:
            yield f"{where} is open already; remove it"
        elif endpoint is None:
            if template in targets or "{endpoint}" in template:
                yield f"{where} is a pass-through to a provider; write the endpoint it stands for: endpoint: NAME"
            elif _carries_prompt(template):
                yield f"{where} carries prompts, and no permit would be asked for; remove it"
        elif template in targets and not _is_at(targets[template], endpoint, config):
            yield (
                f"{where} stands for {endpoint!r}, but its target {targets[template][:80]!r} is at none of that "
                "endpoint's addresses (litellm_params.api_base)"
            )


def _carries_prompt(template: str) -> bool:
    return bool(RouteChecks.is_llm_api_route(template)) or not _PROMPT_WORDS.isdisjoint(template.split("/"))


def _configured(config: Mapping[str, Any]) -> dict[str, str]:
    """The targets of LiteLLM's `pass_through_endpoints` by their templates."""
    general = config.get("general_settings")
    if not isinstance(general, dict):
        return {}
    found: dict[str, str] = {}
    for entry in general.get("pass_through_endpoints") or ():
        path, target = str(entry.get("path") or ""), str(entry.get("target") or "")
        found[path] = target
        if entry.get("include_subpath"):
            found[f"{path}/{{subpath}}"] = target
    return found


def _is_at(target: str, endpoint: str, config: Mapping[str, Any]) -> bool:
    """Whether a target's scheme and host are an address of the endpoint; true where it declares none."""
    declared = set()
    for entry in config.get("model_list") or ():
        info, params = entry.get("model_info") or {}, entry.get("litellm_params") or {}
        if (info.get("endpoint") or info.get("id")) == endpoint and params.get("api_base"):
            declared.add(_origin(str(params["api_base"])))
    return not declared or _origin(target) in declared


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


class OpenedPaths:
    """Holds the opened paths against the app's routes, which LiteLLM adds to at any time.

    Args:
        opened: The opened paths.
        table: The app's routes.
    """

    def __init__(self, opened: Mapping[tuple[str, str], str | None], table: RouteTable) -> None:
        self._opened = opened
        self._table = table
        self._lazy = _lazy_handlers(opened)
        self._seen: object = None
        self._found: list[str] = []

    def faults(self) -> list[str]:
        """Says which opened paths do not exist or are not what the block says; empty when all is well."""
        if not self._opened:
            return []
        handlers = self._table.handlers()
        if handlers is not self._seen:
            self._found = list(self._compared({**self._lazy, **handlers}))
            self._seen = handlers
        return self._found

    def _compared(self, handlers: Mapping[tuple[str, str], str]) -> Iterator[str]:
        for (method, template), endpoint in self._opened.items():
            module = handlers.get((method, template), handlers.get(("*", template)))
            if module is None:
                paths = sorted({path for known, path in handlers if known == method})
                nearest = difflib.get_close_matches(template, paths, n=1, cutoff=0.5)
                hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
                yield f"{_BLOCK}: LiteLLM has no path {method} {template[:80]!r}{hint}"
                continue
            is_pass_through = module.startswith(PASS_THROUGH_MODULES) and not template.startswith(
                _ABOUT_PASS_THROUGH
            )
            if endpoint is not None and not is_pass_through:
                yield f"{_BLOCK}: {method} {template} is no pass-through; no endpoint can stand behind it"
            if endpoint is None and is_pass_through:
                yield f"{_BLOCK}: {method} {template} is a pass-through; write the endpoint it stands for"


def _lazy_handlers(opened: Mapping[tuple[str, str], str | None]) -> dict[tuple[str, str], str]:
    """The handlers of the opened paths' features, which LiteLLM adds to its app at their first request."""
    features = [
        feature
        for feature in getattr(_lazy_features, "LAZY_FEATURES", ())
        if any(feature.matches(template) for _, template in opened)
    ]
    found: dict[tuple[str, str], str] = {}
    for feature in features:
        module = importlib.import_module(feature.module_path)
        for route in getattr(getattr(module, "router", None), "routes", ()):
            for method in getattr(route, "methods", None) or ("*",):
                found[method, str(getattr(route, "path_format", ""))] = str(
                    getattr(getattr(route, "endpoint", None), "__module__", "")
                )
    return found
