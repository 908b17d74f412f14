"""The command `permit-router permit inspect`: what a token says, and what a router says to it."""

from __future__ import annotations

import hashlib
import sys
import time
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer

from litellm_plugin.cli.permit.description import describe
from litellm_plugin.cli.permit.expectation import Case
from litellm_plugin.cli.permit.input import STDIN, read_bytes, told_errors
from litellm_plugin.cli.permit.judgement import Judgement, judge, judge_signature
from litellm_plugin.cli.permit.policy_source import given_keys, read_policy
from litellm_plugin.cli.permit.verdict import signature_verdict, verdict
from litellm_plugin.errors import ConfigurationError, PermitRejected
from litellm_plugin.permit import CompactToken, parse_compact
from litellm_plugin.permit.claims import parse_payload
from litellm_plugin.permit.signature import DEFAULT_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litellm_plugin.cli.permit.policy_source import Policy

_INVALID: Final = 1
_UNDECIDED: Final = 3
# Above any limit that a router can have; more is refused without being read.
_READ_LIMIT_BYTES: Final = 128 * 1024


def inspect(  # noqa: PLR0917 - typer makes options of them
    token: Annotated[
        str, typer.Argument(help="The token; by default it is read from stdin, past the shell's history.")
    ] = STDIN,
    config: Annotated[
        Path | None, typer.Option(help="LiteLLM's YAML, with litellm_settings.permit_router.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="A file with the policy block alone.")] = None,
    jwks: Annotated[
        Path | None, typer.Option(help="The issuer's public keys, instead of the configured ones.")
    ] = None,
    body: Annotated[
        str | None, typer.Option(help="The request body: a file, or - for stdin; needs a policy.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Judge as of then: seconds since the epoch, or ISO 8601 with an offset."),
    ] = None,
) -> None:
    """Explains a permit offline: what it says and, with a policy, which check it fails and why.

    Neither the token nor its signature is printed. Exit code 0: what was checked holds; 1: a check failed;
    2: the token, a file or an option cannot be read; 3: a policy was given, nothing failed, but there are no
    keys to check the signature with.
    """
    with told_errors():
        now = _moment(at)
        if body is not None and config is None and policy is None:
            raise ConfigurationError("--body: a policy to hold it against is expected, --config or --policy")
        if body == STDIN and token == STDIN:
            raise ConfigurationError("--body -: standard input holds the token; a file is expected")
        against = read_policy(config, policy)
        raw = None if body is None else read_bytes(body, "the body")
        text = _text(token)
        compact, members = _read(text, against)
        if against is None:
            judgement, lines = _look_at(compact, members, now, jwks)
        else:
            digest = None if raw is None else hashlib.sha256(raw).hexdigest()
            judgement = judge(text, compact, against, now, jwks=jwks, body_sha256=digest)
            case = Case(compact, members, now, judgement.keys, against.snapshot, judgement.trust, raw)
            lines = verdict(judgement, case, against)
    for line in (*describe(compact.header, members, now), "", *lines):
        print(line)
    raise typer.Exit(_code(judgement))


def _moment(at: str | None) -> float:
    if at is None:
        return time.time()
    try:
        if at.isascii() and at.isdecimal():
            return datetime.fromtimestamp(int(at), UTC).timestamp()
        return _with_offset(datetime.fromisoformat(at)).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(
            f"--at {at[:80]!r}: seconds since the epoch, or ISO 8601 with an offset such as "
            "2026-11-22T10:00:00Z, are expected"
        ) from error


def _with_offset(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("no offset")
    return moment


def _text(token: str) -> str:
    if token != STDIN:
        return token.strip()
    if sys.stdin.isatty():
        print("Paste the token, then Ctrl-D:", file=sys.stderr)
    text = read_bytes(STDIN, "the token", limit_bytes=_READ_LIMIT_BYTES).decode("utf-8", "replace").strip()
    if not text:
        raise ConfigurationError("no token: one is expected on standard input")
    return text


def _read(text: str, against: Policy | None) -> tuple[CompactToken, dict[str, object]]:
    """The token in its parts, and the members of its payload."""
    limit = DEFAULT_MAX_BYTES if against is None else against.snapshot.permit.max_permit_bytes
    try:
        compact = parse_compact(text, max_bytes=limit)
        return compact, parse_payload(compact.payload)
    except PermitRejected as rejected:
        raise ConfigurationError(
            f"the token cannot be read ({rejected}): expected {rejected.expected}"
        ) from rejected


def _look_at(
    compact: CompactToken, members: dict[str, object], now: float, jwks: Path | None
) -> tuple[Judgement, Iterable[str]]:
    """What can be said of a token without a policy: at most, whether it is signed."""
    keys = None if jwks is None else given_keys(jwks)
    judgement = Judgement(rejected=None if keys is None else judge_signature(compact, keys), keys=keys)
    return judgement, signature_verdict(judgement, Case(compact, members, now, keys))


def _code(judgement: Judgement) -> int:
    if judgement.rejected is not None:
        return _INVALID
    return _UNDECIDED if judgement.omitted else 0
