"""The replay stores: where the uses of permits are kept, in memory or on a Redis or Valkey server."""

from __future__ import annotations

import heapq
import math
import time
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.state.conversation import open_ahead
from litellm_plugin.state.store_line import AT_ONCE, StoreLine
from litellm_plugin.state.store_loop import in_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litellm_plugin.state.conversation import Client
    from litellm_plugin.state.store_loop import Runner

_Answer = TypeVar("_Answer")

# A Cluster none of whose nodes answers is no `RedisError` to redis-py.
_LOST = (RedisError, RedisClusterException, OSError)
_SILENT = (OSError, RedisConnectionError, RedisTimeoutError, RedisClusterException)
# To redis-py these are errors of the connection; but the server said them.
_SAID = (AuthenticationError, AuthorizationError, BusyLoadingError)

PREFIX = "permit-router:"
# About 0.5 KB each: 50 MB at most; with permits of 300 s it holds 270 requests a second of one worker.
CAPACITY = 100_000


class MemoryReplayStore:
    """Keeps the uses that this worker saw; another worker, or this one restarted, knows nothing of them.

    When it is full of uses that still count it refuses new ones, since a forgotten use admits a replay.

    Args:
        clock: Monotonic seconds.
        capacity: How many keys it holds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._entries: dict[str, tuple[str, float]] = {}
        # One item a key; its end may have moved on since, see `_expire`.
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    async def put_if_absent(self, key: str, value: str, ttl_s: float) -> str | None:
        """Puts the value and gives None; where one stands already, gives that one and changes nothing.

        Raises:
            StoreUnavailable: The store is full of keys whose time has not ended.
        """
        now_s = self._clock()
        self._expire(now_s)
        standing = self._entries.get(key)
        if standing is not None:
            return standing[0]
        self._put(key, value, now_s + ttl_s)
        return None

    async def replace(self, key: str, value: str, ttl_s: float) -> None:
        """Puts the value, whatever stands there.

        Raises:
            StoreUnavailable: The key is new and the store is full of keys whose time has not ended.
        """
        now_s = self._clock()
        self._expire(now_s)
        self._put(key, value, now_s + ttl_s)

    def _put(self, key: str, value: str, end_s: float) -> None:
        if key not in self._entries:
            if len(self._entries) >= self._capacity:
                raise StoreUnavailable(f"{self._capacity} uses are kept in memory, and all still count")
            heapq.heappush(self._ends, (end_s, key))
        self._entries[key] = (value, end_s)

    def _expire(self, now_s: float) -> None:
        """Drops the keys whose time has ended; a key that was replaced is looked at again at its new end."""
        while self._ends and self._ends[0][0] <= now_s:
            _, key = heapq.heappop(self._ends)
            end_s = self._entries[key][1]
            if end_s <= now_s:
                del self._entries[key]
            else:
                heapq.heappush(self._ends, (end_s, key))


class RedisReplayStore:
    """Keeps the uses on a server that all workers share.

    A burst waits in line, and a call that meets silence asks again for a moment, see `StoreLine`; how long each try
    waits is the client's matter, see `connect`.

    Args:
        client: A client without retries; its owner closes it.
        prefix: What every key begins with.
        run: Where the client is used: a client belongs to one event loop.

    Raises:
        ValueError: The prefix has braces, which would override the slot that keys choose in a Cluster.
    """

    def __init__(self, client: Client, prefix: str = PREFIX, *, run: Runner[Any] = in_place) -> None:
        if "{" in prefix or "}" in prefix:
            raise ValueError(f"expected a key prefix without braces, got {prefix!r:.80}")
        self._client = client
        self._prefix = prefix
        self._run = run
        self._line = StoreLine()
        self._may_get = True

    async def put_if_absent(self, key: str, value: str, ttl_s: float) -> str | None:
        """Puts the value and gives None; where one stands already, gives that one and changes nothing.

        Where the value itself stands there, that is None too: a try whose reply was lost may have put it. So no two
        callers may put the same value where it matters who was first.

        Raises:
            StoreUnavailable: The server refuses, is gone or does not answer in time.
        """
        standing = _text(await self._asked(lambda: self._put(self._prefix + key, value, _px(ttl_s))))
        return None if standing == value else standing

    async def replace(self, key: str, value: str, ttl_s: float) -> None:
        """Puts the value, whatever stands there.

        Raises:
            StoreUnavailable: The server refuses, is gone or does not answer in time.
        """
        await self._asked(lambda: self._client.set(self._prefix + key, value, px=_px(ttl_s)))

    async def open_ahead(self) -> bool:
        """Opens the connections that a burst would need, and says whether the server was there."""
        try:
            await self._run(open_ahead(self._client, AT_ONCE))
        except _LOST:
            return False
        return True

    async def _asked(self, operation: Callable[[], Awaitable[_Answer]]) -> _Answer:
        async def once() -> _Answer:
            try:
                return await operation()
            except _LOST as error:
                raise _unavailable(error) from error

        try:
            # The line is where the client is: a worker's own loop, which may be late, has no part in it.
            answer: _Answer = await self._run(self._line.ask(once))
        except OSError as error:
            raise _unavailable(error) from error
        return answer

    async def _put(self, key: str, value: str, px: int) -> object:
        if self._may_get:
            try:
                return await self._client.set(key, value, nx=True, get=True, px=px)
            except ResponseError as error:
                # Redis before 7.0 takes NX or GET, not both (redis/redis#8906).
                if "syntax error" not in str(error):
                    raise
                self._may_get = False
        return await self._put_then_get(key, value, px)

    async def _put_then_get(self, key: str, value: str, px: int) -> object:
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.set(key, value, nx=True, px=px)
            pipeline.get(key)
            was_put, standing = await pipeline.execute()
        return None if was_put else standing


def _text(standing: object) -> str | None:
    if standing is None:
        return None
    return standing.decode(errors="replace") if isinstance(standing, bytes) else str(standing)


def _px(ttl_s: float) -> int:
    return math.ceil(ttl_s * 1000)


def _unavailable(error: Exception) -> StoreUnavailable:
    is_silent = isinstance(error, _SILENT) and not isinstance(error, _SAID)
    return StoreUnavailable(f"{type(error).__name__}: {error!s:.160}", is_silent=is_silent)
