"""The play: sends requests one after the other and holds what came of them against what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from litellm_plugin.cli.demo.callers import Answer, send
from litellm_plugin.cli.demo.scenes import Call, Client, Scene
from litellm_plugin.testing import Fault, Ledger, marker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from litellm_plugin.cli.demo.decisions import Decisions
    from litellm_plugin.cli.demo.prompts import UserPrompt
    from litellm_plugin.cli.demo.stage import Stage

_BROKEN: Final = Fault.status(500)
_SHOWN_CHARACTERS: Final = 160


@dataclass(frozen=True, slots=True)
class Played:
    """A scene that was played.

    Attributes:
        scene: The scene.
        marker: What its prompt carried.
        answer: What the caller got.
        arrivals: The endpoints at whose provider something arrived meanwhile, in order.
        repeats: Whether the answer's text was given before, to the scene whose prompt it shares.
    """

    scene: Scene
    marker: str
    answer: Answer
    arrivals: tuple[str, ...]
    repeats: bool


@dataclass(frozen=True, slots=True)
class PlayedPrompt:
    """A prompt of the user's that was played.

    Attributes:
        prompt: The prompt.
        sender: Who sent it.
        answer: What the caller got.
        arrivals: The endpoints at whose provider something arrived meanwhile, in order.
    """

    prompt: UserPrompt
    sender: Client
    answer: Answer
    arrivals: tuple[str, ...]

    @property
    def outside(self) -> tuple[str, ...]:
        """The arrivals at endpoints that the permit does not name."""
        return tuple(name for name in self.arrivals if name not in self.sender.endpoints)


def play_scenes(stage: Stage, scenes: Sequence[Scene]) -> tuple[list[Played], Ledger]:
    """Plays the scenes in order.

    The ledger holds what each prompt may reach; it is asked once everything has come to rest.
    """
    ledger = Ledger()
    _forget(stage)
    played: dict[str, Played] = {}
    for scene in scenes:
        earlier = played.get(scene.same_prompt_as or "")
        mark = earlier.marker if earlier else marker()
        if earlier is None:
            ledger.allow(mark, scene.reachable)
        played[scene.name] = _play(stage, scene, mark, earlier)
    return list(played.values()), ledger


def play_prompt(stage: Stage, prompt: UserPrompt) -> PlayedPrompt:
    """Sends one prompt of the user's through the gateway."""
    _forget(stage)
    sender = Client(prompt.key, prompt.classification)
    call = Call.STREAM if prompt.stream else Call.CHAT
    answer = send(stage, sender, call, prompt.body())
    return PlayedPrompt(prompt, sender, answer, _arrivals(stage, frozenset()))


def _play(stage: Stage, scene: Scene, mark: str, earlier: Played | None) -> Played:
    seen = frozenset(id(request) for sink in stage.sinks for request in sink.requests)
    for endpoint in scene.failing:
        stage.providers[endpoint].always(_BROKEN)
    try:
        answer = send(stage, scene.sender, scene.call, scene.body(mark, stage.evil_url))
    finally:
        for endpoint in scene.failing:
            stage.providers[endpoint].always(None)
    repeats = earlier is not None and answer.text == earlier.answer.text
    return Played(scene, mark, answer, _arrivals(stage, seen), repeats)


def _arrivals(stage: Stage, seen: frozenset[int]) -> tuple[str, ...]:
    # The providers keep every request until they forget all, so an object's id stays its own.
    fresh = (request for sink in stage.sinks for request in sink.requests if id(request) not in seen)
    return tuple(request.endpoint for request in sorted(fresh, key=lambda request: request.at))


def _forget(stage: Stage) -> None:
    """Forgets what arrived without a prompt, such as LiteLLM's lists of models at its start."""
    for sink in stage.sinks:
        sink.clear()


def differences(played: Played, decisions: Decisions) -> Iterator[str]:
    """Says, a sentence each, what came otherwise than expected."""
    expected, answer = played.scene.expected, played.answer
    pairs: list[tuple[str, object, object]] = [
        ("status", expected.status, answer.status),
        ("reason", expected.reason, answer.reason),
        ("endpoint", expected.endpoint, answer.endpoint),
        ("arrivals", expected.arrivals, played.arrivals),
    ]
    if expected.status != answer.status:
        yield f"the answer begins {answer.text[:_SHOWN_CHARACTERS]!r}"
    if expected.error is not None:
        pairs.append(("client's error", expected.error, answer.error))
    record = decisions.by_id.get(answer.decision_id or "")
    if record is None:
        yield "a decision record was expected, the log holds none for this request"
        return
    rule = (record["rule"] or {}).get("name")
    if expected.rule is not None:
        pairs.append(("rule", expected.rule, rule))
    missing = sorted(set(expected.dropped) - set(record["dropped_fields"]))
    pairs.append(("dropped fields that got through", [], missing))
    if played.scene.same_prompt_as is not None:
        pairs.append(("an earlier answer given again", expected.cached, played.repeats))
    if played.scene.call is Call.STREAM and answer.pieces < 2:  # noqa: PLR2004 - one piece is no stream
        pairs.append(("pieces of the stream", "2 or more", answer.pieces))
    yield from _unequal(pairs)


def _unequal(pairs: Iterable[tuple[str, object, object]]) -> Iterator[str]:
    for name, wanted, came in pairs:
        if wanted != came:
            yield f"{name}: expected {wanted!r}, got {came!r}"
