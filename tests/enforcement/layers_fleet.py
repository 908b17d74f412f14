"""A fleet whose proxy can lose one layer of the permit router at a time, to see what the others hold."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet import POLICY, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

FORGET = '''
def forget_callers_deployments():
    """LiteLLM before 1.106 keeps a deployment for a call that brought an address or a key, and offers it to the next."""
    router = proxy_server.llm_router
    for entry in list(router.get_model_list() or []):
        if entry["model_info"].get("original_model_id"):
            router.delete_deployment(id=entry["model_info"]["id"])
'''

SABOTEUR = '''
"""Takes parts of the permit router out of this process, as no setting can: a test of the parts that are left.

`off.txt` names the parts that are out, read at each use. Presence sees every such part and refuses all requests,
so its look is out from the start; tests/enforcement/test_run_time_presence.py is its own test.
"""
import json, pathlib
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from litellm_plugin.proxy import admission, plugin
from litellm_plugin.proxy.admission import Admission
from litellm_plugin.proxy.backstop import Backstop
from litellm_plugin.proxy.hooks import PermitRouter
from litellm_plugin.proxy.payload import Payload

class Saboteur(CustomLogger):
    pass

saboteur = Saboteur()

def is_off(part):
    return part in pathlib.Path("off.txt").read_text().split()

def may_lose(part, owner, name, instead):
    whole = getattr(owner, name)
    def either(*arguments, **options):
        return (instead if is_off(part) else whole)(*arguments, **options)
    setattr(owner, name, either)

def hook_may_be_lost(part, name, instead):
    whole = getattr(PermitRouter, name)
    async def either(self, *arguments, **options):
        if is_off(part):
            return instead(*arguments, **options)
        return await whole(self, *arguments, **options)
    setattr(PermitRouter, name, either)

def straight(self, scope, receive, send):
    return self.app(scope, receive, send)

may_lose("admission", Admission, "__call__", straight)
may_lose("backstop", Backstop, "__call__", straight)
may_lose("body-scrub", admission, "publish", lambda read, call_type, body, extra: Payload(body, read(body)))
may_lose("header-scrub", admission, "scrubbed", lambda scope, state, current=None: scope)
hook_may_be_lost("pre-call", "async_pre_call_hook", lambda user_api_key_dict, cache, data, call_type: data)
hook_may_be_lost("selection", "async_filter_deployments", lambda model, healthy_deployments, **rest: healthy_deployments)
hook_may_be_lost("final-check", "async_pre_call_deployment_hook", lambda kwargs, call_type: None)

def look():
    """In presence's place, asked at each request: sets LiteLLM's own switches, and tells the router's state."""
    router = getattr(proxy_server.llm_router, "_core", proxy_server.llm_router)
    proxy_server.general_settings["allow_client_side_credentials"] = is_off("litellm-credential-check")
    if router is not None:
        forget_callers_deployments()
        router.disable_cooldowns = not is_off("disable-cooldowns")
    if is_off("secrecy"):
        # LiteLLM 1.101 keeps both in one cache.
        caches = router.cache.in_memory_cache, getattr(router.cooldown_cache, "in_memory_cache", None)
        kept = {key: cache.cache_dict[key] for cache in caches if cache for key in cache.cache_dict}
        cooled = sorted(key for key in kept if "cooldown" in key)
        fails = {key: int(kept[key]) for key in kept if key.endswith(":fails")}
        pathlib.Path("router.json").write_text(json.dumps({"cooled": cooled, "fails": fails}))
    return []

plugin._runtime._presence = look
'''


class LayersFleet(Fleet):
    """A fleet in which `without` takes named parts out for a while."""

    def config(self) -> dict[str, Any]:
        Path(self.folder.name, "saboteur.py").write_text(SABOTEUR + FORGET)
        self._write(())
        config = super().config()
        settings = config["litellm_settings"]
        settings["callbacks"].append("saboteur.saboteur")
        settings["permit_router"]["egress"] = {
            **POLICY["egress"],
            "saboteur.saboteur": ["public", "internal", "phi"],
        }
        return config

    @contextlib.contextmanager
    def without(self, *parts: str) -> Iterator[None]:
        self._write(parts)
        try:
            yield
        finally:
            self._write(())

    def router_state(self, *parts: str) -> dict[str, Any]:
        """LiteLLM's own keys of what its router cools, and how many failures of this minute it counts of what."""
        with self.without("secrecy", *parts):
            self.health()
        return json.loads(Path(self.folder.name, "router.json").read_text())

    def _write(self, parts: tuple[str, ...]) -> None:
        # Renamed into place, so that the proxy never reads a half.
        new = Path(self.folder.name, f"off-{time.monotonic_ns()}.txt")
        new.write_text(" ".join(parts))
        new.replace(Path(self.folder.name, "off.txt"))
