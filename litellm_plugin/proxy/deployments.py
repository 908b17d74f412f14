"""Deployments: LiteLLM's router read as candidates, and where a call is really about to go."""

from __future__ import annotations

import operator
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import litellm

from litellm_plugin.proxy.candidate_facts import candidate, deployment_id, endpoint_name
from litellm_plugin.proxy.cost_map import known_model, resolved
from litellm_plugin.proxy.declared_facts import allows_synthetic_prompts, why_not_asked
from litellm_plugin.proxy.fields import DESTINATION
from litellm_plugin.proxy.quota_facts import quota
from litellm_plugin.routing import CandidateGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from litellm_plugin.routing.candidates import Candidate
    from litellm_plugin.state import Quota

__all__ = ["Deployments", "candidate", "deployment_id", "endpoint_name", "mismatch", "provider_name"]

_READ_LIMIT: Final = 10_000
_GROUP_LIMIT: Final = 1_000
# What a wildcard may stand for: nothing by which a URL's host, path or query could become another one.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]*(?:/[A-Za-z0-9][A-Za-z0-9._:@+-]*)*")
_PLAIN_NAME_CHARS: Final = 256
# These put the model into the JSON body, as all of LiteLLM's `openai_compatible_providers` do but for a few,
# which put it into the path of some call: llms/{azure_ai,baseten,deepinfra,nvidia_nim,ragflow}/.
_MODEL_IN_BODY: Final = frozenset({"openai", "openrouter", "text-completion-openai"})
_MODEL_IN_PATH: Final = frozenset({"azure_ai", "baseten", "deepinfra", "nvidia_nim", "ragflow"})


class Deployments:
    """Reads LiteLLM's router anew at each call, since LiteLLM may replace or change it at any time.

    What was read of a deployment is kept as long as LiteLLM's own objects for it stay the same.

    Args:
        router: The router to read; None is the proxy's own.

    Attributes:
        declares_languages: Whether a deployment is known that declares the languages it covers.
    """

    def __init__(self, router: Any | None = None) -> None:
        self._router = router
        self._read: dict[str, tuple[object, object, object, Candidate]] = {}
        self._groups: dict[str, CandidateGroup] = {}
        self._listed: list[Mapping[str, Any]] = []
        self.declares_languages = False

    def router(self) -> Any | None:
        """LiteLLM's router; None until its configuration was loaded."""
        if self._router is not None:
            return self._router
        from litellm.proxy import proxy_server  # noqa: PLC0415 - imported by the proxy itself, seconds to import

        return proxy_server.llm_router

    def of_group(self, group: str, team: str | None = None) -> tuple[Candidate, ...]:
        """All deployments of a model group, or the one deployment of that id; empty when there is neither.

        A team's own deployments of that name stand in the group's place, as in LiteLLM's router.
        """
        return tuple(self._candidate(entry) for entry in self._entries(group, team))

    def with_health(
        self, group: str, offered: Iterable[Mapping[str, Any]], team: str | None = None
    ) -> tuple[Candidate, ...]:
        """The whole group, each marked by whether LiteLLM offers it now.

        Authorization is computed over the whole group: what LiteLLM holds back is unavailable, not
        unauthorized. What it offers under this name without listing it in the group comes last. Facts are those that
        are configured, never those of an entry that was offered: any callback may have written into it.
        """
        whole = {deployment_id(entry): entry for entry in self._entries(group, team)}
        available = {deployment_id(entry) for entry in offered}
        others = {name: self.configured(name) for name in sorted(available - whole.keys())}
        entries = {**whole, **{name: entry for name, entry in others.items() if entry is not None}}
        read = ((name, self._candidate(entry)) for name, entry in entries.items())
        return tuple(
            found if name in available else replace(found, is_available=False) for name, found in read
        )

    def indexed(self, name: str, candidates: Sequence[Candidate]) -> CandidateGroup:
        """The candidates with an index, which is kept by name as long as they stay the same."""
        known = self._groups.get(name)
        if known is not None and known.candidates == tuple(candidates):
            return known
        if len(self._groups) >= _GROUP_LIMIT:
            self._groups.clear()
        self._groups[name] = found = CandidateGroup.of(candidates)
        return found

    def single(self, wanted_id: str) -> tuple[Candidate, ...]:
        """The deployment of this id as the only candidate; empty when LiteLLM has none."""
        entry = self.configured(wanted_id)
        return (candidate(entry),) if entry is not None else ()

    def configured(self, wanted_id: str) -> Mapping[str, Any] | None:
        """The configured deployment of this id, as a mapping; None when LiteLLM has none.

        LiteLLM before 1.106 keeps a deployment of its own for a call that brings an address or a key, and marks
        it with the id of the one that it stands for: nobody configured that.
        """
        router = self.router()
        found = router.get_deployment(model_id=wanted_id) if router is not None and wanted_id else None
        entry = found.model_dump(exclude_none=True) if found is not None else None
        return None if entry is None or entry["model_info"].get("original_model_id") else entry

    def of_endpoint(self, endpoint: str) -> tuple[Candidate, ...]:
        """All deployments of this endpoint name."""
        router = self.router()
        entries = router.get_model_list() or [] if router is not None else []
        return tuple(self._candidate(entry) for entry in entries if endpoint_name(entry) == endpoint)

    def endpoint_names(self) -> frozenset[str] | None:
        """The endpoint names of all deployments; None until LiteLLM's configuration was loaded."""
        router = self.router()
        if router is None:
            return None
        return frozenset(filter(None, map(endpoint_name, router.get_model_list() or [])))

    def have_changed(self) -> bool:
        """Whether LiteLLM lists others than when this was asked last; what it changes inside of one is not seen."""
        router = self.router()
        entries = router.get_model_list() or [] if router is not None else []
        # LiteLLM makes new entries of those that have an alias, each time, round the parameters that they share.
        listed = [entry.get("litellm_params") for entry in entries]
        before, self._listed = self._listed, listed
        return len(listed) != len(before) or any(map(operator.is_not, listed, before))

    def quotas(self) -> dict[str, Quota]:
        """What each deployment may be sent in a minute, by its id."""
        router = self.router()
        entries = router.get_model_list() or [] if router is not None else []
        return {deployment_id(entry): quota(entry) for entry in entries}

    def synthetic(self) -> dict[str, str]:
        """The deployments that may be asked with the plugin's own prompt: their modes, by id."""
        router = self.router()
        entries = router.get_model_list() or [] if router is not None else []
        return {deployment_id(entry): mode for entry in entries if (mode := asked_mode(entry)) is not None}

    def _candidate(self, entry: Mapping[str, Any]) -> Candidate:
        info, params, prices = entry.get("model_info"), entry.get("litellm_params"), litellm.model_cost
        name = deployment_id(entry)
        known = self._read.get(name)
        if known is not None and known[0] is info and known[1] is params and known[2] is prices:
            return known[3]
        if len(self._read) >= _READ_LIMIT:
            self._read.clear()
        found = candidate(entry)
        self.declares_languages |= found.languages is not None
        self._read[name] = (info, params, prices, found)
        return found

    def _entries(self, group: str, team: str | None) -> list[Mapping[str, Any]]:
        router = self.router()
        if router is None:
            return []
        listed = router.get_model_list(model_name=group, team_id=team) or []
        if listed:
            return list(listed)
        single = self.configured(group)
        return [single] if single is not None else []


def provider_name(entry: Mapping[str, Any]) -> str:
    """LiteLLM's name of the provider that a configured deployment calls."""
    params: Mapping[str, Any] = entry.get("litellm_params") or {}
    return resolved(str(params.get("model") or ""), _text(params.get("custom_llm_provider")))[1]


def asked_mode(entry: Mapping[str, Any]) -> str | None:
    """What a configured deployment is asked when it is asked with the plugin's own prompt; None where it is not."""
    if not allows_synthetic_prompts(entry):
        return None
    info: Mapping[str, Any] = entry.get("model_info") or {}
    params: Mapping[str, Any] = entry.get("litellm_params") or {}
    known = known_model(info, params, provider_name(entry))[1]
    mode = info.get("mode") or known.get("mode")
    return str(mode or "chat") if why_not_asked(params, mode) is None else None


def mismatch(call: Mapping[str, Any], entry: Mapping[str, Any]) -> str | None:
    """Says what of a call differs from the configured deployment; None when it goes where it should.

    Args:
        call: The keyword arguments that LiteLLM is about to call the provider with.
        entry: The configured deployment.
    """
    params: Mapping[str, Any] = entry.get("litellm_params") or {}
    for name in DESTINATION:
        if _plain(call.get(name)) != _plain(params.get(name)):
            return name
    if not _same_model(call, params):
        return "model"
    return None


def _plain(value: object) -> object:
    """A value without the wrappers that LiteLLM puts round secrets; empty means absent."""
    reveal = getattr(value, "get_secret_value", None)
    plain = reveal() if callable(reveal) else value
    return plain or None


def _same_model(call: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    wanted = str(params.get("model") or "")
    actual = str(call.get("model") or "")
    wanted_provider = _text(params.get("custom_llm_provider"))
    actual_provider = _text(call.get("custom_llm_provider"))
    is_wildcard = "*" in wanted
    if not is_wildcard and (wanted, wanted_provider) == (actual, actual_provider):
        return True
    bare, provider = resolved(wanted, wanted_provider)
    bare_actual, provider_actual = resolved(actual, actual_provider)
    if provider != provider_actual:
        return False
    return _fills(bare_actual, bare, provider) if is_wildcard else bare == bare_actual


def _fills(model: str, pattern: str, provider: str) -> bool:
    """Whether a model is the pattern with plain names in place of its stars."""
    found = re.fullmatch("(.+)".join(map(re.escape, pattern.split("*"))), model)
    return found is not None and all(_is_plain(part, provider) for part in found.groups())


def _is_plain(name: str, provider: str) -> bool:
    if len(name) > _PLAIN_NAME_CHARS or ".." in name or "arn:" in name.lower():
        return False
    if "/" in name and not _has_model_in_body(provider):
        return False
    return _PLAIN_NAME.fullmatch(name) is not None


def _has_model_in_body(provider: str) -> bool:
    is_compatible = provider in litellm.openai_compatible_providers and provider not in _MODEL_IN_PATH
    return is_compatible or provider in _MODEL_IN_BODY


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
