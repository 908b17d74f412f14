"""The layout of a token: where each claim of a permit stands in what an issuer signs.

A gateway that cannot write our claims by our names is read through a mapping. Whatever the mapping does
not name is refused unless it is ignored by name: an unknown restriction must not be ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from litellm_plugin.errors import ConfigurationError, PermitRejected, Reason
from litellm_plugin.permit.claims import CLAIM_NAMES, CLAIM_REASONS, LIST_CLAIMS
from litellm_plugin.permit.expectation import KNOWN_CLAIMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PERMIT_TYP: Final = "permit+jwt"

CONSTANT_CLAIMS: Final = frozenset({"tenant_tier", "latency_class", "policy_version"})

_MAX_DEPTH: Final = 8
_CONTAINER: Final = "a JSON object wherever a path under `claims` leads through"
_ONE_TEXT: Final = "one text that the configured character splits into names"
# Who signed, for whom and when (RFC 7519 §4.1) is never left unread.
_NEVER_IGNORED: Final = frozenset({"iss", "aud", "exp", "iat", "nbf"})
_HARMLESS: Final = frozenset({"sub", "preferences"})

Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """A claim's place in the token.

    Attributes:
        segments: Member names from the top level down; one of them may hold dots.
        split: What separates the items where a list is written as one text; None takes the value as it is.
    """

    segments: Path
    split: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimConstant:
    """A claim that the issuer's tokens do not have and that always has one value."""

    value: str


ClaimSource: TypeAlias = ClaimPath | ClaimConstant


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """How one issuer's tokens are read.

    Attributes:
        typs: The accepted values of the header's `typ`, exact (RFC 8725 §3.11).
        claims: Where claims stand that are not at the top level under their own names.
        ignored: Paths of members that are known to restrict nothing here.

    Raises:
        ConfigurationError: A name is no claim, two paths contradict each other, or what restricts a permit
            would be ignored or made up.
    """

    typs: frozenset[str] = frozenset({PERMIT_TYP})
    claims: Mapping[str, ClaimSource] = field(default_factory=dict)
    ignored: frozenset[Path] = frozenset()
    _tree: Mapping[str, _Node] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.typs:
            raise ConfigurationError("typ: at least one value is expected")
        for name, source in self.claims.items():
            _check_source(name, source)
        for path in self.ignored:
            _check_ignored(path, self.claims)
        # The tree is made once; the mapping that it was made from must not change after.
        object.__setattr__(self, "claims", MappingProxyType(dict(self.claims)))
        object.__setattr__(self, "_tree", self._plant())

    @property
    def is_native(self) -> bool:
        """Whether every claim stands at the top level under its own name, and nothing else may."""
        return not self.claims and not self.ignored

    def read(self, members: dict[str, object]) -> dict[str, object]:
        """The claims of a payload by our names; their values are not looked at yet.

        Raises:
            PermitRejected: `claim_invalid` for a member that is neither read nor ignored; the claim's own
                reason where its place in the token has another form.
        """
        if self.is_native:
            return members
        _refuse_unread(members, self._tree)
        claims = {name: members[name] for name in self._own_names() if name in members}
        for name, source in self.claims.items():
            match source:
                case ClaimConstant(value):
                    claims[name] = value
                case ClaimPath(segments, split):
                    claims |= _found(name, members, segments, split)
        return claims

    def _own_names(self) -> Iterable[str]:
        """The claims that stand at the top level under their own names."""
        return (name for name in CLAIM_NAMES if name not in self.claims and (name,) not in self.ignored)

    def _plant(self) -> Mapping[str, _Node]:
        """Every path that may stand in a token, as one tree; contradictions stop the start."""
        own = {(name,) for name in self._own_names()}
        mapped = {source.segments for source in self.claims.values() if isinstance(source, ClaimPath)}
        root: dict[str, _Node] = {}
        for path in sorted(own | mapped | self.ignored):
            if path in self.ignored and path in mapped:
                raise ConfigurationError(f"ignore_claims: {_shown(path)} is read as a claim")
            _grow(root, path)
        return root


class _Node(dict[str, "_Node"]):
    """The members that may stand in an object; a leaf takes any value."""

    __slots__ = ("is_leaf",)

    def __init__(self, *, is_leaf: bool) -> None:
        super().__init__()
        self.is_leaf = is_leaf


def _check_source(name: str, source: ClaimSource) -> None:
    if name not in CLAIM_NAMES:
        raise ConfigurationError(f"claims: {name[:80]!r} is no claim of a permit")
    if name == "iss":
        raise ConfigurationError("claims: 'iss' cannot be mapped; it picks the issuer's keys and layout")
    match source:
        case ClaimConstant():
            if name not in CONSTANT_CLAIMS:
                raise ConfigurationError(
                    f"claims: {name!r} cannot be a constant; only {', '.join(sorted(CONSTANT_CLAIMS))} can"
                )
        case ClaimPath(segments, split):
            _check_path("claims", segments)
            if split is not None and (name not in LIST_CLAIMS or len(split) != 1):
                raise ConfigurationError(
                    f"claims: {name!r}: split is one character and only for {', '.join(LIST_CLAIMS)}"
                )


def _check_ignored(path: Path, claims: Iterable[str]) -> None:
    _check_path("ignore_claims", path)
    if len(path) > 1 or path[0] not in CLAIM_NAMES - _HARMLESS:
        return
    if path[0] in _NEVER_IGNORED or path[0] not in claims:
        raise ConfigurationError(f"ignore_claims: {_shown(path)} restricts a permit and cannot be ignored")


def _check_path(key: str, path: Path) -> None:
    if not 0 < len(path) <= _MAX_DEPTH or not all(path):
        raise ConfigurationError(f"{key}: {_shown(path)} is no path of 1 to {_MAX_DEPTH} names")


def _grow(root: dict[str, _Node], path: Path) -> None:
    members = root
    for name in path[:-1]:
        node = members.setdefault(name, _Node(is_leaf=False))
        if node.is_leaf:
            raise ConfigurationError(
                f"claims: {_shown(path)} lies inside another path that is read or ignored"
            )
        members = node
    members.setdefault(path[-1], _Node(is_leaf=True))


def _refuse_unread(members: dict[str, object], tree: Mapping[str, _Node]) -> None:
    for name, value in members.items():
        node = tree.get(name)
        if node is None:
            raise PermitRejected(Reason.CLAIM_INVALID, "a claim is not known", KNOWN_CLAIMS)
        if node.is_leaf:
            continue
        if not isinstance(value, dict):
            raise PermitRejected(Reason.CLAIM_INVALID, "a mapped claim's container is no object", _CONTAINER)
        _refuse_unread(value, node)


def _found(name: str, members: dict[str, object], segments: Path, split: str | None) -> dict[str, object]:
    value: object = members
    for segment in segments:
        if not isinstance(value, dict) or segment not in value:
            return {}
        value = value[segment]
    if split is None or value is None:
        return {name: value}
    if not isinstance(value, str):
        raise PermitRejected(CLAIM_REASONS.get(name, Reason.CLAIM_INVALID), name, _ONE_TEXT)
    return {name: value.split(split)}


def _shown(path: Path) -> str:
    return repr(".".join(path))[:200]


NATIVE: Final = TokenLayout()
