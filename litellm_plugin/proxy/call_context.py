"""Call contexts: the block of a caller's code in which a router's calls stand under one permit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.calls import Grant, grants

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Token

    from litellm_plugin.permit import Claim, Permit


class PermitContext:
    """What `PermitRoutingStrategy.permit` gives: `with` it, or `async with` where permits are for a single use.

    Contexts nest, and each task has its own. After the exit no attempt begins; open streams may be read on.

    Args:
        owner: The strategy for whose router the permit is.
        permit: The verified permit.
        take: Takes the one use of the permit; None where it has no single use.
        give_back: Is handed the grant at the exit if no call took that use.
    """

    def __init__(
        self,
        owner: object,
        permit: Permit,
        take: Callable[[], Awaitable[Claim | None]] | None,
        give_back: Callable[[Grant], None],
    ) -> None:
        self.permit = permit
        self._take = take
        self._give_back = give_back
        self._grant = Grant(owner, permit, is_single_use=take is not None)
        self._token: Token[Grant | None] | None = None
        self._is_used = False

    def __enter__(self) -> Self:
        if self._take is not None:
            raise ConfigurationError(
                "permit.binding is 'single_use', which asks a store: write `async with strategy.permit(...)`"
            )
        return self._enter()

    def __exit__(self, *_: object) -> None:
        token, self._token = self._token, None
        self._grant.close()
        if token is not None:
            grants.reset(token)

    async def __aenter__(self) -> Self:
        """Enters; where permits are for a single use, takes it.

        Raises:
            PermitRejected: The permit was used.
            ReplayStoreLost: Nobody can tell, and the operator wants a refusal then.
        """
        if self._take is not None and not self._is_used:
            self._grant.claim = await self._take()
        return self._enter()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()
        if self._grant.claim is not None:
            self._give_back(self._grant)

    def _enter(self) -> Self:
        if self._is_used:
            raise RuntimeError("a permit's context is entered once; ask the strategy for another")
        self._is_used = True
        self._grant.outer = grants.get()
        self._token = grants.set(self._grant)
        return self
