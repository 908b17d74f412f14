"""Causes: the exceptions behind one, as far as they belong to the same attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def causes(error: BaseException, earlier: BaseException | None) -> Iterator[BaseException]:
    """Gives an exception and those that it came from, each once.

    Args:
        error: How an attempt ended.
        earlier: The exception that was being handled when the attempt began: LiteLLM retries inside its handler
            of the first failure, so the chain of causes leads on into earlier attempts.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and current is not earlier and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
