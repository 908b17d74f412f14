"""The scenes: requests through the gateway and attacks past it, with what must come of each."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, assert_never

from litellm_plugin.cli.demo.tenants import TENANTS
from litellm_plugin.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

SELECTED: Final = "selected"
FAILOVER: Final = "failover"

_MAX_TOKENS: Final = 64
# About 12,000 tokens: more than the smallest window of config.example.yaml, 8,192.
_LONG: Final = "The party of the first part agrees with the party of the second part. " * 700


class Call(enum.StrEnum):
    """What is called, each with its official client."""

    CHAT = "chat"
    STREAM = "stream"
    EMBEDDINGS = "embeddings"
    MESSAGES = "messages"


class Forgery(enum.StrEnum):
    """What is wrong with the permit that an attacker sends."""

    NOTHING = "nothing"
    MISSING = "missing"
    EXPIRED = "expired"
    SIGNATURE = "signature"
    OTHER_BODY = "other_body"


@dataclass(frozen=True, slots=True)
class Client:
    """A caller with an API key, who goes through the gateway.

    Attributes:
        key: The caller's API key.
        classification: The classification that the caller declares; None leaves it to the gateway.
    """

    key: str
    classification: str | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What the caller's permits authorize."""
        return TENANTS[self.key].endpoints

    @property
    def label(self) -> str:
        """Who this is, for the table."""
        return TENANTS[self.key].tenant

    @property
    def data_classification(self) -> str:
        """The classification that the permit names."""
        return self.classification or TENANTS[self.key].data_classification


@dataclass(frozen=True, slots=True)
class Attacker:
    """Someone with LiteLLM's own master key, who goes past the gateway straight to the proxy.

    Attributes:
        endpoints: What the permit at hand authorizes, or would.
        forgery: What is wrong with it.
    """

    endpoints: tuple[str, ...]
    forgery: Forgery = Forgery.NOTHING

    @property
    def label(self) -> str:
        """Who this is, for the table."""
        return "attacker"

    @property
    def data_classification(self) -> str:
        """The classification that the permit names."""
        return "-" if self.forgery is Forgery.MISSING else "internal"


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of a scene.

    Attributes:
        status: The HTTP status.
        reason: The reason that the answer names.
        endpoint: The endpoint that answered; None when none did.
        arrivals: The endpoints at whose provider the request arrives, in order.
        rule: The rule that picked the strategy; None when no decision was made.
        error: The class that the official client raises.
        dropped: Body fields that must not get through.
        cached: Whether the answer comes out of the cache.
    """

    status: int
    reason: str
    endpoint: str | None = None
    arrivals: tuple[str, ...] = ()
    rule: str | None = None
    error: str | None = None
    dropped: tuple[str, ...] = ()
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """One request and what must come of it.

    Attributes:
        name: What is shown, in a few words.
        sender: Who sends it, and which way.
        expected: What must come of it.
        call: What is called.
        model: The model that the body names.
        prompt: The prompt, to which the scene's marker is added.
        extra: Further body fields; the text `{evil}` in one stands for the address of a stranger's server.
        failing: Endpoints whose provider answers 500 during the scene.
        may_reach: Where the prompt may arrive at all; None: wherever a valid permit authorizes.
        same_prompt_as: The scene whose marked prompt is sent once more; None: a prompt of its own.
    """

    name: str
    sender: Client | Attacker
    expected: Expected
    call: Call = Call.CHAT
    model: str = "chat"
    prompt: str = "Summarise the minutes of the last meeting."
    extra: Mapping[str, object] = field(default_factory=dict)
    failing: frozenset[str] = frozenset()
    may_reach: tuple[str, ...] | None = None
    same_prompt_as: str | None = None

    @property
    def reachable(self) -> tuple[str, ...]:
        """The endpoints that the prompt may reach, as the oracle judges."""
        if self.may_reach is not None:
            return self.may_reach
        if isinstance(self.sender, Attacker) and self.sender.forgery is not Forgery.NOTHING:
            return ()
        return self.sender.endpoints

    def body(self, marker: str, evil_url: str) -> dict[str, Any]:
        """The request's body."""
        text = f"{self.prompt} [{marker}]"
        extra = {
            name: value.replace("{evil}", evil_url) if isinstance(value, str) else value
            for name, value in self.extra.items()
        }
        return {"model": self.model, **_content(self.call, text), **extra}


def _content(call: Call, text: str) -> dict[str, Any]:
    messages = {"messages": [{"role": "user", "content": text}], "max_tokens": _MAX_TOKENS}
    match call:
        case Call.CHAT | Call.MESSAGES:
            return messages
        case Call.STREAM:
            return {**messages, "stream": True}
        case Call.EMBEDDINGS:
            return {"input": text}
    assert_never(call)


def _served(endpoint: str, *, rule: str = "default", **more: Any) -> Expected:
    """An answer at the first attempt."""
    return Expected(200, SELECTED, endpoint, **{"arrivals": (endpoint,), "rule": rule, **more})


def _refused(reason: Reason) -> Expected:
    return Expected(reason.status, str(reason))


_ACME: Final = Client("demo-acme")
_CACHED: Final = "a question, asked for the first time"
TOLD: Final = "PHI; the cheapest endpoint has no BAA"
"""The scene whose record the demo tells in words."""

SCENES: Final[tuple[Scene, ...]] = (
    Scene("the cheapest authorized endpoint", _ACME, _served("vllm-de")),
    Scene("free tier: the rule's own list", Client("demo-hobby"), _served("vllm-de", rule="free-tier")),
    Scene(
        "a prompt longer than the cheapest window", Client("demo-globex"), _served("openai-eu"), prompt=_LONG
    ),
    Scene(
        TOLD,
        Client("demo-helix"),
        _served("azure-us"),
        may_reach=("azure-us", "azure-eu"),
    ),
    Scene(
        "a regulated tenant is pinned",
        Client("demo-mercy-clinic", "phi"),
        _served("azure-eu", rule="regulated-tenant"),
        may_reach=("azure-eu",),
    ),
    Scene(
        "outage: the next one inside the set",
        _ACME,
        Expected(200, FAILOVER, "openai-us", ("vllm-de", "openai-us"), rule="default"),
        failing=frozenset({"vllm-de"}),
    ),
    Scene(
        "outage of the whole set",
        Client("demo-helix"),
        Expected(
            503,
            str(Reason.CHAIN_EXHAUSTED),
            "azure-eu",
            ("azure-us", "azure-eu"),
            error="InternalServerError",
        ),
        failing=frozenset({"azure-us", "azure-eu"}),
        may_reach=("azure-us", "azure-eu"),
    ),
    Scene(
        "a stream",
        _ACME,
        _served("vllm-de"),
        call=Call.STREAM,
        # Without it LiteLLM learns of no tokens from such a server, and bills nothing.
        extra={"stream_options": {"include_usage": True}},
    ),
    Scene("embeddings", _ACME, _served("openai-us"), call=Call.EMBEDDINGS, model="embed"),
    Scene(
        "Anthropic's client and dialect", _ACME, _served("anthropic-us"), call=Call.MESSAGES, model="claude"
    ),
    Scene(_CACHED, _ACME, _served("vllm-de"), prompt="What is our notice period?"),
    Scene(
        "another tenant asks the same: not from the cache",
        Client("demo-initech"),
        _served("vllm-de"),
        prompt="What is our notice period?",
        same_prompt_as=_CACHED,
    ),
    Scene(
        "the first tenant again: from its own cache",
        _ACME,
        _served("vllm-de", arrivals=(), cached=True),
        prompt="What is our notice period?",
        same_prompt_as=_CACHED,
    ),
    Scene("no permit", Attacker((), Forgery.MISSING), _refused(Reason.PERMIT_MISSING)),
    Scene("an expired permit", Attacker(("vllm-de",), Forgery.EXPIRED), _refused(Reason.EXPIRED)),
    Scene(
        "signed with the attacker's own key",
        Attacker(("vllm-de",), Forgery.SIGNATURE),
        _refused(Reason.SIGNATURE_INVALID),
    ),
    Scene(
        "a valid permit with another body",
        Attacker(("vllm-de",), Forgery.OTHER_BODY),
        _refused(Reason.BINDING_MISMATCH),
    ),
    Scene(
        "a deployment's id as the model",
        Attacker(("azure-eu",)),
        _refused(Reason.NOT_AUTHORIZED),
        model="openai-us-gpt-4o-mini",
    ),
    Scene(
        "own `fallbacks` in the body",
        Attacker(("azure-eu",)),
        Expected(503, str(Reason.CHAIN_EXHAUSTED), "azure-eu", ("azure-eu",), dropped=("fallbacks",)),
        extra={"fallbacks": ["claude", "openai-us-gpt-4o-mini"]},
        failing=frozenset({"azure-eu"}),
    ),
    Scene(
        "own provider and key in the body",
        Attacker(("azure-eu",)),
        _served("azure-eu", dropped=("api_key", "custom_llm_provider")),
        extra={"custom_llm_provider": "anthropic", "api_key": "demo-attacker"},
    ),
    Scene(
        "own `api_base` in the body",
        Attacker(("azure-eu",)),
        _served("azure-eu", dropped=("api_base",)),
        extra={"api_base": "{evil}/v1"},
    ),
)
