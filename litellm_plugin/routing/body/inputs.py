"""Inputs: bodies without a conversation, such as a prompt, a batch to embed, or what surrounds an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from litellm_plugin.routing.body.conversation import responses_facts
from litellm_plugin.routing.body.fields import count, first_number, is_token, items, text
from litellm_plugin.routing.body.json_text import json_texts
from litellm_plugin.routing.body.transcript import BodyFacts, Speaker, Transcript, batch_facts
from litellm_plugin.routing.tokens import estimate_tokens

if TYPE_CHECKING:
    from litellm_plugin.routing.body.fields import Body


def completion_facts(body: Body) -> BodyFacts:
    """Reads a text completion body: `prompt` is a text, a list of texts, tokens or lists of tokens.

    Source: https://platform.openai.com/docs/api-reference/completions/create
    """
    return replace(
        _batch(body.get("prompt")),
        max_output_tokens=first_number(body, "max_tokens"),
        stream=body.get("stream") is True,
        output_count=count(body.get("n")),
    )


def embedding_facts(body: Body) -> BodyFacts:
    """Reads an embedding body: `input` is a text, a list of texts, tokens or lists of tokens.

    Source: https://platform.openai.com/docs/api-reference/embeddings/create
    """
    return _batch(body.get("input"))


def rerank_facts(body: Body) -> BodyFacts:
    """Reads a rerank body: a query that is read beside each of the documents.

    Source: https://docs.cohere.com/reference/rerank
    """
    documents = [
        each if isinstance(each, str) else " ".join(json_texts(each)) for each in items(body.get("documents"))
    ]
    query = estimate_tokens(text(body.get("query")))
    facts = batch_facts(documents, largest=0 if documents else None)
    return replace(
        facts,
        input_tokens=facts.input_tokens + query * len(documents),
        largest_input_tokens=None
        if facts.largest_input_tokens is None
        else facts.largest_input_tokens + query,
        asked=(text(body.get("query")),),
    )


def media_facts(body: Body) -> BodyFacts:
    """Reads what surrounds an image or a recording: its text, and how many media there are.

    Source: https://platform.openai.com/docs/api-reference/images and `/audio`
    """
    transcript = Transcript()
    for name in ("prompt", "input", "instructions"):
        transcript.say(Speaker.USER, text(body.get(name)))
    facts = transcript.facts(
        stream=body.get("stream") in (True, "true"), output_count=count(_typed(body.get("n")))
    )
    images = body.get("image", body.get("image[]"))
    return replace(
        facts,
        image_count=len(images) if isinstance(images, list) else int(images is not None),
        audio_count=int(body.get("file") is not None),
    )


def speech_facts(body: Body) -> BodyFacts:
    """Reads a speech body: `input` is spoken, and `instructions` only say how.

    Source: https://platform.openai.com/docs/api-reference/audio/createSpeech
    """
    return replace(media_facts(body), spoken_characters=len(text(body.get("input"))))


def responses_socket_facts(body: Body) -> BodyFacts:
    """Reads the first `response.create` of a Responses socket, which is a body of that API; it always streams."""
    return replace(responses_facts(body), stream=True)


def realtime_facts(_: Body) -> BodyFacts:
    """Gives what is known of a realtime session: nothing was said when it is routed."""
    return BodyFacts(stream=True)


def stored_response_facts(body: Body) -> BodyFacts:  # noqa: ARG001 - the shape of every reader
    """A call that names a stored response by its id carries nothing else."""
    return BodyFacts()


def pass_through_facts(body: Body) -> BodyFacts:
    """Reads a body in a provider's own schema: its size, for the cost; whether it fits is the provider's to say."""
    return BodyFacts(
        input_tokens=estimate_tokens(*json_texts(body)),
        largest_input_tokens=0,
        stream=body.get("stream") is True,
    )


def _batch(value: object) -> BodyFacts:
    """A list that starts with a token is one input."""
    is_list = isinstance(value, list) and bool(value) and not is_token(value[0])
    inputs = items(value) if is_list else [value]
    numbered = [len(each) for each in inputs if isinstance(each, list)]
    is_batch = len(inputs) > 1
    return batch_facts(
        [each for each in inputs if isinstance(each, str)],
        tokens=sum(numbered),
        largest=max(numbered, default=0) if is_batch else None,
    )


def _typed(value: object) -> object:
    """A form's field is text."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 4 else value  # noqa: PLR2004
