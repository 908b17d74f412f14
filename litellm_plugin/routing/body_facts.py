"""Body facts: what a request body tells routing, read off its structure and never off its text.

Bodies come from callers: every function here takes any JSON, ignores what it does not know and never raises.
Chat, messages and responses share one walk, so that the same content gives the same facts in each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from litellm_plugin.routing.facts import CallType, Capability, RequestFacts

if TYPE_CHECKING:
    from collections.abc import Iterable

Body: TypeAlias = Mapping[str, object]
_Piece: TypeAlias = int | Capability
"""A number of characters, or something that the request needs."""

# https://help.openai.com/en/articles/4936856: one token is about four characters of English text.
_CHARACTERS_PER_TOKEN = 4
# Above any model's limit, and small enough for every integer type that reads a record.
_LARGEST_LIMIT = 2**31 - 1
# A tool's schema or a tool call's arguments: past this many nodes the size is a floor, the time is bounded.
_MOST_NODES = 10_000
# Tool results hold blocks, documents hold blocks; the dialects nest no deeper than this.
_DEEPEST_BLOCK = 4

_TEXT_FIELDS: Mapping[str, str] = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_MEDIA: Mapping[str, Capability] = {
    "image_url": Capability.VISION,
    "image": Capability.VISION,
    "input_image": Capability.VISION,
    "input_audio": Capability.AUDIO_INPUT,
    "file": Capability.PDF_INPUT,
    "input_file": Capability.PDF_INPUT,
}


@dataclass(frozen=True, slots=True)
class BodyFacts:
    """What a body tells.

    Attributes:
        characters: The length of everything that becomes prompt text.
        max_output_tokens: The caller's limit, in tokens; None when there is none that makes sense.
        stream: Whether the answer is streamed.
        needs: Capabilities without which the request cannot be served.
        largest_characters: The length of the largest single input of a batch; None when it is no batch.
    """

    characters: int
    max_output_tokens: int | None = None
    stream: bool = False
    needs: frozenset[Capability] = frozenset()
    largest_characters: int | None = None


def estimate_tokens(characters: int) -> int:
    """The estimated number of tokens of a text: four characters a token, rounded up."""
    return -(-max(characters, 0) // _CHARACTERS_PER_TOKEN)


def request_facts(call_type: CallType, model_group: str, body: Body) -> RequestFacts:
    """The facts of a request, from a body that follows the schema of its call type."""
    facts = _READERS[call_type](body)
    largest = facts.largest_characters
    return RequestFacts(
        model_group=model_group,
        call_type=call_type,
        input_tokens=estimate_tokens(facts.characters),
        max_output_tokens=facts.max_output_tokens,
        stream=facts.stream,
        needs=facts.needs,
        largest_input_tokens=None if largest is None else estimate_tokens(largest),
    )


def chat_facts(body: Body) -> BodyFacts:
    """Reads a chat completion body.

    Source: https://platform.openai.com/docs/api-reference/chat/create
    """
    pieces = [
        *_conversation(body.get("messages")),
        *_tools(body.get("tools")),
        *_tools(body.get("functions")),
        *_schema_need(body.get("response_format")),
    ]
    return _facts(body, pieces, limits=("max_completion_tokens", "max_tokens"))


def messages_facts(body: Body) -> BodyFacts:
    """Reads a body of Anthropic's Messages API.

    Source: https://docs.anthropic.com/en/api/messages
    """
    pieces = [
        *_blocks(body.get("system")),
        *_conversation(body.get("messages")),
        *_tools(body.get("tools")),
        *_schema_need(body.get("output_format")),
        *_schema_need(_fields(body.get("output_config")).get("format")),
    ]
    return _facts(body, pieces, limits=("max_tokens",))


def responses_facts(body: Body) -> BodyFacts:
    """Reads a body of the Responses API.

    Tools that the provider itself runs, such as `web_search`, need no function calling.

    Source: https://platform.openai.com/docs/api-reference/responses/create
    """
    functions = [each for each in _items(body.get("tools")) if _kind(_fields(each)) in {"function", "custom"}]
    pieces = [
        *_blocks(body.get("instructions")),
        *_conversation(body.get("input")),
        *_tools(functions),
        *_schema_need(_fields(body.get("text")).get("format")),
    ]
    return _facts(body, pieces, limits=("max_output_tokens",))


def completion_facts(body: Body) -> BodyFacts:
    """Reads a text completion body: `prompt` is a text, a list of texts, tokens or lists of tokens.

    Source: https://platform.openai.com/docs/api-reference/completions/create
    """
    return _batch_facts(body, body.get("prompt"), limits=("max_tokens",))


def embedding_facts(body: Body) -> BodyFacts:
    """Reads an embedding body: `input` is a text, a list of texts, tokens or lists of tokens.

    Source: https://platform.openai.com/docs/api-reference/embeddings/create
    """
    return _batch_facts(body, body.get("input"), limits=())


def generate_content_facts(body: Body) -> BodyFacts:
    """Reads a body of Gemini's generateContent; whether it streams stands in its path.

    Source: https://ai.google.dev/api/generate-content
    """
    config = _fields(_either(body, "generationConfig", "generation_config"))
    pieces = [
        *_parts(_either(body, "systemInstruction", "system_instruction")),
        *(piece for each in _items(body.get("contents")) for piece in _parts(each)),
        *(piece for each in _items(body.get("tools")) for piece in _declared(_fields(each))),
    ]
    if _either(config, "responseSchema", "response_schema") or _either(
        config, "responseJsonSchema", "response_json_schema"
    ):
        pieces.append(Capability.RESPONSE_SCHEMA)
    limits = {"max_output_tokens": _either(config, "maxOutputTokens", "max_output_tokens")}
    facts = _facts(body, pieces, limits=())
    return replace(facts, max_output_tokens=_limit(limits, ("max_output_tokens",)))


def rerank_facts(body: Body) -> BodyFacts:
    """Reads a rerank body: a query that is read beside each of the documents.

    Source: https://docs.cohere.com/reference/rerank
    """
    query = _length(body.get("query"))
    lengths = [
        query + (len(each) if isinstance(each, str) else json_characters(each))
        for each in _items(body.get("documents"))
    ]
    return BodyFacts(characters=sum(lengths), largest_characters=max(lengths, default=None))


def media_facts(body: Body) -> BodyFacts:
    """Reads what surrounds an image, speech or a recording: its text, not the media.

    Source: https://platform.openai.com/docs/api-reference/images and `/audio`
    """
    pieces = [_length(body.get(name)) for name in ("prompt", "input", "instructions")]
    return _facts({**body, "stream": body.get("stream") in (True, "true")}, pieces, limits=())


def responses_socket_facts(body: Body) -> BodyFacts:
    """Reads the first `response.create` of a Responses socket, which is a body of that API; it always streams."""
    return replace(responses_facts(body), stream=True)


def realtime_facts(_: Body) -> BodyFacts:
    """Gives what is known of a realtime session: nothing was said when it is routed."""
    return BodyFacts(characters=0, stream=True)


def stored_response_facts(body: Body) -> BodyFacts:  # noqa: ARG001 - the shape of every reader
    """A call that names a stored response by its id carries nothing else."""
    return BodyFacts(characters=0)


def pass_through_facts(body: Body) -> BodyFacts:
    """Reads a body in a provider's own schema: its size, for the cost; whether it fits is the provider's to say."""
    return BodyFacts(
        characters=json_characters(body), stream=body.get("stream") is True, largest_characters=0
    )


def _facts(body: Body, pieces: Iterable[_Piece], *, limits: tuple[str, ...]) -> BodyFacts:
    seen = tuple(pieces)
    return BodyFacts(
        characters=sum(each for each in seen if isinstance(each, int)),
        max_output_tokens=_limit(body, limits),
        stream=body.get("stream") is True,
        needs=frozenset(each for each in seen if isinstance(each, Capability)),
    )


def _batch_facts(body: Body, value: object, *, limits: tuple[str, ...]) -> BodyFacts:
    lengths = [_input_characters(each) for each in _inputs(value)]
    return BodyFacts(
        characters=sum(lengths),
        max_output_tokens=_limit(body, limits),
        stream=body.get("stream") is True,
        largest_characters=max(lengths) if len(lengths) > 1 else None,
    )


def _inputs(value: object) -> list[object]:
    """The single inputs of a batch; a list that starts with a token is one input."""
    if isinstance(value, list) and value and not _is_token(value[0]):
        return value
    return [value]


def _input_characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    return _CHARACTERS_PER_TOKEN * len(_items(value))


def _limit(body: Body, names: tuple[str, ...]) -> int | None:
    """The first of the named fields that holds a limit: a whole number, not negative."""
    for name in names:
        value = body.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return int(min(value, _LARGEST_LIMIT))
    return None


def _conversation(value: object) -> Iterator[_Piece]:
    """A text, or a list of messages and of the Responses API's typed items."""
    if isinstance(value, str):
        yield len(value)
    for item in _items(value):
        fields = _fields(item)
        yield from _blocks(fields.get("content"))
        yield from _block(fields, _DEEPEST_BLOCK)
        yield from _called(fields.get("function_call"))
        for call in _items(fields.get("tool_calls")):
            yield from _called(_fields(call).get("function"))
        if fields.get("role") in ("tool", "function"):
            yield Capability.FUNCTION_CALLING


def _blocks(value: object, depth: int = _DEEPEST_BLOCK) -> Iterator[_Piece]:
    """A text, or a list of content blocks."""
    if isinstance(value, str):
        yield len(value)
    for block in _items(value):
        yield from _block(_fields(block), depth)


def _block(fields: Body, depth: int) -> Iterator[_Piece]:
    if depth == 0:
        return
    kind = _kind(fields)
    if kind in _TEXT_FIELDS:
        yield _length(fields.get(_TEXT_FIELDS[kind]))
    elif kind in _MEDIA:
        yield _MEDIA[kind]
    elif kind == "document":
        yield from _document(_fields(fields.get("source")), depth - 1)
    elif kind == "tool_use":
        yield Capability.FUNCTION_CALLING
        yield _length(fields.get("name")) + json_characters(fields.get("input"))
    elif kind == "tool_result":
        yield Capability.FUNCTION_CALLING
        yield from _blocks(fields.get("content"), depth - 1)
    elif kind in {"function_call", "custom_tool_call"}:
        yield from _called({**fields, "arguments": fields.get("arguments", fields.get("input"))})
    elif kind in {"function_call_output", "custom_tool_call_output"}:
        yield Capability.FUNCTION_CALLING
        yield from _blocks(fields.get("output"), depth - 1)


def _parts(value: object) -> Iterator[_Piece]:
    """Gemini's content: a text, or parts that hold text, media, calls or their results."""
    if isinstance(value, str):
        yield len(value)
    for part in map(_fields, _items(_fields(value).get("parts"))):
        yield _length(part.get("text"))
        media = _fields(_either(part, "inlineData", "inline_data")) or _fields(
            _either(part, "fileData", "file_data")
        )
        yield from _media_need(_either(media, "mimeType", "mime_type"))
        for name in ("functionCall", "function_call", "functionResponse", "function_response"):
            if isinstance(part.get(name), Mapping):
                yield Capability.FUNCTION_CALLING
                yield json_characters(part[name])


def _media_need(mime_type: object) -> Iterator[Capability]:
    kind = mime_type if isinstance(mime_type, str) else ""
    if kind.startswith(("image/", "video/")):
        yield Capability.VISION
    elif kind.startswith("audio/"):
        yield Capability.AUDIO_INPUT
    elif kind == "application/pdf":
        yield Capability.PDF_INPUT


def _declared(tool: Body) -> Iterator[_Piece]:
    """Gemini's function declarations; tools that the provider itself runs need no function calling."""
    declarations = _items(_either(tool, "functionDeclarations", "function_declarations"))
    if declarations:
        yield Capability.FUNCTION_CALLING
        yield sum(json_characters(each) for each in declarations)


def _either(fields: Body, camel: str, snake: str) -> object:
    """A field of Gemini's schema, which is published in two spellings."""
    return fields.get(camel, fields.get(snake))


def _document(source: Body, depth: int) -> Iterator[_Piece]:
    match source.get("type"):
        case "text":
            yield _length(source.get("data"))
        case "content":
            yield from _blocks(source.get("content"), depth)
        case _:
            yield Capability.PDF_INPUT


def _called(value: object) -> Iterator[_Piece]:
    """A function call in the history: its name and its arguments as JSON text."""
    if isinstance(value, Mapping):
        yield Capability.FUNCTION_CALLING
        yield _length(value.get("name")) + _length(value.get("arguments"))


def _tools(value: object) -> Iterator[_Piece]:
    """Tool definitions: they need function calling, and they are prompt text too."""
    for tool in _items(value):
        outer = _fields(tool)
        fields = _fields(outer.get("function")) or outer
        schema = fields.get("parameters", fields.get("input_schema"))
        yield Capability.FUNCTION_CALLING
        yield _length(fields.get("name")) + _length(fields.get("description")) + json_characters(schema)


def _schema_need(value: object) -> Iterator[_Piece]:
    if _fields(value).get("type") == "json_schema":
        yield Capability.RESPONSE_SCHEMA


def json_characters(value: object) -> int:
    """The length of a value as compact JSON, without making it; nothing for None, a number as five digits."""
    if value is None:
        return 0
    characters = 0
    stack = [value]
    for _ in range(_MOST_NODES):
        if not stack:
            break
        characters += _node_characters(stack.pop(), stack)
    return characters


def _node_characters(node: object, stack: list[object]) -> int:
    """The length of one node's own text; its children go on the stack."""
    match node:
        case str():
            return len(node) + 2
        case Mapping():
            stack.extend(node.values())
            return 2 + sum(_length(key) + 3 for key in node) + max(len(node) - 1, 0)
        case list():
            stack.extend(node)
            return 2 + max(len(node) - 1, 0)
        case True | None:
            return 4
        case _:
            return 5


def _fields(value: object) -> Body:
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _length(value: object) -> int:
    return len(value) if isinstance(value, str) else 0


def _kind(fields: Body) -> str:
    kind = fields.get("type")
    return kind if isinstance(kind, str) else ""


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
    CallType.SPEECH: media_facts,
    CallType.TRANSCRIPTION: media_facts,
    CallType.RESPONSES_SOCKET: responses_socket_facts,
    CallType.REALTIME: realtime_facts,
    CallType.STORED_RESPONSE: stored_response_facts,
    CallType.PASS_THROUGH: pass_through_facts,
}
