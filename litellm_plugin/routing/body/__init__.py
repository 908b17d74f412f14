"""Body facts: what a request body tells routing, read off its structure.

Bodies come from callers: every reader takes any JSON, ignores what it does not know and never raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin.routing.body.conversation import chat_facts, messages_facts, responses_facts
from litellm_plugin.routing.body.gemini import generate_content_facts
from litellm_plugin.routing.body.inputs import (
    completion_facts,
    embedding_facts,
    media_facts,
    pass_through_facts,
    realtime_facts,
    rerank_facts,
    responses_socket_facts,
    speech_facts,
    stored_response_facts,
)
from litellm_plugin.routing.body.transcript import BodyFacts
from litellm_plugin.routing.facts import CallType, RequestFacts
from litellm_plugin.routing.language import detect_language

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from litellm_plugin.routing.body.fields import Body

__all__ = [
    "BodyFacts",
    "chat_facts",
    "completion_facts",
    "embedding_facts",
    "generate_content_facts",
    "messages_facts",
    "request_facts",
    "responses_facts",
]

_READERS: Mapping[CallType, Callable[[Body], BodyFacts]] = {
    CallType.CHAT: chat_facts,
    CallType.MESSAGES: messages_facts,
    CallType.RESPONSES: responses_facts,
    CallType.COMPLETION: completion_facts,
    CallType.EMBEDDING: embedding_facts,
    CallType.MODERATION: embedding_facts,
    CallType.GENERATE_CONTENT: generate_content_facts,
    CallType.RERANK: rerank_facts,
    CallType.IMAGE_GENERATION: media_facts,
    CallType.IMAGE_EDIT: media_facts,
    CallType.SPEECH: speech_facts,
    CallType.TRANSCRIPTION: media_facts,
    CallType.RESPONSES_SOCKET: responses_socket_facts,
    CallType.REALTIME: realtime_facts,
    CallType.STORED_RESPONSE: stored_response_facts,
    CallType.PASS_THROUGH: pass_through_facts,
}


def request_facts(
    call_type: CallType, model_group: str, body: Body, *, wants_language: bool = False
) -> RequestFacts:
    """The facts of a request that its body tells; what its headers and metadata tell is added in the proxy.

    Args:
        call_type: Which published schema the body follows.
        model_group: The model name that was asked for.
        body: Any JSON object.
        wants_language: Whether anything reads the language; without it the language stays unknown, which
            spares the model that tells it.
    """
    facts = _READERS[call_type](body)
    return RequestFacts(
        model_group=model_group,
        call_type=call_type,
        input_tokens=facts.input_tokens,
        largest_input_tokens=facts.largest_input_tokens,
        max_output_tokens=facts.max_output_tokens,
        stream=facts.stream,
        needs=facts.needs,
        tool_count=facts.tool_count,
        tool_step=facts.tool_step,
        image_count=facts.image_count,
        audio_count=facts.audio_count,
        document_count=facts.document_count,
        spoken_characters=facts.spoken_characters,
        output_count=facts.output_count,
        reasoning_effort=facts.reasoning_effort,
        language=detect_language(*facts.asked) if wants_language else None,
        prefix=facts.prefix.digest,
        prefix_tokens=facts.prefix.tokens,
    )
