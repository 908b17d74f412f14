"""Frames: what a client says on a websocket, and what of it LiteLLM may read.

LiteLLM hands most of a realtime frame to the provider as it came, so what is known of each event here is an
allow-list: an event nobody listed is refused, a field nobody published is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NoReturn

from litellm_plugin.errors import Reason, RequestDenied, Verdict
from litellm_plugin.permit.strict_json import StrictJsonError, parse_strict_json
from litellm_plugin.proxy.bodies import refusal, tool_refusal
from litellm_plugin.proxy.content_urls import names_url
from litellm_plugin.proxy.fields import published, scrub
from litellm_plugin.routing.facts import CallType

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_CREATE: Final = "response.create"
_ENVELOPE: Final = frozenset({"type", "event_id"})
# https://platform.openai.com/docs/api-reference/realtime-client-events, and the beta's `transcription_session`
_EVENTS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "session.update": frozenset({"session"}),
        "transcription_session.update": frozenset({"session"}),
        "conversation.item.create": frozenset({"item", "previous_item_id"}),
        "conversation.item.delete": frozenset({"item_id"}),
        "conversation.item.retrieve": frozenset({"item_id"}),
        "conversation.item.truncate": frozenset({"item_id", "content_index", "audio_end_ms"}),
        "input_audio_buffer.append": frozenset({"audio"}),
        "input_audio_buffer.commit": frozenset(),
        "input_audio_buffer.clear": frozenset(),
        "output_audio_buffer.clear": frozenset(),
        "response.create": frozenset({"response"}),
        "response.cancel": frozenset({"response_id"}),
    }
)
# What takes something back, or ends it: nothing is sent for an answer.
_TAKES_BACK: Final = frozenset(
    {
        "conversation.item.delete",
        "conversation.item.retrieve",
        "conversation.item.truncate",
        "input_audio_buffer.clear",
        "output_audio_buffer.clear",
        "response.cancel",
    }
)
_BOTH: Final = frozenset(
    {
        "audio",
        "instructions",
        "max_output_tokens",
        "max_response_output_tokens",
        "modalities",
        "output_audio_format",
        "output_modalities",
        "parallel_tool_calls",
        "reasoning",
        "temperature",
        "tool_choice",
        "tools",
        "voice",
    }
)
# The session and the response of a realtime event, as they are published now and as they were in the beta.
_PARTS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "response": _BOTH | {"conversation", "input", "metadata"},
        "session": _BOTH
        | {
            "include",
            "input_audio_format",
            "input_audio_noise_reduction",
            "input_audio_transcription",
            "speed",
            "tracing",
            "truncation",
            "turn_detection",
            "type",
        },
    }
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a client.

    Attributes:
        event: The event's type.
        text: What LiteLLM may read.
        starts_response: Whether the provider is asked for an answer.
        takes_back: Whether it only takes something back or ends it.
        is_bare: Whether nothing but its type would be read.
        model: The model group it is for.
        body: The fields of the body that it carries, on a Responses socket.
        names_url: Whether its content names an address to fetch.
        dropped: The fields that were left out, sorted.
    """

    event: str
    text: str
    starts_response: bool = False
    takes_back: bool = False
    is_bare: bool = False
    model: str | None = None
    body: Mapping[str, object] | None = None
    names_url: bool = False
    dropped: tuple[str, ...] = ()


def read_frame(
    raw: bytes,
    call_type: CallType,
    *,
    model: str | None,
    extra: frozenset[str] = frozenset(),
    any_model: bool = True,
    own: Collection[str] = (),
) -> Frame:
    """Reads one text frame.

    Args:
        raw: The frame as it came, UTF-8.
        call_type: What the socket speaks.
        model: The socket's model group; None until a frame named it.
        extra: Body fields that the operator opened.
        any_model: Whether a session may name a model that transcribes beside the socket's own.
        own: Ids of responses of this very socket, which a frame may build on.

    Raises:
        RequestDenied: It can be read in two ways, names another model, or asks for what no permit names.
    """
    try:
        document = parse_strict_json(raw)
    except StrictJsonError as error:
        raise _invalid(f"A JSON object is expected in each frame: {error}.") from error
    if not isinstance(document, dict):
        _refuse("A JSON object is expected in each frame.")
    if call_type is CallType.RESPONSES_SOCKET:
        return _responses_frame(document, raw, model, extra, own)
    return _realtime_frame(document, raw, model, any_model=any_model)


def _responses_frame(
    document: dict[str, object],
    raw: bytes,
    model: str | None,
    extra: frozenset[str],
    own: Collection[str],
) -> Frame:
    if document.get("type") != _CREATE:
        _refuse(f"Events of type {_CREATE!r} are expected on this path.")
    nested = document.get("response")
    if "response" in document and (
        not isinstance(nested, dict) or not document.keys() <= {*_ENVELOPE, "response"}
    ):
        _refuse("The fields are expected beside 'type' or in 'response', not in both.")
    body = nested if isinstance(nested, dict) else {k: v for k, v in document.items() if k not in _ENVELOPE}
    group = body.get("model") or model
    if not isinstance(group, str):
        _refuse("The field 'model' must name one model group.")
    _hold_model(group, model)
    # `generate: false` prepares a socket; what it prepares with is a prompt all the same.
    aside = {"generate": body["generate"]} if isinstance(body.get("generate"), bool) else {}
    previous = body.get("previous_response_id")
    if isinstance(previous, str) and previous in own:
        aside["previous_response_id"] = previous
    elif previous:
        _refuse("The field 'previous_response_id' may name a response of this socket alone.")
    read = {name: value for name, value in body.items() if name not in aside}
    refused = refusal({**read, "model": group}, CallType.RESPONSES)
    if refused is not None:
        raise RequestDenied(refused)
    read.pop("cache", None)
    kept, dropped = published(read, CallType.RESPONSES, extra)
    scrubbed = scrub(kept, CallType.RESPONSES, "litellm_metadata", extra)
    left_out = tuple(sorted({*dropped, *scrubbed, *(body.keys() & {"cache"})}))
    text = raw.decode()
    if left_out:
        fields = {**kept, **aside}
        text = _written({"type": _CREATE, **({"response": fields} if nested is not None else fields)})
    return Frame(
        _CREATE,
        text,
        starts_response=True,
        model=group,
        body=kept,
        names_url=names_url(kept),
        dropped=left_out,
    )


def _realtime_frame(document: dict[str, object], raw: bytes, model: str | None, *, any_model: bool) -> Frame:
    event = document.get("type")
    if not isinstance(event, str) or event not in _EVENTS:
        _refuse("An event of the realtime API's client is expected; docs/enforcement.md lists them.")
    left_out: list[str] = [name for name in document if name not in _EVENTS[event] | _ENVELOPE]
    kept = {name: value for name, value in document.items() if name not in left_out}
    for name, fields in _PARTS.items():
        if name in kept:
            part = kept[name]
            if not isinstance(part, dict):
                _refuse(f"The field {name!r} must be an object.")
            _hold_part(part, model, any_model=any_model)
            kept[name] = {key: value for key, value in part.items() if key in fields}
            left_out += [f"{name}.{key}" for key in part if key not in fields]
    return Frame(
        event,
        _written(kept) if left_out else raw.decode(),
        starts_response=event == _CREATE,
        takes_back=event in _TAKES_BACK,
        is_bare=not any(kept[name] for name in kept if name not in _ENVELOPE),
        model=model,
        names_url=any(names_url(each) for each in (kept, *_parts(kept))),
        dropped=tuple(sorted(left_out)),
    )


def _parts(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    for name in _PARTS:
        part = document.get(name)
        if isinstance(part, dict):
            yield part


def _hold_part(part: Mapping[str, object], model: str | None, *, any_model: bool) -> None:
    """Holds a session or a response against what the socket was opened for."""
    if "model" in part:
        _hold_model(part["model"], model)
    if part.get("prompt"):
        _refuse("The field 'prompt' refers to state outside this request; send the whole context instead.")
    tools = part.get("tools")
    if tools is not None and not isinstance(tools, list):
        _refuse("The field 'tools' must be a list.")
    refused = tool_refusal(tools)
    if refused is not None:
        raise RequestDenied(refused)
    if not any_model:
        for transcriber in _transcribers(part):
            _hold_model(transcriber, model)


def _transcribers(part: Mapping[str, object]) -> Iterator[object]:
    """The models that a session names for the text of what its user says, in both of the published places."""
    audio = part.get("audio")
    heard = audio.get("input") if isinstance(audio, dict) else None
    for setting in (
        part.get("input_audio_transcription"),
        heard.get("transcription") if isinstance(heard, dict) else None,
    ):
        if isinstance(setting, dict) and setting.get("model") is not None:
            yield setting["model"]


def _hold_model(named: object, model: str | None) -> None:
    if model is not None and named != model:
        _refuse(f"The model of each frame must be the socket's own, {model[:80]!r}.")


def _written(document: Mapping[str, object]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _invalid(message: str) -> RequestDenied:
    return RequestDenied(Verdict(Reason.BODY_INVALID, message))


def _refuse(message: str) -> NoReturn:
    raise _invalid(message)
