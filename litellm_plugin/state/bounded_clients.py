"""The bounded clients: redis-py's clients for Cluster and Sentinel, with waits in place of refusals when they are busy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import BlockingConnectionPool, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from redis.asyncio.cluster import ClusterNode

# Pipelines, which pass the bound by: the exchange, the revocations, and who reads the topology.
_SPARE_CONNECTIONS: Final = 8


class BoundedCluster(RedisCluster):
    """A Cluster's client whose commands wait for a free connection; redis-py's own refuses them.

    Args:
        nodes: Where the Cluster is asked who its nodes are.
        wait_s: The longest wait for a free connection, in seconds.
        max_connections: How many commands run at once; some more connections a node are kept for pipelines.
        options: What a connection is made with.
    """

    def __init__(
        self, nodes: list[ClusterNode], *, wait_s: float, max_connections: int, **options: Any
    ) -> None:
        super().__init__(startup_nodes=nodes, max_connections=max_connections + _SPARE_CONNECTIONS, **options)
        self._wait_s = wait_s
        self._running = asyncio.Semaphore(max_connections)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Runs a command when a connection is free.

        Raises:
            RedisError: The Cluster refuses, is gone or does not answer in time; or no connection got free in time.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                await self._running.acquire()
        except TimeoutError:
            raise RedisConnectionError("No connection available.") from None
        try:
            # redis-py 8.1 picks the node of a command before it asks for the nodes: of many commands at a start
            # one in twenty failed.
            await self.initialize()
            return await super().execute_command(*args, **kwargs)
        finally:
            self._running.release()


class BoundedSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the master that Sentinel names, for which commands wait; closes those to Sentinel too."""

    async def aclose(self) -> None:
        """Closes all connections."""
        await super().aclose()
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()
