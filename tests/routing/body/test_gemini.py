from __future__ import annotations

import pytest

from litellm_plugin.routing import Capability
from litellm_plugin.routing.body import generate_content_facts


def parts(*values, **fields):
    return {"contents": [{"role": "user", "parts": list(values)}], **fields}


def media(mime_type):
    return {"inlineData": {"mimeType": mime_type, "data": "xxxx"}}


@pytest.mark.parametrize(
    ("body", "field", "expected"),
    [
        pytest.param(parts(media("image/png"), media("image/png")), "image_count", 2, id="images"),
        pytest.param(
            parts({"file_data": {"mime_type": "audio/mp3"}}), "audio_count", 1, id="audio, snake case"
        ),
        pytest.param(parts(media("application/pdf")), "document_count", 1, id="document"),
        pytest.param(parts(media("video/mp4")), "needs", {Capability.VISION}, id="video"),
        pytest.param(parts(media("video/mp4")), "image_count", 0, id="a video is no image"),
        pytest.param(parts(tools=[{"googleSearch": {}}]), "tool_count", 0, id="provider's tool"),
        pytest.param(
            parts(tools=[{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}]),
            "tool_count",
            2,
            id="tools",
        ),
        pytest.param(parts(generationConfig={"candidateCount": 4}), "output_count", 4, id="candidates"),
        pytest.param(parts(generation_config={"max_output_tokens": 5}), "max_output_tokens", 5, id="limit"),
        pytest.param(
            parts(generationConfig={"responseSchema": {"type": "OBJECT"}}),
            "needs",
            {Capability.RESPONSE_SCHEMA},
            id="schema",
        ),
        pytest.param(
            parts(generationConfig={"thinkingConfig": {"thinkingBudget": 1024}}),
            "reasoning_effort",
            "low",
            id="budget",
        ),
    ],
)
def test_generate_content_facts(body, field, expected):
    assert getattr(generate_content_facts(body), field) == expected


def test_a_result_of_many_fields_counts_as_json():
    def body(response):
        return parts({"functionResponse": {"name": "f", "response": response}})

    plain = generate_content_facts(body({"output": "hello world"}))
    many = generate_content_facts(body({"output": "hello world", "status": 200}))
    assert many.input_tokens > plain.input_tokens
