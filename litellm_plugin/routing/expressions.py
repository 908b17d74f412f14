"""Conditions: boolean CEL expressions over request and permit facts; the one module that knows CEL."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from cel_expr_python import cel  # type: ignore[import-untyped]  # ships a .pyi but no py.typed

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing.facts import CallType, Moment, RequestFacts, RoutingScope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from litellm_plugin.routing.facts import FactValue

# A value of every fact, so that the names and types that rules may use follow the data types themselves.
_EXAMPLES: Mapping[str, FactValue] = {
    **RequestFacts(
        model_group="",
        call_type=CallType.CHAT,
        input_tokens=0,
        max_output_tokens=0,
        reasoning_effort="",
        language="",
        latency_budget_ms=0,
        workload="",
        moment=Moment(hour=0, weekday=1, month=1, date=""),
    ).names(),
    **RoutingScope(
        request_id="",
        endpoints=frozenset(),
        policy_version="",
        data_classification="",
        tenant="",
        tenant_tier="",
        latency_class="",
    ).names(),
}
_CEL_TYPES: Mapping[type, cel.Type] = {
    bool: cel.Type.BOOL,
    int: cel.Type.INT,
    float: cel.Type.DOUBLE,
    str: cel.Type.STRING,
}
_VARIABLES = {name: _CEL_TYPES[type(value)] for name, value in _EXAMPLES.items()}
_ENVIRONMENT = cel.NewEnv(variables=_VARIABLES)
# One environment short of each name: what does not compile there reads that name.
_WITHOUT = {
    left_out: cel.NewEnv(variables={name: kind for name, kind in _VARIABLES.items() if name != left_out})
    for left_out in _VARIABLES
}

_SHOWN_CHARACTERS = 200
_COMPILER_ERROR = re.compile(r"ERROR: <input>:(?P<line>\d+):(?P<column>\d+): (?P<text>[^\n]*)")
_UNDECLARED = re.compile(r"undeclared reference to '(?P<name>[^']*)'")

KNOWN_NAMES: tuple[str, ...] = tuple(_VARIABLES)

# What the CEL grammar reads as one piece and holds no name: text (raw, bytes, triple quotes), comments, blanks.
_PIECE = re.compile(
    r"""(?P<text>[rRbB]{0,2}(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))
    |(?P<comment>//[^\n]*)
    |(?P<blank>\s+)
    |(?P<name>\.?\s*[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


def fact_type(name: str) -> type[FactValue]:
    """The Python type of a known fact.

    Raises:
        ConfigurationError: There is no such fact; the message names the nearest known one.
    """
    if name not in _EXAMPLES:
        raise ConfigurationError(_unknown_name(name))
    return type(_EXAMPLES[name])


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition; build it with `compile_condition`.

    Attributes:
        source: The expression as it was written.
        names: The facts that it reads.
        template: The expression in pieces, each with the fact that it ends with, if any, so that an explanation
            can put the value behind it; without comments and line breaks.
    """

    source: str
    names: tuple[str, ...]
    template: tuple[tuple[str, str | None], ...]
    _expression: cel.Expression = field(repr=False, compare=False)

    def evaluate(self, facts: Mapping[str, FactValue]) -> bool:
        """Whether the expression is true; an absent fact or an error while evaluating is not true."""
        try:
            result = self._expression.eval(data=self.values(facts))
        except RuntimeError:  # the binding cannot carry text that is not Unicode, such as a lone surrogate
            return False
        return result.value() is True

    def absent(self, facts: Mapping[str, FactValue]) -> tuple[str, ...]:
        """The facts that the expression reads and that are not there."""
        return tuple(name for name in self.names if name not in facts)

    def values(self, facts: Mapping[str, FactValue]) -> dict[str, FactValue]:
        """The facts that the expression reads, with their values."""
        return {name: facts[name] for name in self.names if name in facts}


def compile_condition(source: str) -> Condition:
    """Compiles a CEL expression over the facts of `RequestFacts.names()` and `RoutingScope.names()`.

    Raises:
        ConfigurationError: The expression does not parse, reads an unknown name, mixes types, or is not
            boolean; the message names the expression and what is wrong with it.

    Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
    """
    try:
        expression = _ENVIRONMENT.compile(source)
    except (RuntimeError, TypeError) as error:  # TypeError: the text is not valid Unicode
        raise ConfigurationError(f"condition {_shown(source)}: {_explained(error)}") from error
    if expression.return_type() != cel.Type.BOOL:
        kind = expression.return_type().name().lower()
        raise ConfigurationError(f"condition {_shown(source)}: expected a boolean expression, got {kind}")
    names = _names_read(source)
    return Condition(source, names, _template(source, names), expression)


def _template(source: str, names: tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    pieces: list[tuple[str, str | None]] = []
    text = ""
    for found in _PIECE.finditer(source):
        piece = {"comment": "", "blank": " "}.get(found.lastgroup or "", found.group())
        name = _fact_in(piece, names) if found.lastgroup == "name" else None
        if name is None:
            text += piece
            continue
        pieces.append((text + name, name))
        text = "".join(piece.split()).removeprefix(".").removeprefix(name)
    return (*pieces, (text.rstrip(), None)) if text.strip() else tuple(pieces)


def _fact_in(piece: str, names: tuple[str, ...]) -> str | None:
    """The fact that a dotted name is, or whose function it calls."""
    dotted = "".join(piece.split()).removeprefix(".")
    return next((name for name in names if dotted == name or dotted.startswith(f"{name}.")), None)


def _names_read(source: str) -> tuple[str, ...]:
    """The known names that a valid expression reads, in the order of `KNOWN_NAMES`.

    The compiler is asked instead of the text: `request . model`, `(request).model` and a name inside a
    string literal or a comment are all told apart by CEL's own parser.
    """
    return tuple(name for name, environment in _WITHOUT.items() if not _compiles(environment, source))


def _compiles(environment: cel.Env, source: str) -> bool:
    try:
        environment.compile(source)
    except RuntimeError:
        return False
    return True


def compared_texts(source: str) -> Iterator[tuple[str, str]]:
    """Each text that an expression compares a fact with, by the fact's name: `fact == "text"`, `fact in ["text"]`.

    What is compared in another way is left out.
    """
    found = [piece for piece in _PIECE.finditer(source) if piece.lastgroup not in ("blank", "comment")]
    words = [
        "".join(piece.group().split()) if piece.lastgroup == "name" else piece.group() for piece in found
    ]
    for place, word in enumerate(words):
        if word not in _EXAMPLES:
            continue
        for operator in (["=", "="], ["!", "="]):
            if words[place + 1 : place + 3] == operator and place + 3 < len(words):
                yield from _plain_text(word, words[place + 3])
            if place >= 3 and words[place - 2 : place] == operator:  # noqa: PLR2004 - text and two signs before it
                yield from _plain_text(word, words[place - 3])
        if words[place + 1 : place + 3] == ["in", "["]:
            for each in takewhile(lambda each: each != "]", words[place + 3 :]):
                yield from _plain_text(word, each)


def _plain_text(name: str, literal: str) -> Iterator[tuple[str, str]]:
    if len(literal) > 1 and literal[0] in "\"'" and literal[-1] == literal[0] and "\\" not in literal:
        yield name, literal.strip(literal[0])


def _explained(error: Exception) -> str:
    if isinstance(error, TypeError):
        return "the expression is not valid Unicode text"
    first = _COMPILER_ERROR.search(str(error))
    if first is None:
        return _cut(str(error))
    undeclared = _UNDECLARED.match(first["text"])
    if undeclared is not None:
        return _unknown_name(undeclared["name"].removeprefix("."))
    return f"line {first['line']}, column {first['column']}: {_cut(first['text'])}"


def _unknown_name(name: str) -> str:
    nearest = difflib.get_close_matches(name, KNOWN_NAMES, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else "."
    return f"unknown name {_shown(name)}{hint} Known names: {', '.join(KNOWN_NAMES)}"


def _shown(text: str) -> str:
    return _cut(repr(text))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
