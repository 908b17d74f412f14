"""A fleet whose LiteLLM sends prompts to more places than endpoints; each of them writes down what it gets."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet import Fleet, deployment

if TYPE_CHECKING:
    from collections.abc import Iterable

# The log host's queue is flushed every second.
QUEUES_S = 2.0
SINKS = ("log_host", "moderator", "handbook", "web", "cache", "unlisted")
EVERYTHING = ["public", "internal", "phi", "secret"]
EGRESS = {
    "other_logger.logger": EVERYTHING,
    "generic_api": ["public"],
    "own_code.told": ["public"],
    "own_code.function": ["public"],
    "own_code.acting": ["public", "internal", "phi"],
    "moderator": ["public", "internal", "secret"],
    "judge": ["public"],
    "searcher": ["public", "internal"],
    "handbook": ["public"],
    "web": ["public"],
    "embed": ["public"],
}

OWN_CODE = '''
import json, pathlib
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.integrations.custom_logger import CustomLogger

def write(name, *seen):
    with pathlib.Path(name).open("a") as file:
        file.write(json.dumps([repr(each) for each in seen]) + "\\n")

class Told(CustomLogger):
    """Every hook that only tells."""
    def log_pre_api_call(self, model, messages, kwargs):
        write("told.jsonl", "before", messages, kwargs)
    def log_post_api_call(self, kwargs, response_obj, start_time, end_time):
        write("told.jsonl", "after", kwargs)
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        write("told.jsonl", "success", kwargs, response_obj)
    async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
        write("told.jsonl", "failure", kwargs, response_obj)
    async def async_post_call_failure_hook(self, request_data, original_exception, user_api_key_dict, traceback_str=None):
        write("told.jsonl", "failed", request_data, original_exception, traceback_str)

class Acting(CustomLogger):
    """Rewrites requests: without it a request is another one."""
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        write("acting.jsonl", data)

def text(data):
    return data["messages"][-1]["content"] if "messages" in data else str(data.get("input") or data.get("prompt"))

class Judge(CustomGuardrail):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        from litellm.proxy.proxy_server import llm_router
        await llm_router.acompletion(model="claude", messages=[{"role": "user", "content": "judge " + text(data)}])

class Searcher(CustomGuardrail):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        from litellm.proxy.proxy_server import llm_router
        await llm_router.asearch(search_tool_name="web", query=text(data))

told, acting = Told(), Acting()

def function(kwargs, response_obj, start_time, end_time):
    write("function.jsonl", kwargs, response_obj)
'''


class Sink:
    """An ASGI app that writes down every body and answers what its callers can go on with."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append((scope["path"], scope["query_string"] + b" " + body))
        payload = json.dumps(_reply(scope["path"], body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": payload})

    def holds(self, mark: str) -> int:
        """How many bodies hold the marker."""
        return sum(mark.encode() in body for _, body in self.bodies)


def _reply(path: str, body: bytes) -> dict[str, Any]:
    if path.endswith("/exists"):
        return {"result": {"exists": True}}
    if path.startswith("/collections"):
        return {"result": [], "status": "ok"}
    if path.endswith("/search"):
        return {
            "object": "vector_store.search_results.page",
            "data": [],
            "results": [],
            "search_query": ["q"],
        }
    if "guardrail" in path:
        return {"action": "NONE"}
    return {}


class EgressFleet(Fleet):
    """LiteLLM with a log host, own callbacks, guardrails, a vector store, a search tool and a semantic cache."""

    def config(self) -> dict[str, Any]:
        self.sinks = {name: Sink() for name in SINKS}
        urls = {name: self.servers.add(sink) for name, sink in self.sinks.items()}
        self.env |= {"GENERIC_LOGGER_ENDPOINT": urls["log_host"], "DEFAULT_FLUSH_INTERVAL_SECONDS": "1"}
        # Credentials that lie in the environment; no setting names the callback that they are for.
        self.env |= {"LANGSMITH_API_KEY": "k", "LANGSMITH_BASE_URL": urls["unlisted"]}
        self.policy = {
            "classifications": {name: {} for name in EVERYTHING},
            "egress": EGRESS,
            **self.policy,
        }
        Path(self.folder.name, "own_code.py").write_text(OWN_CODE)
        config = super().config()
        rag = deployment(self.providers["eu-a"], "rag", self.urls["eu-a"], id="eu-a-rag")
        rag["litellm_params"]["vector_store_ids"] = ["vs_1"]
        asking = [self.guarded(name) for name in ("judge", "searcher")]
        config["model_list"] += [rag, *asking, *self.group("embed", ["us-b"], id="us-b-embed")]
        settings = config["litellm_settings"]
        settings["callbacks"] = [*settings["callbacks"], "generic_api", "own_code.told", "own_code.acting"]
        settings["success_callback"] = ["own_code.function"]
        settings["cache"] = True
        settings["cache_params"] = {
            "type": "qdrant-semantic",
            "qdrant_api_base": urls["cache"],
            "qdrant_collection_name": "c",
            "similarity_threshold": 0.99,
            "qdrant_semantic_cache_embedding_model": "embed",
        }
        config["guardrails"] = [
            guardrail("moderator", "generic_guardrail_api", api_base=urls["moderator"], default_on=True),
            guardrail("judge", "own_code.Judge"),
            guardrail("searcher", "own_code.Searcher"),
        ]
        store = {"vector_store_id": "vs_1", "custom_llm_provider": "openai", "api_key": "k"}
        store["api_base"] = f"{urls['handbook']}/v1"
        config["vector_store_registry"] = [{"vector_store_name": "handbook", "litellm_params": store}]
        tool = {"search_provider": "searxng", "api_base": urls["web"]}
        config["search_tools"] = [{"search_tool_name": "web", "litellm_params": tool}]
        return config

    def guarded(self, name: str) -> dict[str, Any]:
        """A group for which this guardrail runs; a caller cannot ask for one."""
        entry = deployment(self.providers["eu-a"], f"with-{name}", self.urls["eu-a"], id=f"eu-a-{name}")
        entry["litellm_params"]["guardrails"] = [name]
        return entry

    def arrivals(self, mark: str, expected: Iterable[str] = ()) -> dict[str, int]:
        """Where the marker arrived beside the endpoints; LiteLLM's queues are given time to empty."""
        deadline = time.monotonic() + 15
        while not set(expected) <= set(self._counts(mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(QUEUES_S)
        return self._counts(mark)

    def _counts(self, mark: str) -> dict[str, int]:
        counts = {name: sink.holds(mark) for name, sink in self.sinks.items()}
        for name in ("told", "function", "acting", "logged"):
            path = Path(self.folder.name, f"{name}.jsonl")
            lines = path.read_text().splitlines() if path.exists() else []
            counts[name] = sum(mark in line for line in lines)
        return {name: count for name, count in counts.items() if count}


def guardrail(name: str, kind: str, **params: Any) -> dict[str, Any]:
    return {"guardrail_name": name, "litellm_params": {"guardrail": kind, "mode": "pre_call", **params}}
