"""The transcript: a request as every dialect means it, from which its facts are read.

The readers of the dialects only say what happens in a body (who speaks, what is called, what is shown); what
follows from it is decided here, once, so that the same content gives the same facts in each of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from litellm_plugin.routing.body.json_text import json_texts
from litellm_plugin.routing.body.prefix import NO_PREFIX, Prefix, cached_prefix
from litellm_plugin.routing.facts import Capability
from litellm_plugin.routing.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable

# https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken: what frames a message, and the answer.
_TOKENS_A_TURN = 3
# The longest texts of a batch by characters hold the longest by tokens, unless their scripts differ much.
_LONGEST_INPUTS = 4


class Speaker(enum.Enum):
    """Who says something in a conversation."""

    SYSTEM = enum.auto()
    USER = enum.auto()
    MODEL = enum.auto()
    TOOL = enum.auto()


@dataclass(frozen=True, slots=True)
class BodyFacts:
    """What a body tells.

    Attributes:
        input_tokens: The estimated tokens of everything that becomes prompt text.
        largest_input_tokens: Those of the largest single input of a batch; None when it is no batch.
        max_output_tokens: The caller's limit, in tokens; None when there is none that makes sense.
        stream: Whether the answer is streamed.
        needs: Capabilities without which the request cannot be served.
        tool_count: How many tools the caller declared that it runs itself.
        tool_step: How many rounds of tool calls follow the last message of the user.
        image_count, audio_count, document_count: How many of them the request carries.
        spoken_characters: How many characters of text are to be spoken.
        output_count: How many answers or images the caller asks for at once.
        reasoning_effort: In the vocabulary of `RequestFacts`; None when nothing was asked.
        prefix: What a provider may have cached of the prompt.
        asked: The user's last texts, which tell the language; no fact and never recorded.
    """

    input_tokens: int = 0
    largest_input_tokens: int | None = None
    max_output_tokens: int | None = None
    stream: bool = False
    needs: frozenset[Capability] = frozenset()
    tool_count: int = 0
    tool_step: int = 0
    image_count: int = 0
    audio_count: int = 0
    document_count: int = 0
    spoken_characters: int = 0
    output_count: int = 1
    reasoning_effort: str | None = None
    prefix: Prefix = NO_PREFIX
    asked: tuple[str, ...] = field(default=(), repr=False)


class Transcript:
    """What happens in one request, in the order in which a provider reads it: tools, system, conversation."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._needs: set[Capability] = set()
        self._speaker: Speaker | None = None
        self._turns = 0
        self._tools = 0
        self._step = 0
        self._is_calling = False
        self._images = self._audios = self._documents = 0
        # Where in the texts the conversation and the user's last turn begin, and where that turn ends.
        self._opening: int | None = None
        self._asked_from: int | None = None
        self._asked_to: int | None = None

    def say(self, speaker: Speaker, text: str) -> None:
        """Takes a text that somebody says; an empty one is nothing."""
        if text:
            self._turn(speaker)
            self._texts.append(text)

    def show(self, speaker: Speaker, need: Capability) -> None:
        """Takes an image, a recording or a document that somebody shows."""
        self._turn(speaker)
        self._needs.add(need)
        match need:
            case Capability.VISION:
                self._images += 1
            case Capability.AUDIO_INPUT:
                self._audios += 1
            case Capability.PDF_INPUT:
                self._documents += 1

    def need(self, need: Capability) -> None:
        """Takes what the request needs beside what it shows and declares."""
        self._needs.add(need)

    def declare(self, name: str, description: str, schema: object) -> None:
        """Takes a tool that the caller runs."""
        self._tools += 1
        self._needs.add(Capability.FUNCTION_CALLING)
        self._texts += filter(None, (name, description, *json_texts(schema)))

    def call(self, name: str, arguments: Iterable[str]) -> None:
        """Takes a call of a tool; the calls up to the next result are one round."""
        self._needs.add(Capability.FUNCTION_CALLING)
        self._turn(Speaker.MODEL)
        self._step += not self._is_calling
        self._is_calling = True
        self._texts += filter(None, (name, *arguments))

    def result(self) -> None:
        """Takes that a tool answers; what it says follows."""
        self._needs.add(Capability.FUNCTION_CALLING)
        self._is_calling = False
        self._turn(Speaker.TOOL)

    def facts(
        self,
        *,
        max_output_tokens: int | None = None,
        stream: bool = False,
        output_count: int = 1,
        reasoning_effort: str | None = None,
    ) -> BodyFacts:
        """The facts of what was taken so far, with what else the body says."""
        needs = set(self._needs)
        if reasoning_effort not in (None, "none"):
            needs.add(Capability.REASONING)
        if not self._tools:
            needs.discard(Capability.PARALLEL_FUNCTION_CALLING)
        ends = len(self._texts) if self._asked_from is None else self._asked_from
        opening = len(self._texts) if self._opening is None else self._opening
        prefix = cached_prefix(self._texts[:ends], opening)
        input_tokens = estimate_tokens(*self._texts) + _TOKENS_A_TURN * self._turns
        return BodyFacts(
            # Each is an estimate of its own, and a part is not more than the whole.
            input_tokens=max(input_tokens, prefix.tokens),
            max_output_tokens=max_output_tokens,
            stream=stream,
            needs=frozenset(needs),
            tool_count=self._tools,
            tool_step=self._step,
            image_count=self._images,
            audio_count=self._audios,
            document_count=self._documents,
            output_count=output_count,
            reasoning_effort=reasoning_effort,
            prefix=prefix,
            asked=() if self._asked_from is None else tuple(self._texts[self._asked_from : self._asked_to]),
        )

    def _turn(self, speaker: Speaker) -> None:
        if speaker is self._speaker:
            return
        here = len(self._texts)
        if self._speaker is Speaker.USER:
            self._asked_to = here
        if speaker is Speaker.USER:
            self._asked_from, self._asked_to = here, None
            self._step, self._is_calling = 0, False
        if self._opening is None and speaker is not Speaker.SYSTEM:
            self._opening = here
        self._speaker = speaker
        self._turns += 1


def batch_facts(texts: list[str], *, tokens: int = 0, largest: int | None = None) -> BodyFacts:
    """The facts of inputs that are read one by one.

    Args:
        texts: The inputs that are texts.
        tokens: How many tokens came as numbers.
        largest: The tokens of the largest input that came as numbers; None when it is no batch.
    """
    longest = sorted(texts, key=len)[-_LONGEST_INPUTS:]
    sizes = [estimate_tokens(each) for each in longest]
    return BodyFacts(
        input_tokens=max(estimate_tokens(*texts) + tokens, *sizes, 0),
        largest_input_tokens=None if largest is None else max(largest, *sizes, 0),
        asked=tuple(longest[-1:]),
    )
