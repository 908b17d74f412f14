"""The hashes of a batch on a Redis or Valkey server: commands, replies, and what is done about spoiled keys."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

from redis.exceptions import RedisError

from litellm_plugin.state.lease_table import whole_ms
from litellm_plugin.state.memory_exchange import clamp_added

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from litellm_plugin.state.conversation import Command
    from litellm_plugin.state.exchange import HashChange

_WRONG_TYPE: Final = "WRONGTYPE"
_NO_NUMBER: Final = ("hash value is not an integer", "increment or decrement would overflow")

Exchanged: TypeAlias = "list[tuple[Command, object]]"


def change_commands(prefix: str, change: HashChange) -> Iterator[Command]:
    """What changes a hash; its lifetime begins anew."""
    key = prefix + change.key
    for name, amount in change.add.items():
        yield ("HINCRBY", key, name, clamp_added(amount))
    if change.put:
        yield ("HSET", key, *(text for item in change.put.items() for text in item))
    yield ("PEXPIRE", key, whole_ms(change.lifetime_s))


def is_spoiled(reply: object) -> bool:
    """Whether a reply says that something foreign stands under the key, which is no fault of the store."""
    return isinstance(reply, RedisError) and any(sign in str(reply) for sign in (_WRONG_TYPE, *_NO_NUMBER))


def repairs(exchanged: Exchanged) -> tuple[list[Command], int]:
    """Removes what is foreign and asks again what failed for it; also gives how many keys were spoiled.

    Args:
        exchanged: Commands that change or read hashes, each with its reply, in their order.
    """
    again: list[Command] = []
    spoiled: set[object] = set()
    removed: set[object] = set()
    for command, reply in exchanged:
        key = command[1]
        if is_spoiled(reply) and key not in removed:
            spoiled.add(key)
            again.append(_removal(command, reply))
            removed |= {key} if _WRONG_TYPE in str(reply) else set()
        elif foreign := _foreign_names(reply):
            spoiled.add(key)
            again.append(("HDEL", key, *foreign))
        if is_spoiled(reply) or key in removed or (key in spoiled and command[0] == "HGETALL"):
            again.append(command)
    return again, len(spoiled)


def read_hashes(prefix: str, exchanged: Exchanged) -> dict[str, dict[str, str]]:
    """What was read, by key without the prefix; a later reply counts."""
    return {
        str(command[1]).removeprefix(prefix): dict(_texts(reply))
        for command, reply in exchanged
        if command[0] == "HGETALL"
    }


def texts_of(reply: object) -> dict[str, str]:
    """A hash as text, without what is none."""
    return dict(_texts(reply))


def _removal(command: Command, reply: object) -> Command:
    if _WRONG_TYPE in str(reply):
        return ("DEL", command[1])
    return ("HDEL", command[1], command[2])


def _foreign_names(reply: object) -> list[bytes]:
    """The fields of a hash that are no text, or hold none."""
    return [name for name, value in _pairs(reply) if _text(name) is None or _text(value) is None]


def _texts(reply: object) -> Iterator[tuple[str, str]]:
    for name, value in _pairs(reply):
        read, held = _text(name), _text(value)
        if read is not None and held is not None:
            yield read, held


def _pairs(reply: object) -> Iterable[tuple[bytes, bytes]]:
    """The fields of a reply to HGETALL; a list in RESP2, a mapping in RESP3."""
    if isinstance(reply, dict):
        return reply.items()
    if isinstance(reply, list):
        return list(pairwise(reply))[::2]
    return ()


def _text(word: bytes) -> str | None:
    try:
        return word.decode()
    except UnicodeDecodeError:
        return None
