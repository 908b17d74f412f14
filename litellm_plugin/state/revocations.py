"""The stored revocations: what operators took back on the server that all workers share.

One sorted set a kind: a member is what was revoked, its score says until when that counts, in Unix seconds.
"""

from __future__ import annotations

import enum
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from redis.exceptions import RedisError

from litellm_plugin.state.replay import PREFIX
from litellm_plugin.state.store_loop import in_place

if TYPE_CHECKING:
    from litellm_plugin.state.conversation import Client
    from litellm_plugin.state.store_loop import Runner

# As many as the policy block takes; three full sets are read in 8 ms with the C parser that LiteLLM's proxy extra brings.
MOST_REVOKED: Final = 10_000
# A reply is cut off after 50 ms, and on a machine without processor time to spare one is missed now and then.
LOST_AFTER_MISSES: Final = 3

# The same texts as `Name` and `Kid` of settings, which is not ours to import; a test holds them together.
_NAME: Final = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_KID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOST: Final = "the store does not answer; what was read last stays in force"

_logger = logging.getLogger("LiteLLM Proxy").getChild("permit_router")


class RevokedKind(enum.StrEnum):
    """What can be revoked; the word ends the kind's key."""

    JTI = "jti"
    KID = "kid"
    POLICY_VERSION = "policy_version"

    @property
    def pattern(self) -> re.Pattern[str]:
        """What an id of this kind looks like."""
        match self:
            case RevokedKind.JTI | RevokedKind.POLICY_VERSION:
                return _NAME
            case RevokedKind.KID:
                return _KID
            case _:
                assert_never(self)


@dataclass(frozen=True, slots=True)
class RevokedEntries:
    """What one key said when it was read.

    Attributes:
        names: What is revoked.
        skipped: How many members are no id of the kind.
        is_over_limit: Whether the key holds more than are read.
    """

    names: frozenset[str] = frozenset()
    skipped: int = 0
    is_over_limit: bool = False


class StoredRevocations:
    """The last known revocations of the shared store; reading them is a background task's matter.

    A store that is lost, or a key that cannot be read, changes nothing: what was read last stays in force,
    past its time too, until the key can be read again.

    Args:
        client: A client without retries; its owner closes it.
        prefix: What every key begins with.
        limit: How many entries of a kind count; of more, those that end last, then those that sort last.
        run: Where the client is used: a client belongs to one event loop.
    """

    def __init__(
        self,
        client: Client,
        prefix: str = PREFIX,
        limit: int = MOST_REVOKED,
        *,
        run: Runner[dict[RevokedKind, object]] = in_place,
    ) -> None:
        self._client = client
        self._run = run
        self._keys = {kind: f"{prefix}revoked:{kind}" for kind in RevokedKind}
        self._limit = limit
        self._replies: dict[RevokedKind, list[bytes | str]] = {}
        self._entries = dict.fromkeys(RevokedKind, RevokedEntries())
        self._read_at_s: float | None = None
        self._misses = 0
        self._told: frozenset[str] = frozenset()

    def names(self, kind: RevokedKind) -> frozenset[str]:
        """What of a kind is revoked."""
        return self._entries[kind].names

    @property
    def skipped(self) -> int:
        """How many members of all keys are no id of their kind."""
        return sum(entries.skipped for entries in self._entries.values())

    @property
    def over_limit(self) -> list[RevokedKind]:
        """The kinds of which the store holds more than are read."""
        return [kind for kind, entries in self._entries.items() if entries.is_over_limit]

    def age_s(self, now_s: float) -> float | None:
        """How long ago all keys were read, in seconds; None before that.

        Args:
            now_s: Monotonic seconds.
        """
        return None if self._read_at_s is None else now_s - self._read_at_s

    async def read(self, now: float, now_s: float) -> bool:
        """Reads every kind in one pipeline and says whether what is revoked changed; a lost store changes nothing.

        Args:
            now: Wall clock, seconds since the epoch: an entry counts while this is before its score.
            now_s: Monotonic seconds, for the age.
        """
        try:
            replies = await self._run(self._fetch(now))
        except (RedisError, OSError):
            self._misses += 1
            if self._misses >= LOST_AFTER_MISSES:
                self._tell(self._told | {_LOST})
            return False
        self._misses = 0
        before = dict(self._entries)
        unreadable = [fault for kind in RevokedKind if (fault := self._take(kind, replies[kind]))]
        if not unreadable:
            self._read_at_s = now_s
        self._tell(frozenset((*unreadable, *self._remarks())))
        return self._entries != before

    async def _fetch(self, now: float) -> dict[RevokedKind, object]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in self._keys.values():
                # One more than count, to see that there are more; without scores, which cost ten times as much to parse.
                pipeline.zrevrangebyscore(key, "+inf", f"({now!r}", start=0, num=self._limit + 1)
            replies = await pipeline.execute(raise_on_error=False)
        return dict(zip(self._keys, replies, strict=True))

    def _take(self, kind: RevokedKind, reply: object) -> str | None:
        """Takes one key's reply, and gives what is wrong with it."""
        if not isinstance(reply, list):
            found = str(reply)[:80]
            return f"{self._keys[kind]} cannot be read ({found!r}); what was read last stays in force"
        if reply != self._replies.get(kind):
            self._replies[kind] = reply
            self._entries[kind] = _entries(reply, kind.pattern, self._limit)
        return None

    def _remarks(self) -> list[str]:
        remarks = [
            f"{self._keys[kind]} holds more than {self._limit} entries; only those that end last count"
            for kind in self.over_limit
        ]
        remarks += [
            f"{self._keys[kind]} holds members that are no id of its kind; they are skipped"
            for kind, entries in self._entries.items()
            if entries.skipped
        ]
        return remarks

    def _tell(self, faults: frozenset[str]) -> None:
        """Logs what began and what ended, a line each."""
        for fault in sorted(faults - self._told):
            _logger.warning("Stored revocations: %s", fault)
        for fault in sorted(self._told - faults):
            _logger.info("Stored revocations: no more: %s", fault)
        self._told = faults


def _entries(reply: list[bytes | str], pattern: re.Pattern[str], limit: int) -> RevokedEntries:
    counted = [_text(member) for member in reply[:limit]]
    names = frozenset(name for name in counted if pattern.fullmatch(name))
    return RevokedEntries(names, skipped=len(counted) - len(names), is_over_limit=len(reply) > limit)


def _text(member: bytes | str) -> str:
    """A member as text; whether the owner's client decodes is its own choice."""
    return member.decode("ascii", errors="replace") if isinstance(member, bytes) else member
