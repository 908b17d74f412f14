"""The leases of a batch on a Redis or Valkey server: by one script, or by watching tables where scripts are forbidden."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Final

from redis.exceptions import NoPermissionError, NoScriptError, RedisError

from litellm_plugin.state.exchange import Lease
from litellm_plugin.state.lease_table import LeaseTerms, kept_ms, settle
from litellm_plugin.state.memory_exchange import lease_key
from litellm_plugin.state.redis_hashes import is_spoiled, texts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from litellm_plugin.state.conversation import Command, Conversation
    from litellm_plugin.state.exchange import Batch, LeaseRequest

# A table that another worker changed meanwhile is tried again, then left to the next period.
ROUNDS: Final = 3

_SCRIPT: Final = resources.files("litellm_plugin.state").joinpath("lease.lua").read_text(encoding="utf-8")
_SHA: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


def script_commands(prefix: str, batch: Batch) -> list[Command]:
    """What renews each lease by the script that the server holds already."""
    return [_command("EVALSHA", _SHA, prefix, batch, request) for request in batch.contribution.leases]


def loading_commands(prefix: str, batch: Batch) -> list[Command]:
    """The same for a server that does not hold the script; it keeps the one that it runs first."""
    first, *others = batch.contribution.leases
    return [
        _command("EVAL", _SCRIPT, prefix, batch, first),
        *(_command("EVALSHA", _SHA, prefix, batch, request) for request in others),
    ]


def is_script_missing(reply: object) -> bool:
    """Whether the server does not hold the script, such as after SCRIPT FLUSH or a failover."""
    return isinstance(reply, NoScriptError)


def is_script_forbidden(reply: object) -> bool:
    """Whether this user, or nobody, may run scripts."""
    return isinstance(reply, NoPermissionError) or (
        isinstance(reply, RedisError) and "unknown command" in str(reply)
    )


def granted(requests: Sequence[LeaseRequest], replies: Sequence[object]) -> dict[str, Lease]:
    """What the script granted; a table that it could not read is missing."""
    return {
        request.resource: Lease(*map(int, reply))
        for request, reply in zip(requests, replies, strict=True)
        if isinstance(reply, list)
    }


async def watch_and_settle(server: Conversation, prefix: str, batch: Batch) -> tuple[dict[str, Lease], int]:
    """Renews leases without a script: reads the tables, and writes them unless somebody else did meanwhile.

    Gives the leases, without those that met too many others, and how many tables could not be read.

    Raises:
        RedisError: The server refuses, is gone or does not answer in time.
        OSError: The same.
    """
    keys = [prefix + lease_key(request.resource) for request in batch.contribution.leases]
    for _ in range(ROUNDS):
        _, time, *tables = answers(
            await server.ask([("WATCH", *keys), ("TIME",), *(("HGETALL", key) for key in keys)])
        )
        leases, commands = _settled(batch, dict(zip(keys, tables, strict=True)), seconds(time))
        if answers(await server.ask([("MULTI",), *commands, ("EXEC",)]))[-1] is not None:
            return leases, len(keys) - len(leases)
    return {}, 0


def answers(replies: list[object]) -> list[object]:
    """The replies, unless the server refused one.

    Raises:
        RedisError: What the server refused a command with.
    """
    for reply in replies:
        if isinstance(reply, RedisError) and not is_spoiled(reply):
            raise reply
    return replies


def seconds(time: object) -> float:
    """A reply to TIME in seconds."""
    if not isinstance(time, list):
        raise RedisError(f"expected seconds and microseconds, got {time!r:.80}")
    return int(time[0]) + int(time[1]) / 1_000_000


def _command(verb: str, script: str, prefix: str, batch: Batch, request: LeaseRequest) -> Command:
    terms = LeaseTerms.of(batch, request)
    return (
        verb,
        script,
        1,
        prefix + lease_key(request.resource),
        terms.worker,
        terms.sequence,
        terms.answered,
        terms.limit,
        terms.spent,
        terms.want,
        terms.ttl_ms,
        terms.slice_ms,
        terms.lifetime_ms,
    )


def _settled(
    batch: Batch, tables: Mapping[str, object], now_s: float
) -> tuple[dict[str, Lease], list[Command]]:
    leases: dict[str, Lease] = {}
    commands: list[Command] = []
    for request, (key, table) in zip(batch.contribution.leases, tables.items(), strict=True):
        commands.append(("DEL", key))
        if is_spoiled(table):
            continue
        terms = LeaseTerms.of(batch, request)
        leases[request.resource], fields = settle(texts_of(table), terms, int(now_s * 1000))
        commands.append(("HSET", key, *(text for item in fields.items() for text in item)))
        commands.append(("PEXPIRE", key, kept_ms(fields, terms)))
    return leases, commands
