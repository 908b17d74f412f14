"""Affinity: which deployment answered a session last, and which ones have a prompt's prefix cached."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from litellm_plugin.routing.candidates import Affinity

if TYPE_CHECKING:
    from collections.abc import Callable

# About 300 bytes an entry: some 30 MB a worker at most.
DEFAULT_LIMIT: Final = 100_000
_SCOPES: Final = 4_096
_DEPLOYMENTS_PER_PREFIX: Final = 16
# Room is made for many at once: to find the scope that holds the most is work.
_SHARE_DROPPED: Final = 64
# A write adds one at most: two a write catch up, and no write has to clear a whole memory.
_DROPPED_PER_WRITE: Final = 2


@dataclass(frozen=True, slots=True)
class AffinityScope:
    """Within what a memory holds; none steers another.

    Attributes:
        tenant: The permit's tenant.
        data_classification: The permit's data classification.
    """

    tenant: str
    data_classification: str


@dataclass(frozen=True, slots=True)
class _Held:
    """What is known of one deployment until a time of the clock, in seconds."""

    tokens: int
    expires_s: float


_Key: TypeAlias = tuple[str, ...]
# What is known under a key, by deployment id: one deployment of a session, many of a prefix.
_Entry: TypeAlias = dict[str, _Held]


class AffinityMemory:
    """Remembers in this worker what answers left where.

    Entries end with their time; each write forgets two that ended of its own scope and two of the one that was
    silent for longest. Past the limit the scope that holds the most loses its oldest, so that one tenant's flood
    does not push out the others'.

    Args:
        clock: Monotonic seconds.
        limit: How many sessions and prefixes are remembered at once; 1 or more.
    """

    def __init__(self, clock: Callable[[], float], limit: int = DEFAULT_LIMIT) -> None:
        self._clock = clock
        self._limit = limit
        self._size = 0
        self._scopes: OrderedDict[AffinityScope, OrderedDict[_Key, _Entry]] = OrderedDict()

    def __len__(self) -> int:
        return self._size

    def read(
        self, scope: AffinityScope, *, model_group: str, session: str | None, prefix: str | None
    ) -> Affinity:
        """What is remembered of a session in a model group, and of a prefix; None stands for a request without one."""
        answered = self._living(scope, _session(model_group, session)) if session is not None else {}
        warm = self._living(scope, _prefix(prefix)) if prefix is not None else {}
        return Affinity(
            session_deployment=next(iter(answered), None),
            warm_tokens={deployment_id: held.tokens for deployment_id, held in warm.items()},
        )

    def remember_session(
        self,
        scope: AffinityScope,
        session: str,
        deployment_id: str,
        *,
        model_group: str,
        lifetime_s: float,
    ) -> None:
        """Notes that a deployment answered a session; the one before it is forgotten."""
        held = _Held(0, self._clock() + lifetime_s)
        self._write(scope, _session(model_group, session), {deployment_id: held})

    def remember_prefix(
        self, scope: AffinityScope, prefix: str, deployment_id: str, *, tokens: int, lifetime_s: float
    ) -> None:
        """Notes that a deployment read a prefix of so many tokens, which its provider keeps for a time."""
        known = self._living(scope, _prefix(prefix))
        known.pop(deployment_id, None)
        while len(known) >= _DEPLOYMENTS_PER_PREFIX:
            del known[next(iter(known))]
        held = _Held(tokens, self._clock() + lifetime_s)
        self._write(scope, _prefix(prefix), {**known, deployment_id: held})

    def _living(self, scope: AffinityScope, key: _Key) -> _Entry:
        entries = self._scopes.get(scope)
        entry = entries.get(key) if entries is not None else None
        now_s = self._clock()
        return {name: held for name, held in (entry or {}).items() if held.expires_s > now_s}

    def _write(self, scope: AffinityScope, key: _Key, entry: _Entry) -> None:
        entries = self._scopes.setdefault(scope, OrderedDict())
        self._scopes.move_to_end(scope)
        self._size += key not in entries
        entries[key] = entry
        entries.move_to_end(key)
        # Nobody asks again for most of them: what ended would stand until the limit.
        for each in {scope, next(iter(self._scopes))}:
            self._drop_ended(each)
        if len(self._scopes) > _SCOPES:
            self._size -= len(self._scopes.popitem(last=False)[1])
        while self._size > self._limit:
            self._make_room()

    def _drop_ended(self, scope: AffinityScope) -> None:
        """Forgets what ended, from the least recently written on; the scope with its last."""
        entries, now_s = self._scopes[scope], self._clock()
        for _ in range(_DROPPED_PER_WRITE):
            key = next(iter(entries), None)
            if key is None or any(held.expires_s > now_s for held in entries[key].values()):
                break
            del entries[key]
            self._size -= 1
        if not entries:
            del self._scopes[scope]

    def _make_room(self) -> None:
        scope, entries = max(self._scopes.items(), key=lambda item: len(item[1]))
        for _ in range(min(self._limit // _SHARE_DROPPED, len(entries) // 2) or 1):
            entries.popitem(last=False)
            self._size -= 1
        if not entries:
            del self._scopes[scope]


def _session(model_group: str, session: str) -> _Key:
    return ("session", model_group, session)


def _prefix(prefix: str) -> _Key:
    return ("prefix", prefix)
