"""The strategy: permit-aware routing for a `litellm.Router` that no proxy stands before."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from litellm.types.router import CustomRoutingStrategyBase

from litellm_plugin.errors import ConfigurationError, PermitRejected, Reason, RequestDenied, Verdict
from litellm_plugin.permit import Permit, check_api_key, check_body, check_request_id, recheck
from litellm_plugin.proxy.bodies import REFUSED_FIELDS
from litellm_plugin.proxy.call_context import PermitContext
from litellm_plugin.proxy.call_hooks import CallGuard, register
from litellm_plugin.proxy.call_stream import CallStream
from litellm_plugin.proxy.calls import CallDenied, Grant, RouterCall, current_call, grant_of, inside
from litellm_plugin.proxy.denial import verdict_of
from litellm_plugin.proxy.enforcement import Enforcement
from litellm_plugin.proxy.fields import DESTINATION
from litellm_plugin.proxy.openings import watch_openings
from litellm_plugin.proxy.outcomes import Outcomes
from litellm_plugin.proxy.paths import PathKind, Route
from litellm_plugin.proxy.redirects import forbid_redirects
from litellm_plugin.proxy.repeats import forbid_repeats
from litellm_plugin.proxy.runtime import Runtime
from litellm_plugin.proxy.schemas import PUBLISHED
from litellm_plugin.proxy.selfcheck import (
    check_configuration,
    declared_endpoints,
    declares_languages,
    deployment_ids,
)
from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.facts import CallType
from litellm_plugin.settings import Flags, Mode, PolicySnapshot, check_endpoints, load_policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from litellm_plugin.permit import Claim
    from litellm_plugin.proxy.clock import Clock

_METHOD: Final = "SDK"
_ENTRY: Final = "PermitRoutingStrategy.permit"
# The functions that the router's retry loop runs for each kind of call.
_KINDS: Final[Mapping[str, CallType]] = {
    "_acompletion": CallType.CHAT,
    "_atext_completion": CallType.COMPLETION,
    "_aembedding": CallType.EMBEDDING,
    "anthropic_messages": CallType.MESSAGES,
    "aresponses": CallType.RESPONSES,
}
# Where the router keeps its own metadata for them; for the others it is `metadata`.
_OTHER_SLOT: Final = frozenset({CallType.MESSAGES, CallType.RESPONSES})
# What the router's factory makes and may stay; the others reach providers by ways no hook sees.
_OPEN_METHODS: Final = frozenset({"anthropic_messages", "aanthropic_messages", "aresponses"})
# 1.109 moved the members behind the old names.
_PASS_THROUGH: Final = (
    "get_available_deployment_for_pass_through",
    "_core_get_available_deployment_for_pass_through",
    "async_get_available_deployment_for_pass_through",
)
# Arguments that say where a call goes, or put something else in the place of a configured deployment.
_STEERING: Final = frozenset(DESTINATION) | {
    "client",
    "custom_llm_provider",
    "deployment_id",
    "litellm_params",
    "model_info",
    "model_list",
    "prompt_label",
    "prompt_variables",
    "prompt_version",
    "router_settings_override",
    "silent_model",
    "user_config",
    "vector_store_ids",
}
# Router makes up an id, a SHA-256, for a deployment without one.
_MADE_UP_ID: Final = re.compile(r"[0-9a-f]{64}")


class PermitRoutingStrategy(CustomRoutingStrategyBase):  # type: ignore[misc] # untyped in LiteLLM
    """Makes permits the only source of candidates of a `litellm.Router`.

    The router is guarded from here on: an asynchronous chat, text completion, embedding, messages or
    responses call needs a permit in its context (`with strategy.permit(...)`) and reaches nothing outside
    its set; every other way from the router to a provider is refused, the synchronous ones among them.
    Other routers, and calls of `litellm` itself, are not touched.

    Args:
        router: The router; it belongs to this strategy for good.
        policy: The policy block as a mapping, a file that holds it, or a snapshot of one. The environment flags
            `PERMIT_ROUTER_POLICY`, `_LOG` and `_REDIS_URL` count as they do under the proxy.
        clock: Tells the time; the machine's clock by default.

    Raises:
        ConfigurationError: The policy, a key file, the router's settings or one of its deployments is wrong.
    """

    def __init__(
        self,
        router: Any,
        policy: Mapping[str, Any] | str | Path | PolicySnapshot,
        *,
        clock: Clock | None = None,
    ) -> None:
        loaded, base = _policy(policy)
        config = _configuration(router)
        if Flags().mode is Mode.OBSERVE:
            raise ConfigurationError("PERMIT_ROUTER_MODE=observe needs the proxy: a guarded router enforces")
        if loaded.shadow is not None:
            raise ConfigurationError(
                "shadow needs the proxy: a guarded router computes one policy; remove the key"
            )
        if loaded.permit.tenant_is_team:
            raise ConfigurationError("permit.tenant_is_team needs the proxy: a router knows no teams")
        check_configuration(config, loaded)
        check_endpoints(loaded, declared_endpoints(config))
        self._policy = loaded
        self._closed = False
        self._runtime = Runtime(clock, router)
        # Before the policy is loaded: what tells languages is loaded with it, and not by the first request.
        self._runtime.deployments.declares_languages = declares_languages(config)
        self._runtime.load(loaded, base=base, presence=list)
        self._runtime.expected_deployments = deployment_ids(config)
        # The background task looks again; the first call may come before it.
        self._runtime.look_at_deployments()
        self._enforcement = Enforcement(self._runtime)
        self._hooks = CallGuard(self._runtime)
        self._outcomes = Outcomes(self._runtime)
        self._guard(router)

    def permit(
        self, permit: str | Permit, *, body: bytes | None = None, request_id: str | None = None
    ) -> PermitContext:
        """Verifies a permit and gives the context in which the router's calls stand under it.

        Args:
            permit: The token, or a permit that the caller verified, its binding included.
            body: The raw body that the gateway saw, for permits bound to one.
            request_id: The request's id, where `permit.request_id_header` asks for a second witness.

        Raises:
            PermitRejected: It is not a valid permit, or not one for this body.
            KeysUnavailable: The issuer's keys were never loaded or are too old.
            RequestDenied: The strategy is closed.
        """
        if self._closed:
            raise CallDenied(_CLOSED)
        self._runtime.start()
        verified = permit if isinstance(permit, Permit) else None
        try:
            if verified is None:
                verified = self._verify(str(permit))
                if self._policy.permit.request_id_header is not None:
                    check_request_id(verified, request_id)
            digest = hashlib.sha256(body or b"").hexdigest()
            if body is not None or not isinstance(permit, Permit):
                check_body(verified, digest, required=self._policy.permit.binding == "body")
            check_api_key(verified, None)
            recheck(verified, self._policy.claims, self._runtime.clock.wall())
        except PermitRejected as rejected:
            self._record_refusal(verdict_of(rejected), verified)
            raise
        is_single_use = self._policy.permit.binding == "single_use"
        take = functools.partial(self._take, verified, digest) if is_single_use else None
        return PermitContext(self, verified, take, self._give_back)

    async def start(self) -> None:
        """Loads keys that are kept at a URL, and keeps all keys current from now on."""
        await self._runtime.synchronise_once()
        self._runtime.start()

    async def close(self) -> None:
        """Refuses every further call of the router, and ends the background task."""
        self._closed = True
        await self._runtime.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def async_get_available_deployment(
        self,
        model: str,
        request_kwargs: dict[str, Any],
        messages: list[dict[str, str]] | None = None,
        input: str | list[Any] | None = None,  # noqa: A002 - LiteLLM's name
        specific_deployment: bool | None = False,  # noqa: FBT001, FBT002 - LiteLLM's signature
    ) -> Any:
        """Lets the router select, within a call that has a permit; our filter hook narrows its list.

        Raises:
            RequestDenied: There is no such call here.
        """
        if self._ongoing() is None:
            self._deny_without_permit()
        return await self._select(
            model=model,
            request_kwargs=request_kwargs,
            messages=messages,
            input=input,
            specific_deployment=specific_deployment,
        )

    def get_available_deployment(self, *_: object, **__: object) -> NoReturn:
        """Refuses: LiteLLM asks no hook on its synchronous paths, so nothing could hold them to a permit.

        Raises:
            RequestDenied: Always.
        """
        raise CallDenied(_SYNCHRONOUS)

    def _guard(self, router: Any) -> None:
        """Puts this strategy where the router's calls pass; see docs/sdk.md for what each place shuts."""
        if isinstance(getattr(router.async_function_with_fallbacks, "__self__", None), PermitRoutingStrategy):
            raise ConfigurationError("the router has a PermitRoutingStrategy already")
        selects = getattr(router, "_core_async_get_available_deployment", None)
        self._select: Callable[..., Awaitable[Any]] = selects or router.async_get_available_deployment
        self._run: Callable[..., Awaitable[Any]] = router.async_function_with_fallbacks
        made = {
            name for name, each in vars(getattr(router, "_core", router)).items() if inspect.isfunction(each)
        }
        take = getattr(router, "register_plugin", None) or router.set_custom_routing_strategy
        take(self)
        # LiteLLM drops a custom strategy when its settings name another one.
        router._reset_custom_routing_strategy = _keep  # noqa: SLF001 - no public way
        router.async_function_with_fallbacks = self._call
        for name in made - _OPEN_METHODS:
            setattr(router, name, _refusing(name))
        for name in _PASS_THROUGH:
            if hasattr(router, name):
                setattr(router, name, _refusing(name))
        forbid_redirects()
        forbid_repeats()
        watch_openings()
        register()

    async def _call(self, *args: Any, **kwargs: Any) -> Any:
        """The router's retry and fallback loop, which every asynchronous call passes, fallbacks again."""
        ongoing = self._ongoing()
        if ongoing is not None:
            _check_arguments(kwargs)
            return await self._run(*args, **kwargs)
        register()
        call = self._begin(kwargs)
        with inside(call):
            try:
                self._prepare(call, kwargs)
                answer = await self._run(*args, **kwargs)
            except Exception as error:
                wanted = self._failed(call, error)
                self._ended(call, True)
                if wanted is error:
                    raise
                raise wanted from error
            except BaseException:
                self._ended(call, False)
                raise
        if hasattr(type(answer), "__aiter__"):
            return CallStream(answer, call, self._failed, self._ended)
        self._ended(call, True)
        return answer

    def _begin(self, kwargs: Mapping[str, Any]) -> RouterCall:
        """The state of a new call, under the permit of this context.

        Raises:
            RequestDenied: There is no permit, or this kind of call is not open.
        """
        function = kwargs.get("original_generic_function") or kwargs.get("original_function")
        grant = grant_of(self)
        try:
            return self._admit(function, grant)
        except CallDenied as denied:
            permit = grant.permit if grant is not None else None
            denied.decision_id = self._record_refusal(denied.verdict, permit, _path(function))
            raise

    def _admit(self, function: object, grant: Grant | None) -> RouterCall:
        if not inspect.iscoroutinefunction(function):
            raise CallDenied(_SYNCHRONOUS)
        call_type = _KINDS.get(function.__name__)
        if call_type is None:
            raise CallDenied(_not_open(_path(function)))
        if self._closed:
            raise CallDenied(_CLOSED)
        if grant is None or grant.closed:
            self._deny_without_permit()
        return self._new_call(grant, call_type, _path(function))

    def _new_call(self, grant: Grant, call_type: CallType, path: str) -> RouterCall:
        if grant.is_single_use and grant.claim is None:
            raise CallDenied(verdict_of(PermitRejected(Reason.REPLAYED)))
        claim, grant.claim = grant.claim, None
        permit = grant.permit
        call = RouterCall(
            policy=self._policy,
            permit=permit,
            scope=permit.scope(self._policy.requirements[permit.data_classification]),
            call_type=call_type,
            method=_METHOD,
            template=path,
            received_s=self._runtime.clock.monotonic(),
            slot="litellm_metadata" if call_type in _OTHER_SLOT else "metadata",
            claim=claim,
            grant=grant,
            hooks=self._hooks,
        )
        grant.calls[id(call)] = call
        return call

    def _prepare(self, call: RouterCall, kwargs: dict[str, Any]) -> None:
        """Plans, sets how often LiteLLM's retry loop may run, and tells its callbacks of the decision.

        Raises:
            RequestDenied: The call cannot be made as it stands, or nothing here is authorized for it.
        """
        _check_arguments(kwargs)
        body = _body(kwargs, call.call_type)
        self._enforcement.prepare(body)
        for name in ("num_retries", "litellm_trace_id", "litellm_session_id"):
            kwargs[name] = body[name]
        told = body[call.slot]["spend_logs_metadata"]
        given = kwargs.get(call.slot) or {}
        kwargs[call.slot] = {
            **given,
            "spend_logs_metadata": {**(given.get("spend_logs_metadata") or {}), **told},
        }

    def _failed(self, call: RouterCall, error: Exception) -> Exception:
        """What the caller gets for an error: the verdict if the request ended with one, else the error."""
        if isinstance(error, RequestDenied):
            call.end(error.verdict)
        else:
            self._end_unreported(call, error)
        if call.verdict is None or call.response_started:
            return error
        decision_id = self._runtime.recorder.denial(call, call.verdict)
        if isinstance(error, CallDenied) and error.verdict == call.verdict:
            error.decision_id = decision_id
            return error
        return CallDenied(call.verdict, decision_id)

    def _end_unreported(self, call: RouterCall, error: Exception) -> None:
        """Closes an attempt that failed where LiteLLM's loop does not look: a stream that never opened."""
        attempt = call.current
        if attempt is not None and attempt.status is None and not call.response_started:
            with self._outcomes.guarded(), inside(call):
                self._outcomes.failed(attempt.candidate.deployment_id, error)

    def _ended(self, call: RouterCall, answered: bool) -> None:  # noqa: FBT001 - a callback's fact
        if call.grant is not None:
            call.grant.calls.pop(id(call), None)
        last = call.current
        is_use = last is not None and _is_use(last.status, call.verdict)
        self._runtime.close(call, answered=answered, used=is_use)

    def _ongoing(self) -> RouterCall | None:
        """The call of this router that runs here, to which fallbacks and continued streams belong."""
        call = current_call()
        if call is None or call.hooks is not self._hooks:
            return None
        # Whoever enters another permit inside a call begins another call.
        return call if call.grant is grant_of(self) and not call.closed else None

    def _deny_without_permit(self) -> NoReturn:
        self._runtime.count_no_context()
        raise CallDenied(_NO_PERMIT)

    def _verify(self, token: str) -> Permit:
        clock = self._runtime.clock
        return self._runtime.verifier.verify(token, now=clock.wall(), monotonic_s=clock.monotonic())

    async def _take(self, permit: Permit, body_sha256: str) -> Claim | None:
        try:
            return await self._runtime.claim(permit, body_sha256, self._policy)
        except PermitRejected as rejected:
            self._record_refusal(verdict_of(rejected), permit)
            raise

    def _give_back(self, grant: Grant) -> None:
        """Lets a use that no call took be taken again."""
        self._ended(self._new_call(grant, CallType.CHAT, _ENTRY), True)

    def _record_refusal(self, verdict: Verdict, permit: Permit | None, path: str = _ENTRY) -> str:
        route = Route(PathKind.GOVERNED, _METHOD, path)
        return self._runtime.recorder.refusal({}, route, verdict, permit)


_NO_PERMIT: Final = Verdict(
    Reason.NO_CONTEXT,
    "A call of a guarded router needs a permit: make it inside `with strategy.permit(...)`. Nothing was sent.",
)
_SYNCHRONOUS: Final = Verdict(
    Reason.PATH_NOT_PERMITTED,
    "Synchronous calls of a guarded router are refused, since LiteLLM asks no hook there; await the asynchronous "
    "one (acompletion, atext_completion, aembedding, aresponses). Nothing was sent.",
)
_CLOSED: Final = Verdict(Reason.NOT_READY, "The permit routing strategy is closed; nothing was sent.")


def _path(function: object) -> str:
    """How records and messages name the router's method behind one of its functions."""
    return f"Router.{getattr(function, '__name__', '').removeprefix('_')}"


def _not_open(path: str) -> Verdict:
    return Verdict(
        Reason.PATH_NOT_PERMITTED,
        f"{path} is not open under a permit; docs/sdk.md lists the calls that are. Nothing was sent.",
    )


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise CallDenied(_not_open(f"Router.{name}"))

    return refuse


def _is_use(status: AttemptStatus | None, verdict: Verdict | None) -> bool:
    """Whether a call used its permit up: an answer, a provider's word on the request, or what may have taken effect."""
    if verdict is not None and verdict.reason is Reason.NOT_REPEATED:
        return True
    return status is None or status is AttemptStatus.SUCCESS or status.is_about_request


def _keep() -> None:
    """In place of what drops a custom routing strategy."""


def _check_arguments(kwargs: Mapping[str, Any]) -> None:
    """Refuses what the deployment's configuration has to say, on the first hop and on every fallback.

    Raises:
        RequestDenied: Names the argument.
    """
    named = sorted(name for name in kwargs if name in _STEERING and kwargs[name])
    if named:
        raise CallDenied(
            Verdict(
                Reason.DESTINATION_MISMATCH,
                f"The argument {named[0]!r} is refused under a permit: only a deployment's configuration says where "
                "a call goes. Nothing was sent.",
            )
        )


def _body(kwargs: Mapping[str, Any], call_type: CallType) -> dict[str, Any]:
    """What of a router's arguments is the request itself; LiteLLM's metadata is no part of it."""
    names = (PUBLISHED[call_type] - {"metadata"}) | {
        *REFUSED_FIELDS.get(call_type, ()),
        "litellm_call_id",
    }
    body = {name: value for name, value in kwargs.items() if name in names}
    if isinstance(body.get("messages"), list):
        body["messages"] = [_plain(message) for message in body["messages"]]
    return body


def _plain(message: Any) -> Any:
    """A message as a mapping; LiteLLM takes its own answers' message objects too."""
    dump = getattr(message, "model_dump", None)
    return dump(exclude_none=True) if callable(dump) else message


def _policy(policy: Mapping[str, Any] | str | Path | PolicySnapshot) -> tuple[PolicySnapshot, Path]:
    """The policy, and the folder that its relative paths are taken from."""
    match policy:
        case PolicySnapshot():
            return policy, Path.cwd()
        case str() | Path():
            path = Path(policy).resolve()
            return load_policy(path.name, Flags(), base=path.parent), path.parent
        case _:
            return load_policy(policy, Flags(), base=Path.cwd()), Path.cwd()


def _configuration(router: Any) -> dict[str, Any]:
    """A router's settings in the shape that the self-check reads."""
    with warnings.catch_warnings():
        # 1.109 deprecates its old attributes; those that take their place are not in older ones.
        warnings.simplefilter("ignore", DeprecationWarning)
        entries = [dict(entry) for entry in router.model_list or ()]
        names = ("routing_strategy", "enable_pre_call_checks", "disable_cooldowns")
        settings = {name: getattr(router, name, None) for name in names}
    settings["routing_strategy"] = str(settings["routing_strategy"] or "simple-shuffle")
    for entry in entries:
        info = dict(entry.get("model_info") or {})
        if _MADE_UP_ID.fullmatch(str(info.get("id"))):
            del info["id"]
        entry["model_info"] = info
    return {"model_list": entries, "router_settings": settings}
