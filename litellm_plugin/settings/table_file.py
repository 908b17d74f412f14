"""Table files: decision tables that stand in CSV or YAML files of their own."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import yaml

from litellm_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LIMIT_BYTES: Final = 1024 * 1024
_OUTCOME: Final = "use."
# Columns whose cells hold several names.
_LISTS: Final = frozenset({"endpoints", "chain"})


def with_tables(source: Mapping[Any, Any], base: Path) -> dict[Any, Any]:
    """Puts the rows of each table file in the place of its name, so that the block's hash covers them.

    Args:
        source: The policy block as it was read.
        base: The folder that relative paths are taken from.

    Raises:
        ConfigurationError: A file cannot be read, is too large, or is no table.
    """
    rules = source.get("rules")
    if not isinstance(rules, list):
        return dict(source)
    return {**source, "rules": [_with_rows(rule, base) for rule in rules]}


def table_files(source: Mapping[Any, Any], base: Path) -> tuple[Path, ...]:
    """The table files that a policy block names, whether they can be read or not.

    Args:
        source: The policy block as it was read.
        base: The folder that relative paths are taken from.
    """
    rules = source.get("rules")
    named = (
        (rule.get("table") for rule in rules if isinstance(rule, Mapping)) if isinstance(rules, list) else ()
    )
    return tuple(base / name for name in named if isinstance(name, str))


def _with_rows(rule: object, base: Path) -> object:
    if not isinstance(rule, Mapping) or not isinstance(rule.get("table"), str):
        return rule
    return {**rule, "table": _rows(base / rule["table"])}


def _rows(path: Path) -> list[Any]:
    where = f"table file {str(path)!r}"
    if path.suffix not in {".csv", ".yaml", ".yml"}:
        raise ConfigurationError(f"{where}: a name that ends with .csv or .yaml is expected")
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise ConfigurationError(f"{where} is larger than {_LIMIT_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            return list(_csv_rows(text, where))
        rows = yaml.safe_load(text)
    # ValueError: bytes that are not UTF-8, or a path with a NUL; RecursionError: lists nested thousands deep.
    except (OSError, ValueError, RecursionError, yaml.YAMLError, csv.Error) as error:
        raise ConfigurationError(f"{where} cannot be read: {error}") from error
    if not isinstance(rows, list):
        raise ConfigurationError(f"{where}: a list of rows is expected, {type(rows).__name__} stands there")
    return rows


def _csv_rows(text: str, where: str) -> Iterator[dict[str, Any]]:
    """A row for each line: columns are facts, `name`, and the strategy's keys behind `use.`."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    heading = [column.strip() for column in next(reader, [])]
    if "use.strategy" not in heading:
        raise ConfigurationError(
            f"{where}: a first line with the facts' names and a column use.strategy is expected"
        )
    repeated = sorted({column for column in heading if heading.count(column) > 1})
    if repeated:
        raise ConfigurationError(
            f"{where}: expected each column once, got more than one {repeated[0][:80]!r}"
        )
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(heading):
            raise ConfigurationError(
                f"{where}: line {reader.line_num}: expected {len(heading)} cells, got {len(cells)}"
            )
        yield _row(dict(zip(heading, (cell.strip() for cell in cells), strict=True)))


def _row(cells: Mapping[str, str]) -> dict[str, Any]:
    use = {
        column.removeprefix(_OUTCOME): _outcome(column.removeprefix(_OUTCOME), cell)
        for column, cell in cells.items()
        if column.startswith(_OUTCOME) and cell
    }
    facts = {
        column: cell for column, cell in cells.items() if not column.startswith(_OUTCOME) and column != "name"
    }
    return {"when": facts, "use": use, **({"name": cells["name"]} if cells.get("name") else {})}


def _outcome(key: str, cell: str) -> object:
    """A strategy's option as YAML reads it; several names have commas between them."""
    if key in _LISTS:
        return [name.strip() for name in cell.split(",")]
    return yaml.safe_load(cell)
