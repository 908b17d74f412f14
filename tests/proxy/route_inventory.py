"""The inventory: every route of LiteLLM's app, what this plugin makes of it, and the file that says so.

`make inventory` writes the files; what changed in them is read by a person before it is committed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import warnings
from pathlib import Path

from litellm_plugin.proxy.paths import PathKind, RouteTable, classify_template

FOLDER = Path(__file__).parent / "inventory"

Line = tuple[str, str, PathKind]


def litellm_version() -> str:
    return importlib.metadata.version("litellm")


def complete_app():
    """LiteLLM's app with all the features that it loads at their first request."""
    with warnings.catch_warnings():
        # LiteLLM's own import warns of its pydantic models, and so do its features'.
        warnings.simplefilter("ignore")
        from litellm.proxy import proxy_server  # noqa: PLC0415 - seconds to import

        asyncio.run(_load_features(proxy_server.app))
    return proxy_server.app


async def _load_features(app) -> None:
    from litellm.proxy import _lazy_features  # noqa: PLC0415 - as above

    for feature in _lazy_features.LAZY_FEATURES:
        # LiteLLM only logs a feature that fails and calls it loaded.
        importlib.import_module(feature.module_path)
        known = feature.module_path in _lazy_features.loaded_lazy_modules(app)
        if not (known or await _lazy_features._force_load(app, feature)):
            raise RuntimeError(f"LiteLLM's feature {feature.name!r} was not registered")


def inventory(app) -> list[Line]:
    """Every (method, template) of the app with its kind; `*` stands for a mounted app's methods."""
    with warnings.catch_warnings():
        # FastAPI builds the models of included routes when they are first looked at.
        warnings.simplefilter("ignore")
        entries = RouteTable(app.router)._entries
    pairs = {
        (method, entry.template)
        for entry in entries
        for method in (["WEBSOCKET"] if entry.is_websocket else entry.methods or ["*"])
    }
    return sorted(
        ((method, template, classify_template(method, template)[0]) for method, template in pairs),
        key=lambda line: (line[1], line[0]),
    )


def committed(version: str) -> list[Line]:
    """The inventory of a version as it was read."""
    lines = (FOLDER / f"litellm-{version}.tsv").read_text().splitlines()
    return [
        (method, template, PathKind(kind)) for method, template, kind in (line.split("\t") for line in lines)
    ]


def write(version: str, lines: list[Line]) -> Path:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"litellm-{version}.tsv"
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Every route of the installed LiteLLM, with its kind.")
    parser.add_argument("--write", action="store_true", help="replace the committed file")
    wanted = parser.parse_args()
    current = inventory(complete_app())
    if wanted.write:
        print(f"{write(litellm_version(), current)}: {len(current)} routes")  # noqa: T201 - a command
    else:
        print("\n".join("\t".join(line) for line in current))  # noqa: T201 - a command
