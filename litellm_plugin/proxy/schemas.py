"""Schemas: the fields that the providers publish for each kind of call.

An allow-list, not a deny-list: the published request schemas, field by field, and a short list that steers
sampling on self-hosted servers.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing.facts import CallType

if TYPE_CHECKING:
    from collections.abc import Mapping

# https://platform.openai.com/docs/api-reference/chat/create
_CHAT: Final = frozenset(
    [
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)
# https://platform.openai.com/docs/api-reference/completions/create
_COMPLETION: Final = frozenset(
    [
        "best_of",
        "echo",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_tokens",
        "model",
        "n",
        "presence_penalty",
        "prompt",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "suffix",
        "temperature",
        "top_p",
        "user",
    ]
)
# https://platform.openai.com/docs/api-reference/embeddings/create
_EMBEDDING: Final = frozenset(["dimensions", "encoding_format", "input", "model", "user"])
# https://platform.openai.com/docs/api-reference/responses/create, without what refers to work outside the request
_RESPONSES: Final = frozenset(
    [
        "context_management",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    ]
)
# https://docs.anthropic.com/en/api/messages
_MESSAGES: Final = frozenset(
    [
        "cache_control",
        "context_management",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    ]
)
# https://ai.google.dev/api/generate-content, without `cachedContent`, which refers to stored state
_GENERATE_CONTENT: Final = frozenset(
    [
        "contents",
        "generationConfig",
        "generation_config",
        "labels",
        "model",
        "safetySettings",
        "safety_settings",
        "stream",
        "systemInstruction",
        "system_instruction",
        "toolConfig",
        "tool_config",
        "tools",
    ]
)
_IMAGE: Final = frozenset(
    [
        "background",
        "model",
        "n",
        "output_compression",
        "output_format",
        "partial_images",
        "prompt",
        "quality",
        "response_format",
        "size",
        "stream",
        "user",
    ]
)
# https://platform.openai.com/docs/api-reference/images/create and `/createEdit`
_IMAGE_GENERATION: Final = _IMAGE | {"moderation", "style"}
_IMAGE_EDIT: Final = _IMAGE | {"image", "input_fidelity", "mask"}
# https://platform.openai.com/docs/api-reference/audio/createSpeech
_SPEECH: Final = frozenset(
    ["input", "instructions", "model", "response_format", "speed", "stream_format", "user", "voice"]
)
# https://platform.openai.com/docs/api-reference/audio/createTranscription
_TRANSCRIPTION: Final = frozenset(
    [
        "chunking_strategy",
        "file",
        "include",
        "keywords",
        "known_speaker_names",
        "known_speaker_references",
        "language",
        "languages",
        "model",
        "prompt",
        "response_format",
        "stream",
        "temperature",
        "timestamp_granularities",
        "user",
    ]
)
# https://docs.cohere.com/reference/rerank, both versions
_RERANK: Final = frozenset(
    [
        "documents",
        "max_chunks_per_doc",
        "max_tokens_per_doc",
        "model",
        "query",
        "rank_fields",
        "return_documents",
        "top_n",
    ]
)
# https://platform.openai.com/docs/api-reference/moderations/create
_MODERATION: Final = frozenset(["input", "model"])
_SOCKET: Final = frozenset(["model"])
# The id, from the path; LiteLLM sets the other one to nothing.
_STORED_RESPONSE: Final = frozenset(["model", "response_id"])
# Not in OpenAI's schema, but understood by LiteLLM for other providers: sampling, and Anthropic's thinking.
_SAMPLING: Final = frozenset({"top_k", "min_p", "repetition_penalty"})
_THINKING: Final = frozenset({"thinking"})

PUBLISHED_CONTENT: Final = frozenset(
    [
        "messages",
        "prompt",
        "input",
        "system",
        "instructions",
        "tools",
        "functions",
        "suffix",
        "documents",
        "contents",
        "systemInstruction",
        "system_instruction",
        "query",
        "file",
        "image",
        "mask",
        "audio",
        "prediction",
    ]
)
"""Fields in which a call may carry what somebody wrote."""

PUBLISHED: Final[Mapping[CallType, frozenset[str]]] = MappingProxyType(
    {
        CallType.CHAT: _CHAT | _SAMPLING | _THINKING,
        CallType.COMPLETION: _COMPLETION | _SAMPLING,
        CallType.EMBEDDING: _EMBEDDING,
        CallType.MESSAGES: _MESSAGES,
        CallType.RESPONSES: _RESPONSES,
        CallType.GENERATE_CONTENT: _GENERATE_CONTENT,
        CallType.IMAGE_GENERATION: _IMAGE_GENERATION,
        CallType.IMAGE_EDIT: _IMAGE_EDIT,
        CallType.SPEECH: _SPEECH,
        CallType.TRANSCRIPTION: _TRANSCRIPTION,
        CallType.RERANK: _RERANK,
        CallType.MODERATION: _MODERATION,
        # Of a socket only the model stands in the request; its frames are read in frames.py.
        CallType.RESPONSES_SOCKET: _SOCKET,
        CallType.REALTIME: _SOCKET,
        CallType.STORED_RESPONSE: _STORED_RESPONSE,
        # The provider's own schema, which nobody knows here.
        CallType.PASS_THROUGH: frozenset(),
    }
)
