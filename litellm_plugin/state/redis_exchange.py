"""The Redis exchange: what replicas share on a Redis or Valkey server, in one pipeline a batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.state.conversation import conversation
from litellm_plugin.state.exchange import Reply
from litellm_plugin.state.redis_hashes import change_commands, read_hashes, repairs
from litellm_plugin.state.redis_leases import (
    answers,
    granted,
    is_script_forbidden,
    is_script_missing,
    loading_commands,
    script_commands,
    seconds,
    watch_and_settle,
)
from litellm_plugin.state.replay import PREFIX
from litellm_plugin.state.store_loop import in_place

if TYPE_CHECKING:
    from litellm_plugin.state.conversation import Client, Command, Conversation
    from litellm_plugin.state.exchange import Batch, Contribution, Lease
    from litellm_plugin.state.redis_hashes import Exchanged
    from litellm_plugin.state.store_loop import Runner

# Raised with every change of what stands under a key, so that two versions of the plugin never meet.
VERSION: Final = "v1"
# Each reply has 50 ms of its own; this bounds a server that drips.
DEADLINE_S: Final = 0.25
# A server that forbids scripts is asked again after as many batches: it notes each refusal in its ACL log.
ASKED_AGAIN_AFTER: Final = 60

_WRITES: Final = frozenset({"HINCRBY", "HSET"})


class RedisExchange:
    """Keeps hashes and leases on a server that all workers share; it never retries.

    All keys carry one hash tag, so that a batch goes to one node of a Cluster.

    Args:
        client: A client without retries, see `connect`; its owner closes it.
        prefix: What every key begins with.
        deadline_s: How long a batch may take, in seconds; how long each reply may take is the client's matter.
        run: Where the client is used: a client belongs to one event loop.

    Raises:
        ValueError: The prefix has braces, which would override the hash tag.
    """

    def __init__(
        self,
        client: Client,
        prefix: str = PREFIX,
        deadline_s: float = DEADLINE_S,
        *,
        run: Runner[Reply] = in_place,
    ) -> None:
        if "{" in prefix or "}" in prefix:
            raise ValueError(f"expected a key prefix without braces, got {prefix!r:.80}")
        self._client = client
        self._prefix = f"{prefix}{{state}}:{VERSION}:"
        self._deadline_s = deadline_s
        self._run = run
        self._batches_without_script = 0

    async def exchange(self, batch: Batch) -> Reply:
        """Takes a batch and answers it.

        Raises:
            StoreUnavailable: The server refuses, is gone or does not answer in time.
        """
        # A loop that was closed sends nothing.
        try:
            return await self._run(self._exchange(batch))
        except OSError as error:
            raise _unavailable(error, was_sent=False) from error

    async def _exchange(self, batch: Batch) -> Reply:
        was_sent = False
        try:
            async with asyncio.timeout(self._deadline_s), conversation(self._client, self._prefix) as server:
                was_sent = True
                return await self._take(server, batch)
        except (RedisError, OSError) as error:
            raise _unavailable(error, was_sent=was_sent) from error

    async def aclose(self) -> None:
        """Closes nothing: the client is its owner's."""

    async def _take(self, server: Conversation, batch: Batch) -> Reply:
        hashes = self._hash_commands(batch.contribution)
        scripts = self._script_commands(batch)
        time, *replies = await server.ask([("TIME",), *hashes, *scripts])
        exchanged = list(zip(hashes, replies, strict=False))
        _refuse_with(time, exchanged)
        again, skipped = repairs(exchanged)
        if again:
            exchanged += zip(again, await server.ask(again), strict=True)
        leases, unread = await self._lease(server, batch, replies[len(hashes) :])
        return Reply(
            now_s=seconds(time),
            hashes=read_hashes(self._prefix, exchanged),
            leases=leases,
            skipped=skipped + unread,
        )

    def _hash_commands(self, contribution: Contribution) -> list[Command]:
        return [
            *(
                command
                for change in contribution.changes
                for command in change_commands(self._prefix, change)
            ),
            *(("HGETALL", self._prefix + key) for key in contribution.reads),
        ]

    def _script_commands(self, batch: Batch) -> list[Command]:
        """None while scripts are forbidden."""
        if self._batches_without_script:
            self._batches_without_script -= 1
            return []
        return script_commands(self._prefix, batch)

    async def _lease(
        self, server: Conversation, batch: Batch, replies: list[object]
    ) -> tuple[dict[str, Lease], int]:
        """The leases, and how many tables could not be read."""
        requests = batch.contribution.leases
        if any(map(is_script_missing, replies)):
            replies = await server.ask(loading_commands(self._prefix, batch))
        if any(map(is_script_forbidden, replies)):
            self._batches_without_script = ASKED_AGAIN_AFTER
        elif replies:
            leases = granted(requests, answers(replies))
            return leases, len(requests) - len(leases)
        return await watch_and_settle(server, self._prefix, batch) if requests else ({}, 0)


def _refuse_with(time: object, exchanged: Exchanged) -> None:
    """Ends a batch that the server refuses, as a replica does, or one that is full.

    Raises:
        StoreUnavailable: It refused; where it took no change at all, the batch counts as not sent.
    """
    try:
        answers([time, *(reply for _, reply in exchanged)])
    except RedisError as error:
        was_sent = any(
            command[0] in _WRITES and not isinstance(reply, RedisError) for command, reply in exchanged
        )
        raise _unavailable(error, was_sent=was_sent) from error


def _unavailable(error: Exception, *, was_sent: bool) -> StoreUnavailable:
    return StoreUnavailable(f"{type(error).__name__}: {error!s:.160}", was_sent=was_sent)
