from __future__ import annotations

import pytest
from anthropic.types import message_create_params as anthropic_messages
from openai.types import completion_create_params as openai_completion
from openai.types import embedding_create_params as openai_embedding
from openai.types import image_edit_params as openai_image_edit
from openai.types import image_generate_params as openai_image
from openai.types import moderation_create_params as openai_moderation
from openai.types.audio import speech_create_params as openai_speech
from openai.types.audio import transcription_create_params as openai_transcription
from openai.types.chat import completion_create_params as openai_chat
from openai.types.responses import response_create_params as openai_responses

from litellm_plugin.proxy.schemas import PUBLISHED
from litellm_plugin.routing.facts import CallType

SDK_TYPES = {
    CallType.CHAT: openai_chat.CompletionCreateParamsBase,
    CallType.COMPLETION: openai_completion.CompletionCreateParamsBase,
    CallType.EMBEDDING: openai_embedding.EmbeddingCreateParams,
    CallType.RESPONSES: openai_responses.ResponseCreateParamsBase,
    CallType.MESSAGES: anthropic_messages.MessageCreateParamsBase,
    CallType.IMAGE_GENERATION: openai_image.ImageGenerateParamsBase,
    CallType.IMAGE_EDIT: openai_image_edit.ImageEditParamsBase,
    CallType.SPEECH: openai_speech.SpeechCreateParams,
    CallType.TRANSCRIPTION: openai_transcription.TranscriptionCreateParamsBase,
    CallType.MODERATION: openai_moderation.ModerationCreateParams,
}
# The SDKs declare `stream` in classes of their own.
STREAMED = {*SDK_TYPES} - {CallType.EMBEDDING, CallType.SPEECH, CallType.MODERATION}
# Reviewed differences from the installed SDKs; a new SDK that adds a field fails here until somebody decides.
LEFT_OUT = {
    CallType.RESPONSES: {"background", "conversation", "prompt"},  # refused
    # Refused; and whose account, and what is kept.
    CallType.MESSAGES: {"container", "inference_geo", "diagnostics", "user_profile_id", "workspace_id"},
}
ADDED = {
    # Sampling of self-hosted servers, and what LiteLLM translates for Anthropic.
    CallType.CHAT: {"min_p", "repetition_penalty", "thinking", "top_k"},
    CallType.COMPLETION: {"min_p", "repetition_penalty", "top_k"},
    # Published by Anthropic, absent from some SDK versions.
    CallType.MESSAGES: {"context_management", "temperature", "top_k", "top_p"},
    # LiteLLM sets it to the key's user.
    CallType.SPEECH: {"user"},
    CallType.TRANSCRIPTION: {"user"},
}


@pytest.mark.parametrize("call_type", SDK_TYPES)
def test_the_allow_list_is_the_installed_sdks_schema(call_type):
    schema = {*SDK_TYPES[call_type].__annotations__} | ({"stream"} if call_type in STREAMED else set())
    missing = schema - PUBLISHED[call_type] - LEFT_OUT.get(call_type, set())
    extra = PUBLISHED[call_type] - schema - ADDED.get(call_type, set())
    assert (missing, extra) == (set(), set())


@pytest.mark.parametrize("call_type", CallType)
def test_what_was_left_out_is_not_in_the_allow_list(call_type):
    assert not LEFT_OUT.get(call_type, set()) & PUBLISHED[call_type]


def test_every_kind_of_call_has_a_schema():
    assert PUBLISHED.keys() == {*CallType}
