"""The worker's store: the connection to what replicas share, and what is kept there of permits."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from litellm_plugin.permit import SingleUse
from litellm_plugin.state import (
    MemoryReplayStore,
    RedisExchange,
    RedisReplayStore,
    StoredRevocations,
    StoreLoop,
    connect,
    store_kind,
)

if TYPE_CHECKING:
    from litellm_plugin.proxy.clock import Clock
    from litellm_plugin.proxy.shared_state import SharedState
    from litellm_plugin.settings import PolicySnapshot
    from litellm_plugin.state.conversation import Client

_logger = logging.getLogger("LiteLLM Proxy").getChild("permit_router")


class WorkerStore:
    """Uses of permits and revocations, in the store that replicas share, or in this worker where there is none.

    Args:
        clock: The worker's clock.
        shared: What replicas measure and count; it is told of the store, and knows when it is lost.

    Attributes:
        revocations: What the shared store revokes; None without one.
    """

    def __init__(self, clock: Clock, shared: SharedState) -> None:
        self._clock = clock
        self._shared = shared
        self.revocations: StoredRevocations | None = None
        # By their settings; one that a policy left still gives back what requests under way hold.
        self._single_uses: dict[tuple[str, float], SingleUse] = {}
        self._uses: MemoryReplayStore | RedisReplayStore | None = None
        self._client: Client | None = None
        self._loop: Final = StoreLoop()
        self._is_opened_ahead = False
        self._settling: asyncio.Task[None] | None = None

    def connect(self, policy: PolicySnapshot) -> None:
        """Takes the store that a policy names, and says which one that is; opens nothing yet.

        Raises:
            ConfigurationError: Its URL cannot be used.
        """
        if policy.redis_url is None:
            _logger.warning(
                "No shared store: statistics, breakers, limits and budgets are this worker's own, and forgotten at a "
                "restart; PERMIT_ROUTER_REDIS_URL, or LiteLLM's own Redis settings, name one that workers share"
            )
            return
        self._client = connect(policy.redis_url, source=policy.redis_source)
        prefix, run, kind = policy.redis_prefix, self._loop.run, store_kind(policy.redis_url)
        self.revocations = StoredRevocations(self._client, prefix, run=run)
        self._shared.connect(RedisExchange(self._client, prefix, run=run), kind)
        _logger.info("Shared store: %s, every key begins with %s", kind, prefix)

    def single_use(self, policy: PolicySnapshot) -> SingleUse:
        """The one that takes uses under this policy; all of them share one store."""
        settings = (policy.permit.single_use_when_unavailable, policy.claims.leeway_s)
        if settings not in self._single_uses:
            self._single_uses[settings] = SingleUse(
                self._kept_uses(policy),
                when_unavailable=settings[0],
                leeway_s=settings[1],
                clock=self._clock.monotonic,
            )
        return self._single_uses[settings]

    async def read_revocations(self) -> bool:
        """Reads what the store revokes, and says whether that has changed."""
        if self.revocations is None:
            return False
        return await self.revocations.read(self._clock.wall(), self._clock.monotonic())

    def settle(self) -> asyncio.Task[None]:
        """Begins to put right in the store what claims that were cut off left open; gives what is under way.

        It waits in line behind a burst of claims, and whatever else is done once a period does not wait with it.
        """
        if self._settling is None or self._settling.done():
            self._settling = asyncio.get_running_loop().create_task(
                self._settle(), name="permit-router-settle"
            )
        return self._settling

    async def _settle(self) -> None:
        for single_use in tuple(self._single_uses.values()):
            try:
                await single_use.settle()
            except Exception:
                _logger.exception("Claims that were cut off could not be put right; it is tried again")

    async def open_ahead(self, policy: PolicySnapshot | None) -> None:
        """Opens what a burst of single-use permits would have to open, once the store is there, and anew after a loss."""
        if self._shared.is_store_lost:
            self._is_opened_ahead = False
        elif not self._is_opened_ahead and policy and policy.permit.binding == "single_use":
            uses = self._kept_uses(policy)
            self._is_opened_ahead = not isinstance(uses, RedisReplayStore) or await uses.open_ahead()

    async def aclose(self) -> None:
        """Ends what still talks to the store, and closes the client after it, in the loop that it belongs to."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
        if not self._loop.is_closed:
            await self._loop.aclose(None if self._client is None else self._client.aclose)

    def health(self, now_s: float) -> dict[str, object]:
        """What the health page says of revocations."""
        revocations = self.revocations
        age_s = revocations.age_s(now_s) if revocations else None
        return {
            "revocations_age_seconds": None if age_s is None else round(age_s, 1),
            "revocations_skipped": revocations.skipped if revocations else 0,
            "revocations_over_limit": [str(kind) for kind in revocations.over_limit] if revocations else [],
        }

    def _kept_uses(self, policy: PolicySnapshot) -> MemoryReplayStore | RedisReplayStore:
        if self._uses is None:
            self._uses = (
                RedisReplayStore(self._client, policy.redis_prefix, run=self._loop.run)
                if self._client
                else MemoryReplayStore(self._clock.monotonic)
            )
        return self._uses
