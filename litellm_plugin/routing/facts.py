"""What is known of a request when it is routed: its own facts and the scope its permit opens."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

FactValue: TypeAlias = bool | int | float | str


class CallType(enum.StrEnum):
    """The kinds of call that carry a prompt and need a permit."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    MESSAGES = "messages"
    RESPONSES = "responses"
    GENERATE_CONTENT = "generate_content"
    IMAGE_GENERATION = "image_generation"
    IMAGE_EDIT = "image_edit"
    SPEECH = "speech"
    TRANSCRIPTION = "transcription"
    RERANK = "rerank"
    MODERATION = "moderation"
    RESPONSES_SOCKET = "responses_socket"
    REALTIME = "realtime"
    STORED_RESPONSE = "stored_response"
    PASS_THROUGH = "pass_through"  # noqa: S105 - no password

    @property
    def generates_text(self) -> bool:
        """Whether the answer is text that a model wrote, so that its length costs."""
        return self in _TEXT_GENERATING


_TEXT_GENERATING = frozenset(
    {
        CallType.CHAT,
        CallType.COMPLETION,
        CallType.MESSAGES,
        CallType.RESPONSES,
        CallType.GENERATE_CONTENT,
        CallType.RESPONSES_SOCKET,
        CallType.REALTIME,
    }
)


class Capability(enum.StrEnum):
    """What a request may need of an endpoint; the names follow LiteLLM's `supports_*` keys."""

    FUNCTION_CALLING = "function_calling"
    VISION = "vision"
    RESPONSE_SCHEMA = "response_schema"
    AUDIO_INPUT = "audio_input"
    PDF_INPUT = "pdf_input"
    PARALLEL_FUNCTION_CALLING = "parallel_function_calling"
    REASONING = "reasoning"


@dataclass(frozen=True, slots=True)
class Moment:
    """When a request was routed, in UTC.

    Attributes:
        hour: 0-23.
        weekday: 1 (Monday) to 7, as in ISO 8601.
        month: 1-12.
        date: `YYYY-MM-DD`.
    """

    hour: int
    weekday: int
    month: int
    date: str


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What rules, filters and strategies may know of a request; never its text.

    Attributes:
        model_group: The model name that was asked for.
        call_type: Which published schema the body follows.
        input_tokens: Estimated prompt tokens.
        max_output_tokens: The limit the caller set, in tokens; None when none was set.
        stream: Whether the answer is streamed.
        needs: Capabilities without which the request cannot be served.
        largest_input_tokens: Estimated tokens of the largest single input of a batch; None when the whole
            request is one input.
        tool_count: How many tools the caller declared.
        tool_step: How many rounds of tool calls follow the last message of the user; 0 outside a tool loop.
        writes: Whether a tool of the request writes, as the caller declared; such a request is repeated only
            with an idempotency key.
        image_count, audio_count, document_count: How many of them the request carries.
        spoken_characters: How many characters of text are to be spoken; 0 where nothing is.
        output_count: How many answers or images the caller asks for at once.
        reasoning_effort: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`; None when nothing was asked.
        language: The language of the prompt, ISO 639-1; None when it could not be told.
        latency_budget_ms: What the caller allows, or its latency class' default; None when neither says.
        workload: The caller's name for the kind of work; None when it gave none.
        session: Which conversation the request belongs to, a hash; None when the caller named none.
        prefix: What of the prompt a provider may have cached, a hash; None when it is too short to be.
        prefix_tokens: Estimated tokens of that prefix.
        is_idempotent: Whether the caller gave an idempotency key.
        moment: When it was routed; None leaves the facts of time absent.
    """

    model_group: str
    call_type: CallType
    input_tokens: int
    max_output_tokens: int | None = None
    stream: bool = False
    needs: frozenset[Capability] = frozenset()
    largest_input_tokens: int | None = None
    tool_count: int = 0
    tool_step: int = 0
    writes: bool = False
    image_count: int = 0
    audio_count: int = 0
    document_count: int = 0
    spoken_characters: int = 0
    output_count: int = 1
    reasoning_effort: str | None = None
    language: str | None = None
    latency_budget_ms: int | None = None
    workload: str | None = None
    session: str | None = None
    prefix: str | None = None
    prefix_tokens: int = 0
    is_idempotent: bool = False
    moment: Moment | None = None

    @property
    def window_tokens(self) -> int:
        """The tokens that must fit into a context window at once: a batch is read one input at a time."""
        return self.input_tokens if self.largest_input_tokens is None else self.largest_input_tokens

    def names(self) -> Mapping[str, FactValue]:
        """The facts by the names that rules use; an absent fact has no entry."""
        facts: dict[str, FactValue | None] = {
            "request.model": self.model_group,
            "request.call_type": str(self.call_type),
            "request.input_tokens": self.input_tokens,
            "request.max_output_tokens": self.max_output_tokens,
            "request.stream": self.stream,
            "request.tools": Capability.FUNCTION_CALLING in self.needs,
            "request.tool_count": self.tool_count,
            "request.tool_step": self.tool_step,
            "request.writes": self.writes,
            "request.images": Capability.VISION in self.needs,
            "request.image_count": self.image_count,
            "request.audio_count": self.audio_count,
            "request.document_count": self.document_count,
            "request.spoken_characters": self.spoken_characters,
            "request.output_count": self.output_count,
            "request.response_schema": Capability.RESPONSE_SCHEMA in self.needs,
            "request.reasoning_effort": self.reasoning_effort,
            "request.language": self.language,
            "request.latency_budget_ms": self.latency_budget_ms,
            "request.workload": self.workload,
            "request.has_session": self.session is not None,
            "request.is_idempotent": self.is_idempotent,
        }
        if self.moment is not None:
            facts["request.hour"] = self.moment.hour
            facts["request.weekday"] = self.moment.weekday
            facts["request.month"] = self.moment.month
            facts["request.date"] = self.moment.date
        return {name: value for name, value in facts.items() if value is not None}


@dataclass(frozen=True, slots=True)
class RoutingScope:
    """What a permit opens, without identity: routing cannot see subject or role.

    Attributes:
        request_id: The gateway's id of the request.
        endpoints: The endpoint names that are authorized; nothing else may be chosen.
        policy_version: The version of the policy that decided.
        data_classification: A declared classification.
        tenant: The tenant's id, for rules and for cache scopes.
        tenant_tier: A declared tier.
        latency_class: A declared latency class.
        requirements: Attributes that the classification demands of an endpoint.
        regions: The regions that the permit is limited to; None when it names none.
        max_cost_usd: The highest expected cost of the request; None when the permit sets none.
        preferences: Endpoint names in the order in which the gateway would take them; they reorder, never widen.
    """

    request_id: str
    endpoints: frozenset[str]
    policy_version: str
    data_classification: str
    tenant: str
    tenant_tier: str
    latency_class: str
    requirements: frozenset[str] = field(default_factory=frozenset)
    regions: frozenset[str] | None = None
    max_cost_usd: float | None = None
    preferences: tuple[str, ...] = ()

    def names(self) -> Mapping[str, FactValue]:
        """The scope by the names that rules use."""
        return {
            "permit.policy_version": self.policy_version,
            "permit.data_classification": self.data_classification,
            "permit.tenant": self.tenant,
            "permit.tenant_tier": self.tenant_tier,
            "permit.latency_class": self.latency_class,
        }
