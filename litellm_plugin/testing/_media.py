"""The dialects of media and ranking: images, speech, transcription, moderation (OpenAI) and rerank (Cohere).

Shapes follow https://platform.openai.com/docs/api-reference and https://docs.cohere.com/reference/rerank.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litellm_plugin.testing._wire import Reply

_CATEGORIES = ("harassment", "hate", "self-harm", "sexual", "violence")


def image(reply: Reply) -> dict[str, Any]:
    """Return one image; its bytes are the reply's text."""
    data = base64.b64encode(reply.text.encode()).decode()
    usage = {
        "input_tokens": reply.prompt_tokens,
        "output_tokens": reply.completion_tokens,
        "total_tokens": reply.total_tokens,
        "input_tokens_details": {"text_tokens": reply.prompt_tokens, "image_tokens": 0},
    }
    return {"created": reply.created, "data": [{"b64_json": data}], "usage": usage}


def speech(reply: Reply) -> bytes:
    """Return a recording; its bytes are the reply's text."""
    return reply.text.encode()


def transcription(reply: Reply) -> dict[str, Any]:
    """Return what was said."""
    return {"text": reply.text}


def moderation(reply: Reply) -> dict[str, Any]:
    """Return a judgement that nothing is wrong."""
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0),
    }
    return {"id": f"modr-{reply.id}", "model": reply.model, "results": [result]}


def rerank(reply: Reply) -> dict[str, Any]:
    """Return the documents in their own order."""
    documents = reply.request.get("documents")
    count = len(documents) if isinstance(documents, list) else 0
    results = [{"index": index, "relevance_score": 1 / (index + 1)} for index in range(count)]
    return {
        "id": reply.id,
        "results": results,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }
