"""The single use of a permit: its `(iss, jti)` is claimed in a store before the request goes on.

Each try of a permit has a key of its own, so that two operations that every server has, "put if absent"
and "put", are enough for exactly one winner. A key holds `taken:<body>:<claimant>` from the claim on, and
`free:<body>` once that try ended without an answer; only the claimant whose value stands there frees it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from dataclasses import replace as changed
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, Protocol

from litellm_plugin.errors import PermitRejected, PermitRouterError, Reason, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from litellm_plugin.permit.claims import Permit

# The first, and two more: the OpenAI and Anthropic SDKs resend a failed request twice by default.
MOST_TRIES: Final = 3
# A worker whose clock is slow admits a permit for as long after its end; a minute of keys is cheap.
CLOCK_SKEW_S: Final = 60.0
MOST_UNSETTLED: Final = 10_000

_SHORTEST_TTL_S: Final = 1.0
_SETTLED_AT_ONCE: Final = 256
_QUIET_S: Final = 60.0
_SINGLE_USE: Final = "a permit of its own for each request"

_logger = logging.getLogger("LiteLLM Proxy").getChild("permit_router")


class ReplayStore(Protocol):
    """Where uses are kept; every key goes by itself at the end of its time, and none earlier.

    Both operations raise `StoreUnavailable` when the store does not answer or has no room. They end by themselves: how
    long they wait is the store's matter, since an event loop that is late would take its own time for the store's.
    """

    async def put_if_absent(self, key: str, value: str, ttl_s: float) -> str | None:
        """Puts the value and gives None; where one stands already, gives that one and changes nothing."""

    async def replace(self, key: str, value: str, ttl_s: float) -> None:
        """Puts the value, whatever stands there."""


class ReplayStoreLost(PermitRouterError):  # noqa: N818 - a state, not a mistake
    """The store did not say in time whether the permit was used, and the operator wants a denial then."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One try of one permit, held until the request ends.

    Attributes:
        identity: SHA-256(iss NUL jti), 64 lowercase hexadecimal digits; never the token's text, which has
            more than one spelling.
        body_sha256: SHA-256 of the raw body, 64 lowercase hexadecimal digits.
        claimant: What tells this claim from every other.
        ttl_s: How long the store keeps it, in seconds.
        number: Which try it is, from 1.
        is_recorded: False where the store was lost and the operator admits then.
    """

    identity: str
    body_sha256: str
    claimant: str
    ttl_s: float
    number: int = 1
    is_recorded: bool = True

    @property
    def key(self) -> str:
        """The try's key; the braces keep all tries of a permit in one slot of a Redis Cluster."""
        return f"replay:{{{self.identity}}}:{self.number}"

    @property
    def taken(self) -> str:
        """The value of a try under way, or answered."""
        return f"taken:{self.body_sha256}:{self.claimant}"

    @property
    def freed(self) -> str:
        """The value of a try that ended without an answer."""
        return f"free:{self.body_sha256}"


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """What should stand under a claim's key, where nobody knows what does."""

    claim: Claim
    wanted: str


class SingleUse:
    """Admits each permit once; again only with the same body, after a try without an answer, twice at most.

    A try whose operation was cut off (time, cancellation) may or may not stand in the store. It is kept
    here, freed by `settle`, and passed over by this worker meanwhile: a resent request meets `replayed`
    only where somebody was let in.

    Args:
        store: Where uses are kept.
        when_unavailable: Whether a request is denied or admitted while the store is lost.
        leeway_s: How long after `exp` the verifier still takes a permit, in seconds.
        max_unsettled: How many cut-off tries are kept.
        clock: Monotonic seconds; for the log alone.
    """

    def __init__(
        self,
        store: ReplayStore,
        *,
        when_unavailable: Literal["deny", "admit"] = "deny",
        leeway_s: float = 5.0,
        max_unsettled: int = MOST_UNSETTLED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._when_unavailable = when_unavailable
        self._leeway_s = leeway_s
        self._unsettled: OrderedDict[str, _Unsettled] = OrderedDict()
        self._max_unsettled = max_unsettled
        self._clock = clock
        self._is_lost = False
        self._is_loss_logged = False
        self._quiet_until_s = -math.inf

    @property
    def is_lost(self) -> bool:
        """Whether the last operation got no answer from the store."""
        return self._is_lost

    async def claim(self, permit: Permit, body_sha256: str, now: float) -> Claim:
        """Claims the permit for one request: one operation of the store, and one more for each earlier try.

        A request that is cancelled meanwhile may use up a try of its permit.

        Args:
            permit: A verified permit.
            body_sha256: SHA-256 of the raw body, 64 lowercase hexadecimal digits.
            now: Wall clock, seconds since the epoch.

        Raises:
            PermitRejected: With `replayed`; the detail says why.
            ReplayStoreLost: The store did not answer in time, and the setting is to deny.
        """
        claim = self._first_try(permit, body_sha256, now)
        try:
            while not await self._take(claim):
                claim = changed(claim, number=claim.number + 1)
        except StoreUnavailable as error:
            self._note_loss(error)
            if self._when_unavailable != "admit":
                raise ReplayStoreLost("the replay store did not answer in time") from error
            self._leave(claim, claim.taken)
            return changed(claim, is_recorded=False)
        return claim

    async def release(self, claim: Claim) -> None:
        """Frees a claim whose request ended without an answer; a lost store only delays it.

        Call it once, and not for a request that was answered: its claim stays until the permit is dead.
        """
        if not claim.is_recorded:
            # Another request may hold the key: `settle` compares first.
            self._leave(claim, claim.freed)
            return
        try:
            await self._store.replace(claim.key, claim.freed, claim.ttl_s)
        except StoreUnavailable as error:
            self._note_loss(error)
            self._leave(claim, claim.freed)
        except asyncio.CancelledError:
            self._leave(claim, claim.freed)
            raise
        else:
            self._note_answer()

    async def settle(self) -> None:
        """Puts right in the store what cut-off operations left open; for a background task, each second.

        It works off 256 claims at most, and ends at the first that the store does not answer.
        """
        for value, open_claim in tuple(islice(self._unsettled.items(), _SETTLED_AT_ONCE)):
            try:
                await self._settle(open_claim)
            except StoreUnavailable as error:
                self._note_loss(error)
                return
            self._note_answer()
            if self._unsettled.get(value) is open_claim:
                del self._unsettled[value]

    def _first_try(self, permit: Permit, body_sha256: str, now: float) -> Claim:
        identity = hashlib.sha256(f"{permit.issuer}\0{permit.jti}".encode()).hexdigest()
        ttl_s = max(permit.expires_at + self._leeway_s + CLOCK_SKEW_S - now, _SHORTEST_TTL_S)
        return Claim(identity, body_sha256, claimant=secrets.token_hex(8), ttl_s=ttl_s)

    async def _take(self, claim: Claim) -> bool:
        """Whether the claim's try is won now; False where that try is over and another may follow."""
        try:
            standing = await self._store.put_if_absent(claim.key, claim.taken, claim.ttl_s)
        except asyncio.CancelledError:
            self._leave(claim, claim.freed)
            raise
        except StoreUnavailable as error:
            if error.was_sent:
                self._leave(claim, claim.freed)
            raise
        self._note_answer()
        if standing is None:
            return True
        if not self._is_free(standing, claim):
            raise PermitRejected(Reason.REPLAYED, _why(standing, claim), _SINGLE_USE)
        if claim.number == MOST_TRIES:
            raise PermitRejected(Reason.REPLAYED, f"all {MOST_TRIES} tries are used", _SINGLE_USE)
        return False

    def _is_free(self, standing: str, claim: Claim) -> bool:
        own = self._unsettled.get(standing)
        return claim.freed == (standing if own is None else own.wanted)

    async def _settle(self, open_claim: _Unsettled) -> None:
        """Puts the wanted value where nothing stands, or where the claim's own does.

        That the first comes too shuts a race: an operation that is still on its way finds the key taken.
        """
        claim, wanted = open_claim.claim, open_claim.wanted
        standing = await self._store.put_if_absent(claim.key, wanted, claim.ttl_s)
        if standing == claim.taken != wanted:
            await self._store.replace(claim.key, wanted, claim.ttl_s)

    def _leave(self, claim: Claim, wanted: str) -> None:
        """Keeps a claim for `settle`; beyond the bound the oldest goes, and stays taken in the store."""
        self._unsettled[claim.taken] = _Unsettled(claim, wanted)
        if len(self._unsettled) > self._max_unsettled:
            self._unsettled.popitem(last=False)

    def _note_loss(self, error: StoreUnavailable) -> None:
        """Logs a loss once, and at most one a minute: a store at its limit is lost and back many times a second."""
        self._is_lost = True
        now_s = self._clock()
        if self._is_loss_logged or now_s < self._quiet_until_s:
            return
        self._is_loss_logged = True
        self._quiet_until_s = now_s + _QUIET_S
        _logger.warning(
            "The replay store does not answer (%s); requests bound to a single use: %s",
            str(error)[:200],
            self._when_unavailable,
        )

    def _note_answer(self) -> None:
        self._is_lost = False
        if self._is_loss_logged:
            self._is_loss_logged = False
            _logger.info("The replay store answers again")


def _why(standing: str, claim: Claim) -> str:
    """Why a standing value shuts the claim out; text from the store is not repeated."""
    _, _, rest = standing.partition(":")
    if rest.partition(":")[0] == claim.body_sha256:
        return "the permit was used, or its request is under way"
    return "the permit was used with another body"
