"""Tokens: how many tokens a text is likely to be, from the characters of a bounded sample of it.

Nothing is tokenised: a tokenizer takes a second and more for what a caller may send, and every provider has
another one. How dense a text is follows from its script and from what it is made of; benchmarks/tokens.py holds
the estimate against real tokenizers, and docs/benchmarks.md has its error by language.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Windows all over the text see its parts in proportion; so many characters take some 15 µs.
_WINDOWS = 16
_WINDOW_CHARACTERS = 128
_SAMPLE_CHARACTERS = _WINDOWS * _WINDOW_CHARACTERS

# What the characters below U+0100 are; a later line wins. Blanks belong to the word that follows them.
_LOW_RANGES: tuple[tuple[bytes, int, int], ...] = (
    (b"p", 0x00, 0xFF),
    (b"n", 0x00, 0x1F),
    (b" ", 0x20, 0x20),
    (b"0", 0x30, 0x39),
    (b"A", 0x41, 0x5A),
    (b"a", 0x61, 0x7A),
    (b"x", 0xC0, 0xFF),
)
# Tokens a character, and a pair of them: runs of digits or signs are fewer tokens than characters. The weights are
# least squares of the relative error against o200k_base, over the first half of the Universal Declaration of Human
# Rights in 29 languages, manual pages in 20, Python and JSON.
_LOW_WEIGHTS: Mapping[bytes, float] = {
    b"a": 0.243,
    b"AA": 0.963,
    b"x": 1.199,
    b"0": 1.608,
    b"00": -1.608,
    b"p": 0.62,
    b"pp": -0.62,
    b"n": 1.121,
}
# The scripts of the other characters by their upper byte (https://www.unicode.org/charts/), with tokens a character.
# Those that the calibration had no text of are set to what their neighbours need, emoji to what one takes.
_SCRIPTS: tuple[tuple[str, int, int, float], ...] = (
    ("Latin with signs", 0x01, 0x02, 1.41),
    ("Greek", 0x03, 0x03, 0.407),
    ("Cyrillic", 0x04, 0x04, 0.308),
    ("Hebrew, Armenian", 0x05, 0x05, 0.471),
    ("Arabic", 0x06, 0x08, 0.389),
    ("Devanagari, Bengali", 0x09, 0x09, 0.367),
    ("Tamil and other Indic scripts", 0x0A, 0x0D, 0.358),
    ("Thai, Lao, Tibetan", 0x0E, 0x0F, 0.43),
    ("Myanmar, Georgian", 0x10, 0x10, 0.45),
    ("Hangul letters", 0x11, 0x11, 0.763),
    ("Ethiopic, Cherokee, Khmer, Mongolian", 0x12, 0x1D, 1.0),
    ("Vietnamese vowels", 0x1E, 0x1E, 0.1),
    ("Greek with signs", 0x1F, 0x1F, 1.0),
    ("punctuation and symbols", 0x20, 0x2F, 1.67),
    ("kana", 0x30, 0x33, 0.803),
    ("ideographs", 0x34, 0x9F, 0.839),
    ("Yi and other scripts", 0xA0, 0xAB, 2.0),
    ("Hangul", 0xAC, 0xD7, 0.763),
    ("halves of what lies beyond U+FFFF", 0xD8, 0xDF, 1.1),
    ("private use", 0xE0, 0xFE, 2.0),
    ("full width", 0xFF, 0xFF, 0.8),
)


def _classes(ranges: Iterable[tuple[bytes, int, int]]) -> bytes:
    classes = bytearray(256)
    for kind, first, last in ranges:
        classes[first : last + 1] = kind * (last + 1 - first)
    return bytes(classes)


_LOW_CLASSES = _classes(_LOW_RANGES)
_HIGH_CLASSES = _classes(
    (bytes([number]), first, last) for number, (_, first, last, _) in enumerate(_SCRIPTS, start=1)
)
_HIGH_WEIGHTS: Mapping[bytes, float] = {
    bytes([number]): weight for number, (*_, weight) in enumerate(_SCRIPTS, start=1)
}


def estimate_tokens(*texts: str) -> int:
    """Estimates the tokens of texts that are read one after the other, rounded up.

    Up to 2,048 characters are looked at, in 16 windows all over the texts; the rest is taken to be like them.
    """
    characters = sum(map(len, texts))
    if characters <= _SAMPLE_CHARACTERS:
        return math.ceil(_weight(" ".join(texts)))
    windows = _windows(texts, characters)
    return math.ceil(_weight(" ".join(windows)) * characters / sum(map(len, windows)))


def _windows(texts: Sequence[str], characters: int) -> list[str]:
    """Windows at even distances over the texts as if they were one."""
    windows: list[str] = []
    step = characters / _WINDOWS
    following = (step - _WINDOW_CHARACTERS) / 2
    open_characters = 0
    start = 0
    for text in texts:
        length = len(text)
        at = 0
        while at < length:
            if open_characters == 0:
                at = max(at, int(following) - start)
                if at >= length:
                    break
                open_characters = _WINDOW_CHARACTERS
                following += step
            window = text[at : at + open_characters]
            windows.append(window)
            open_characters -= len(window)
            at += len(window)
        start += length
    return windows


def _weight(sample: str) -> float:
    """The estimated tokens of a sample."""
    low = sample.encode("latin-1", "ignore").translate(_LOW_CLASSES)
    weight = sum(low.count(kind) * each for kind, each in _LOW_WEIGHTS.items())
    if not sample.isascii():
        # The upper byte of each UTF-16 unit names the script.
        high = sample.encode("utf-16-le", "surrogatepass")[1::2].translate(_HIGH_CLASSES)
        weight += sum(high.count(kind) * each for kind, each in _HIGH_WEIGHTS.items())
    return weight
