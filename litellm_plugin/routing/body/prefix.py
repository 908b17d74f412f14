"""The prefix: how a prompt begins, which a provider may have cached from an earlier request.

It is the shortest beginning that is worth caching: tools and system prompt, and where these are too short as much
of the conversation as makes it long enough. The user's last turn is never in it. So it stays what it is while a
conversation grows, and conversations with one system prompt share it. What is cached is that much or more.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litellm_plugin.routing.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

# Both providers cache from 1,024 tokens on, some models from 2,048 or 4,096:
# https://platform.openai.com/docs/guides/prompt-caching, https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
_LEAST_TOKENS = 1_024
# No text in docs/benchmarks.md has more than 5.5 characters a token. A bound in characters does not move while
# more follows, an estimate would.
_ENOUGH_CHARACTERS = 6_000
# A longer text is hashed by its length and three parts of it: a wrong guess costs a cache miss and nothing else.
_WHOLE_CHARACTERS = 16_384
_PART_CHARACTERS = 4_096
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Prefix:
    """How a prompt begins.

    Attributes:
        digest: A hash of it, in hexadecimal; None when it is too short to be cached.
        tokens: Its estimated tokens; 0 without one.
    """

    digest: str | None = None
    tokens: int = 0


NO_PREFIX = Prefix()


def cached_prefix(texts: Sequence[str], opening: int) -> Prefix:
    """The prefix of the texts that come before the user's last turn.

    Args:
        texts: In the order in which a provider reads them.
        opening: How many of them, from the first, are tools and system prompt.
    """
    for head in _heads(texts, opening):
        tokens = estimate_tokens(*head)
        if tokens >= _LEAST_TOKENS:
            return Prefix(_digest(head), tokens)
    return NO_PREFIX


def _heads(texts: Sequence[str], opening: int) -> list[Sequence[str]]:
    """The beginnings that may be the prefix, the shortest first."""
    heads = [texts[:opening]]
    characters = sum(map(len, heads[0]))
    if characters >= _ENOUGH_CHARACTERS:
        return heads
    for number, text in enumerate(texts[opening:], start=opening + 1):
        characters += len(text)
        if characters >= _ENOUGH_CHARACTERS:
            return [*heads, texts[:number]]
    return heads


def _digest(texts: Sequence[str]) -> str:
    lengths = ",".join(str(len(text)) for text in texts)
    read = "".join((lengths, *(part for text in texts for part in _parts(text))))
    return hashlib.blake2b(read.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def _parts(text: str) -> tuple[str, ...]:
    if len(text) <= _WHOLE_CHARACTERS:
        return (text,)
    middle = len(text) // 2
    return text[:_PART_CHARACTERS], text[middle : middle + _PART_CHARACTERS], text[-_PART_CHARACTERS:]
