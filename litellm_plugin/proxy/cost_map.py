"""The cost map: what LiteLLM knows of a model, found as LiteLLM finds it and without asking anybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import litellm
from litellm.litellm_core_utils.get_llm_provider_logic import get_llm_provider

UNKNOWN: Final[tuple[str, Mapping[str, Any]]] = ("", {})
_UNKNOWN: Final = "unknown:"
# `litellm.get_model_info` asks these providers, or logs in to them: llms/{ollama,lemonade}/, utils.py, constants.py.
_ASKED: Final = frozenset({"ollama", "ollama_chat", "lemonade", "huggingface", "github_copilot", "chatgpt"})
# litellm/utils.py, `_check_provider_match`: whose entries stand for more than one provider.
_FAMILIES: Final = ("vertex_ai", "fireworks_ai", "bedrock")
_ANY_ENTRY: Final = frozenset({"litellm_proxy", "github", "nadir"})


def known_model(
    info: Mapping[str, Any], params: Mapping[str, Any], provider: str
) -> tuple[str, Mapping[str, Any]]:
    """LiteLLM's entry for the deployment's base model, else for its model, and that entry's name.

    `model_info.base_model` comes before `litellm_params.base_model`, as in
    litellm/router_utils/deployment_pricing.py.
    """
    base = info.get("base_model") or params.get("base_model")
    for name in (base, params.get("model")):
        if isinstance(name, str) and name and "*" not in name:
            found = _entry(name, provider)
            if found is not UNKNOWN:
                return found
    return UNKNOWN


def is_known(provider: str) -> bool:
    """Whether LiteLLM can place a model that `resolved` gave this provider for."""
    return not provider.startswith(_UNKNOWN)


@lru_cache(maxsize=1024)
def resolved(model: str, custom_llm_provider: str | None) -> tuple[str, str]:
    """The bare model and the provider that LiteLLM will call for it."""
    try:
        bare, provider, _, _ = get_llm_provider(model=model, custom_llm_provider=custom_llm_provider)
    except Exception:  # noqa: BLE001 - LiteLLM raises many kinds here; a model it cannot place matches nothing
        return model, f"{_UNKNOWN}{model}:{custom_llm_provider}"
    # LiteLLM's own mark for a model that answers chats through the Responses API.
    return str(bare).removeprefix(f"{provider}/").removeprefix("responses/"), str(provider)


def _entry(name: str, provider: str) -> tuple[str, Mapping[str, Any]]:
    """The first entry that states a price: LiteLLM's router adds one without any for each name in use."""
    found = [
        (key, entry)
        for key in _keys(name, provider)
        if isinstance(entry := litellm.model_cost.get(key), Mapping) and _is_of(entry, provider)
    ]
    priced = next((each for each in found if any("cost_per" in key for key in each[1])), None)
    return priced or next(iter(found), None) or _looked_up(name, provider)


def _keys(name: str, provider: str) -> Iterator[str]:
    """The names under which LiteLLM looks, the most specific first; `get_model_info_helper`."""
    bare = name.removeprefix(f"{provider}/")
    yield f"{provider}/{bare}"
    yield name
    yield bare
    while bare.startswith(f"{provider}/"):
        bare = bare.removeprefix(f"{provider}/")
        yield bare


def _is_of(entry: Mapping[str, Any], provider: str) -> bool:
    named = entry.get("litellm_provider")
    if named is None or named == provider or provider in _ANY_ENTRY:
        return True
    if provider == "azure_ai":
        return named in {"azure", "openai"}
    return any(provider.startswith(each) and str(named).startswith(each) for each in _FAMILIES)


def _looked_up(name: str, provider: str) -> tuple[str, Mapping[str, Any]]:
    """What LiteLLM finds under a name that it must take apart first: a fine-tuned model, a region, an alias."""
    if provider in _ASKED or provider.startswith("unknown:"):
        return UNKNOWN
    try:
        key = litellm.get_model_info(model=name, custom_llm_provider=provider).get("key")
    except Exception:  # noqa: BLE001 - LiteLLM raises a plain Exception for a model that it does not know
        return UNKNOWN
    entry = litellm.model_cost.get(str(key))
    return (str(key), entry) if isinstance(entry, Mapping) else UNKNOWN
