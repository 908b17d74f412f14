from __future__ import annotations

import json

import pytest

from litellm_plugin.errors import Reason, RequestDenied
from litellm_plugin.proxy.frames import read_frame
from litellm_plugin.routing.facts import CallType

RESPONSES = CallType.RESPONSES_SOCKET
REALTIME = CallType.REALTIME
CREATE = {"type": "response.create", "model": "gpt", "input": "hello"}
AUDIO = {"type": "input_audio_buffer.append", "audio": "UklGRg=="}
SPEAKER = {"transcription": {"model": "whisper"}}


def read(frame, call_type=RESPONSES, *, model="gpt", **settings):
    raw = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return read_frame(raw, call_type, model=model, **settings)


def refusal_of(frame, call_type=RESPONSES, **settings):
    with pytest.raises(RequestDenied) as caught:
        read(frame, call_type, **settings)
    assert caught.value.verdict.reason is Reason.BODY_INVALID
    return caught.value.verdict.message


def create(**response):
    return {"type": "response.create", "response": response}


def update(**session):
    return {"type": "session.update", "session": session}


@pytest.mark.parametrize("call_type", [RESPONSES, REALTIME])
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"{", id="no-json"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(b"{}", id="no-type"),
        pytest.param(b'{"type": ["response.create"]}', id="type-is-a-list"),
        pytest.param(b'{"type": "response.create", "type": "response.cancel"}', id="type-twice"),
        pytest.param(b'{"type": "response.create", "input": NaN}', id="nan"),
        pytest.param(b'{"type": "response.made_up"}', id="unknown-type"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_a_frame_that_says_nothing_certain_is_refused(raw, call_type):
    refusal_of(raw, call_type)


class TestResponses:
    def test_a_frame_of_published_fields_passes_as_it_came(self):
        raw = b'{ "type":"response.create","model":"gpt","input":"hello" }'
        frame = read(raw, model=None)
        assert (frame.text, frame.model, frame.starts_response, frame.dropped) == (
            raw.decode(),
            "gpt",
            True,
            (),
        )
        assert frame.body == {"model": "gpt", "input": "hello"}

    def test_the_nested_form_is_read_too(self):
        frame = read(create(model="gpt", input="hello", api_base="http://evil"))
        assert json.loads(frame.text) == create(model="gpt", input="hello")
        assert (frame.body["input"], frame.dropped) == ("hello", ("api_base",))

    @pytest.mark.parametrize(
        "frame",
        [
            pytest.param({**CREATE, "response": {}}, id="in-both"),
            pytest.param({"type": "response.create", "response": "hello"}, id="nested-is-text"),
            pytest.param({"type": "response.create", "response": None, "input": "x"}, id="nested-is-null"),
        ],
    )
    def test_fields_in_two_places_are_refused(self, frame):
        assert "not in both" in refusal_of(frame)

    @pytest.mark.parametrize("name", ["api_base", "api_key", "fallbacks", "cache", "litellm_metadata", "foo"])
    def test_an_unpublished_field_is_left_out(self, name):
        frame = read({**CREATE, name: {"no-cache": True}})
        assert json.loads(frame.text) == CREATE
        assert frame.dropped == (name,)

    def test_metadata_that_steers_is_left_out(self):
        frame = read({**CREATE, "metadata": {"a": "b", "model_group": "x", "nested": {}}})
        assert json.loads(frame.text)["metadata"] == {"a": "b"}

    def test_a_field_that_the_operator_opened_passes(self):
        assert read({**CREATE, "foo": 1}, extra=frozenset({"foo"})).dropped == ()

    def test_preparing_the_socket_passes_and_counts(self):
        frame = read({**CREATE, "generate": False, "foo": 1})
        assert (json.loads(frame.text)["generate"], frame.starts_response) == (False, True)

    def test_a_frame_without_a_model_is_for_the_sockets_own(self):
        assert read({"type": "response.create", "input": "x"}).model == "gpt"

    @pytest.mark.parametrize("model", ["other", ["gpt"], 1])
    def test_another_model_is_refused(self, model):
        refusal_of({**CREATE, "model": model})

    @pytest.mark.parametrize("model", [None, 1, "a,b", ["a"]])
    def test_the_first_frame_names_one_model(self, model):
        assert "one model group" in refusal_of({**CREATE, "model": model}, model=None)

    @pytest.mark.parametrize(
        "extra",
        [
            pytest.param({"background": True}, id="background"),
            pytest.param({"conversation": "conv_1"}, id="conversation"),
            pytest.param({"prompt": {"id": "pmpt_1"}}, id="prompt"),
            pytest.param({"previous_response_id": "resp_1"}, id="previous-response"),
            pytest.param({"previous_response_id": ["resp_1"]}, id="previous-response-list"),
            pytest.param({"input": [{"type": "item_reference", "id": "x"}]}, id="item-reference"),
            pytest.param({"tools": [{"type": "mcp", "server_url": "http://evil"}]}, id="mcp"),
            pytest.param({"tools": [{"type": "file_search"}]}, id="file-search"),
            pytest.param({"tools": {}}, id="tools-are-no-list"),
        ],
    )
    @pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
    def test_what_refers_elsewhere_is_refused(self, extra, nested):
        frame = {**CREATE, **extra}
        refusal_of(
            create(**{k: v for k, v in frame.items() if k != "type"}) if nested else frame, own=("resp_2",)
        )

    def test_a_response_of_the_same_socket_may_be_built_on(self):
        frame = read({**CREATE, "previous_response_id": "resp_2"}, own=("resp_2",))
        assert json.loads(frame.text)["previous_response_id"] == "resp_2"


class TestRealtime:
    @pytest.mark.parametrize(
        "frame",
        [
            pytest.param(
                update(type="realtime", instructions="Be brief.", audio={"input": SPEAKER}), id="session"
            ),
            pytest.param(update(modalities=["text"], turn_detection=None), id="session-of-the-beta"),
            pytest.param(create(input=[], instructions="x", conversation="none"), id="response"),
            pytest.param({"type": "conversation.item.create", "item": {"type": "message"}}, id="item"),
            pytest.param(AUDIO, id="audio"),
        ],
    )
    def test_a_frame_of_published_fields_passes_as_it_came(self, frame):
        read_one = read({**frame, "event_id": "e1"}, REALTIME)
        assert json.loads(read_one.text) == {**frame, "event_id": "e1"}
        assert (read_one.dropped, read_one.takes_back, read_one.is_bare) == ((), False, False)

    def test_unpublished_fields_are_left_out(self):
        frame = read({**update(voice="a", foo=1), "bar": 2}, REALTIME)
        assert json.loads(frame.text) == update(voice="a")
        assert frame.dropped == ("bar", "session.foo")

    def test_the_sockets_own_model_is_taken_out_of_a_session(self):
        """The provider knows the group by another name."""
        frame = read(update(model="gpt", voice="a"), REALTIME)
        assert json.loads(frame.text) == update(voice="a")

    @pytest.mark.parametrize("part", [update, create])
    @pytest.mark.parametrize("model", ["other", None, ["gpt"]])
    def test_another_model_is_refused(self, part, model):
        refusal_of(part(model=model), REALTIME)

    @pytest.mark.parametrize("part", [update, create])
    def test_tools_that_send_the_prompt_elsewhere_are_refused(self, part):
        refusal_of(part(tools=[{"type": "function"}, {"type": "mcp", "server_url": "http://evil"}]), REALTIME)
        refusal_of(part(tools={"type": "mcp"}), REALTIME)

    @pytest.mark.parametrize("part", [update, create])
    def test_a_stored_prompt_is_refused(self, part):
        refusal_of(part(prompt={"id": "pmpt_1"}), REALTIME)

    @pytest.mark.parametrize("name", ["session", "response"])
    def test_a_part_that_is_no_object_is_refused(self, name):
        event = {"session": "session.update", "response": "response.create"}[name]
        refusal_of({"type": event, name: []}, REALTIME)

    @pytest.mark.parametrize(
        "session",
        [
            pytest.param({"audio": {"input": SPEAKER}}, id="published"),
            pytest.param({"input_audio_transcription": {"model": "whisper"}}, id="beta"),
        ],
    )
    def test_a_permit_that_names_models_lets_no_other_one_transcribe(self, session):
        refusal_of(update(**session), REALTIME, any_model=False)
        read(update(audio={"input": {"transcription": {"model": "gpt"}}}), REALTIME, any_model=False)

    @pytest.mark.parametrize(
        "event", ["response.cancel", "input_audio_buffer.clear", "conversation.item.truncate"]
    )
    def test_what_takes_back_is_told_apart(self, event):
        assert read({"type": event}, REALTIME).takes_back

    @pytest.mark.parametrize(
        ("frame", "is_bare"),
        [
            ({"type": "response.create"}, True),
            (create(), True),
            ({"type": "input_audio_buffer.commit", "event_id": "e"}, True),
            (create(instructions="x"), False),
            (create(metadata={"a": "b"}), False),
            (AUDIO, False),
        ],
    )
    def test_a_bare_event_carries_nothing(self, frame, is_bare):
        assert read(frame, REALTIME).is_bare is is_bare


IMAGE = {"type": "input_image", "image_url": "https://evil.example/x.png"}
MESSAGE = {"type": "message", "role": "user", "content": [IMAGE]}


class TestContentUrls:
    @pytest.mark.parametrize(
        ("frame", "call_type"),
        [
            pytest.param({**CREATE, "input": [MESSAGE]}, RESPONSES, id="responses"),
            pytest.param(create(model="gpt", input=[MESSAGE]), RESPONSES, id="responses-nested"),
            pytest.param({"type": "conversation.item.create", "item": MESSAGE}, REALTIME, id="item"),
            pytest.param(create(input=[MESSAGE]), REALTIME, id="realtime-response"),
        ],
    )
    def test_a_frame_that_names_an_address_says_so(self, frame, call_type):
        assert read(frame, call_type).names_url

    @pytest.mark.parametrize("call_type", [RESPONSES, REALTIME])
    def test_a_frame_without_one_says_so(self, call_type):
        assert not read(CREATE if call_type is RESPONSES else create(), call_type).names_url
