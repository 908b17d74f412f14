"""The custom class: a strategy that the operator wrote, loaded by its dotted path."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.routing import Custom
from litellm_plugin.settings.explanation import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping


def load_strategy(path: str, options: Mapping[str, Any]) -> Custom:
    """Imports a class, makes one object of it, and looks whether that is a strategy.

    Args:
        path: `package.module.Class`; the package must be importable where the proxy runs.
        options: The keyword arguments of the class.

    Raises:
        ConfigurationError: Names the path and what is wrong: no such module, no such name, options that the class
            refuses, no `name`, or no `rank` that takes candidates and a context.
    """
    module_name, _, class_name = path.rpartition(".")
    module = _import(path, module_name)
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = sorted(name for name, value in vars(module).items() if isinstance(value, type))
        raise ConfigurationError(
            f"class {path!r}: in module {module_name!r}: {unknown('class', class_name, classes)}"
        )
    try:
        strategy = found(**options)
    except Exception as error:  # foreign code: whatever it raises is a reason not to start
        raise ConfigurationError(
            f"class {path!r}: it refuses its options {sorted(options)}: {type(error).__name__}: {error}"
        ) from error
    return Custom(_checked_name(path, strategy), strategy)


def _import(path: str, module_name: str) -> object:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"class {path!r}: there is no module {error.name!r}; "
                "is its folder on PYTHONPATH, or its package installed?"
            ) from error
        raise ConfigurationError(
            f"class {path!r}: module {module_name!r} imports {error.name!r}, which is not there"
        ) from error
    except Exception as error:  # foreign code: whatever it raises is a reason not to start
        raise ConfigurationError(
            f"class {path!r}: module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _checked_name(path: str, strategy: object) -> str:
    """The strategy's name.

    Raises:
        ConfigurationError: The object is no strategy.
    """
    name = getattr(strategy, "name", None)
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f"class {path!r}: a strategy has a `name`, a text for the records; this has none"
        )
    rank = getattr(strategy, "rank", None)
    if not callable(rank):
        raise ConfigurationError(
            f"class {path!r}: a strategy has a method `rank(inputs, context)`; this has none"
        )
    if inspect.iscoroutinefunction(rank):
        raise ConfigurationError(
            f"class {path!r}: `rank` is asynchronous; a strategy may not wait for anything"
        )
    try:
        inspect.signature(rank).bind((), None)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"class {path!r}: expected `rank(inputs, context)`: {error}") from error
    return name
