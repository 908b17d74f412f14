"""The token estimate beside real tokenizers: its error by language, and what it costs by size.

    python benchmarks/tokens.py [--quick]

Prints the tables of docs/benchmarks.md. The tokenizers are those that LiteLLM carries: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import email
import json
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
import litellm

from litellm_plugin.routing import CallType, estimate_tokens, load_languages, request_facts
from litellm_plugin.routing.language import detect_language

TOKENIZERS = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
os.environ["TIKTOKEN_CACHE_DIR"] = str(TOKENIZERS)
import tiktoken  # noqa: E402 - reads the folder when it is imported
from tokenizers import Tokenizer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
PIECE_CHARACTERS = 300
LONG_CHARACTERS = 20_000
SIZES = {"1 KB": 1_000, "10 KB": 10_000, "100 KB": 100_000, "1 MB": 1_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description="Holds the token estimate against real tokenizers.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, for a first look")
    repeats = 50 if parser.parse_args().quick else 500
    pieces = {name: list(_pieces(texts)) for name, texts in _texts().items()}
    print_errors(pieces)
    print_other_tokenizers(pieces)
    print_samples()
    print_times(repeats)
    print_languages(repeats)


def print_errors(pieces: dict[str, list[str]]) -> None:
    count = _o200k()
    print(
        "\n| text | pieces | characters a token | estimate: median | p90 | worst | 4 characters: median | p90 | worst |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, texts in pieces.items():
        real = [count(text) for text in texts]
        ratio = sum(map(len, texts)) / sum(real)
        ours = _errors([estimate_tokens(text) for text in texts], real)
        old = _errors([-(-len(text) // 4) for text in texts], real)
        print(f"| {name} | {len(texts)} | {ratio:.1f} | {_row(ours)} | {_row(old)} |")
    everything = [text for texts in pieces.values() for text in texts]
    real = [count(text) for text in everything]
    ours = _errors([estimate_tokens(text) for text in everything], real)
    old = _errors([-(-len(text) // 4) for text in everything], real)
    print(
        f"| all | {len(everything)} | {sum(map(len, everything)) / sum(real):.1f} | {_row(ours)} | {_row(old)} |"
    )


def print_other_tokenizers(pieces: dict[str, list[str]]) -> None:
    """The estimate of all of a text beside every tokenizer: vocabularies before 2024 cut other scripts finer."""
    claude = Tokenizer.from_file(str(TOKENIZERS / "anthropic_tokenizer.json"))
    cl100k = tiktoken.get_encoding("cl100k_base")
    tokenizers: dict[str, Callable[[str], int]] = {
        "o200k_base": _o200k(),
        "cl100k_base": lambda text: len(cl100k.encode(text, disallowed_special=())),
        "Claude 2": lambda text: len(claude.encode(text).ids),
    }
    print(f"\n| text | {' | '.join(tokenizers)} |\n|---|---|---|---|")
    for name, texts in pieces.items():
        estimate = sum(map(estimate_tokens, texts))
        errors = [estimate / sum(map(count, texts)) - 1 for count in tokenizers.values()]
        print(f"| {name} | {' | '.join(f'{error:+.0%}' for error in errors)} |")


def print_samples() -> None:
    """What looking at a sample alone adds to the error of long texts."""
    files = [*Path(json.__file__).parent.parent.glob("*.py"), *(HERE.parent / "docs").glob("*.md")]
    texts = [text for text in (path.read_text() for path in sorted(files)) if len(text) > LONG_CHARACTERS]
    count = _o200k()
    real = [count(text) for text in texts]
    whole = [
        sum(estimate_tokens(text[at : at + 2_000]) for at in range(0, len(text), 2_000)) for text in texts
    ]
    print(
        f"\n| {len(texts)} texts of {LONG_CHARACTERS:,} characters and more | median | p90 | worst |\n|---|---|---|---|"
    )
    print(f"| from a sample | {_row(_errors([estimate_tokens(text) for text in texts], real))} |")
    print(f"| from all of it | {_row(_errors(whole, real))} |")


def print_times(repeats: int) -> None:
    texts = json.loads((HERE / "corpora" / "udhr.json").read_text())
    tokenizer = tiktoken.get_encoding("o200k_base")
    print("\n| size | estimate, English | Russian | tokenizer, English | facts of a chat body |")
    print("|---|---|---|---|---|")
    for name, size in SIZES.items():
        english, russian = (_grown(texts[language], size) for language in ("en", "ru"))
        body = {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": english}]
        }
        times = (
            _time(lambda text=english: estimate_tokens(text), repeats),
            _time(lambda text=russian: estimate_tokens(text), repeats),
            _time(lambda text=english: tokenizer.encode(text, disallowed_special=()), 5),
            _time(lambda body=body: request_facts(CallType.CHAT, "gpt", body), repeats),
        )
        print(f"| {name} | {' | '.join(_duration(each) for each in times)} |")


def print_languages(repeats: int) -> None:
    started_s = time.perf_counter()
    load_languages()
    print(f"\nThe language model loads in {(time.perf_counter() - started_s) * 1e3:.0f} ms.")
    texts = json.loads((HERE / "corpora" / "udhr.json").read_text())
    print("\n| characters | told | of those right | time |\n|---|---|---|---|")
    for length in (30, 80, 300, 1_000):
        cut = [
            (language, joined[at : at + length])
            for language, joined in ((language, " ".join(each)) for language, each in texts.items())
            for at in range(0, max(1, len(joined) - length + 1), 100)
        ]
        found = [(language, detect_language(text)) for language, text in cut]
        told = [pair for pair in found if pair[1] is not None]
        right = sum(language == code for language, code in told) / len(told)
        taken = statistics.median(
            _time(lambda text=text: detect_language(text), max(3, repeats // 100)) for _, text in cut[::20]
        )
        print(f"| {length} | {len(told) / len(found):.0%} | {right:.1%} | {_duration(taken)} |")


def _texts() -> dict[str, list[str]]:
    """Texts that the weights were not fitted on: paragraphs, Python's packages, LiteLLM's price list, our pages."""
    corpus = json.loads((HERE / "corpora" / "udhr.json").read_text())
    prices = json.loads(
        (Path(litellm.__file__).parent / "model_prices_and_context_window_backup.json").read_text()
    )
    library = sorted(Path(email.__file__).parent.glob("*.py"))[:12]
    rows = list(prices.items())[1:200]
    return {
        **{language: [" ".join(texts)] for language, texts in corpus.items()},
        "Python": [path.read_text()[:6000] for path in library],
        "JSON, compact": [json.dumps(dict(rows), separators=(",", ":"))[:20_000]],
        "JSON, indented": [json.dumps(dict(rows), indent=2)[:20_000]],
        "Markdown": [path.read_text()[:6000] for path in sorted((HERE.parent / "docs").glob("*.md"))],
    }


def _pieces(texts: list[str]) -> Iterator[str]:
    for text in texts:
        whole = range(0, max(1, len(text) - PIECE_CHARACTERS + 1), PIECE_CHARACTERS)
        yield from (text[at : at + PIECE_CHARACTERS] for at in whole)


def _o200k() -> Callable[[str], int]:
    tokenizer = tiktoken.get_encoding("o200k_base")
    return lambda text: len(tokenizer.encode(text, disallowed_special=()))


def _errors(estimates: list[int], real: list[int]) -> list[float]:
    return [estimate / tokens - 1 for estimate, tokens in zip(estimates, real, strict=True)]


def _row(errors: list[float]) -> str:
    """The signed median, the 90th percentile of the error's size, and the signed worst."""
    sizes = sorted(map(abs, errors))
    p90 = sizes[min(len(sizes) - 1, int(len(sizes) * 0.9))]
    return f"{statistics.median(errors):+.0%} | {p90:.0%} | {max(errors, key=abs):+.0%}"


def _grown(texts: list[str], characters: int) -> str:
    text = " ".join(texts)
    return (text * (characters // len(text) + 1))[:characters]


def _time(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - started_s)
    return statistics.median(times)


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"


if __name__ == "__main__":
    main()
