"""The conversation: commands that go out together on one connection to the node that holds a key."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeAlias

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio.connection import AbstractConnection

Client: TypeAlias = Redis | RedisCluster
Command: TypeAlias = tuple[str | bytes | int, ...]


class Conversation:
    """Asks on one connection. Every command is answered, if only by an error.

    redis-py's own pipelines are not used: one that ends early does not tell whether it was sent, and that of a
    Cluster sends what a node turned away again, command by command.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    async def ask(self, commands: Sequence[Command]) -> list[object]:
        """Sends commands in one go and gives their replies in their order, an error as the exception that it is.

        Raises:
            RedisError: The connection is lost, or silent for longer than its timeout.
            OSError: The same.
        """
        connection = self._connection
        packed = connection.pack_commands([tuple(map(_sendable, command)) for command in commands])
        await connection.send_packed_command(packed)
        return [await self._reply() for _ in commands]

    async def _reply(self) -> object:
        try:
            return await self._connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except (ResponseError, BusyLoadingError, AuthenticationError) as error:
            return error


@contextlib.asynccontextmanager
async def conversation(client: Client, key: str) -> AsyncIterator[Conversation]:
    """Borrows a connection to the node that holds a key.

    One that is left by an error or a cancellation is closed, so that nobody reads replies that are not his.

    Raises:
        RedisError: There is no such node, it cannot be reached, or no connection gets free in time.
        OSError: The same.
    """
    if isinstance(client, RedisCluster):
        async with _cluster_connection(client, key) as connection:
            yield Conversation(connection)
    else:
        async with _pooled_connection(client) as connection:
            yield Conversation(connection)


async def open_ahead(client: Client, count: int) -> None:
    """Opens connections before they are needed; a Cluster's client, which has some for each node, opens its own.

    Raises:
        RedisError: The server cannot be reached.
        OSError: The same.
    """
    if isinstance(client, RedisCluster):
        return
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(count):
            await opened.enter_async_context(_pooled_connection(client))


@contextlib.asynccontextmanager
async def _pooled_connection(client: Redis) -> AsyncIterator[AbstractConnection]:
    pool = client.connection_pool
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        yield connection
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


@contextlib.asynccontextmanager
async def _cluster_connection(client: RedisCluster, key: str) -> AsyncIterator[AbstractConnection]:
    await client.initialize()
    try:
        node = client.nodes_manager.get_node_from_slot(client.keyslot(key))
        connection = node.acquire_connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            yield connection
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            node.release(connection)
    except Exception:
        # Another node may hold the slot by now; redis-py would only ask who does for its own commands.
        with contextlib.suppress(RedisError, OSError):
            await client.nodes_manager.initialize()
        raise


def _sendable(word: str | bytes | int) -> bytes | int:
    """A word of a command; a lone surrogate, which JSON lets through, must not end the whole batch."""
    return word.encode(errors="backslashreplace") if isinstance(word, str) else word
