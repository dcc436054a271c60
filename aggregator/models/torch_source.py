"""Load a torch module from a user's file: `my_model.py:Net`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fedsparse.errors import ConfigError

if TYPE_CHECKING:
    import torch


def load_module(path: Path, name: str) -> torch.nn.Module:
    """Build the module that `name` makes in the Python file `path`.

    The file is executed, with its folder importable: import only files that you trust.

    Args:
        path: a Python file.
        name: a `torch.nn.Module` class or a function, callable without arguments; or a module.

    Raises:
        ConfigError: torch is not installed; the file fails; there is no such name; it cannot be
            called without arguments, or makes something else than a module.
    """
    module_type = _module_type()
    source = _execute(path)
    if not hasattr(source, name):
        known = ", ".join(_candidates(source)) or "none"
        raise ConfigError(f"{path}: there is no '{name}'; classes and functions in it: {known}")
    made: Any = getattr(source, name)
    if not isinstance(made, module_type):
        made = _call(path, name, made)
    if not isinstance(made, module_type):
        raise ConfigError(f"{path}: '{name}' makes {type(made).__name__}, not a torch.nn.Module")
    module: torch.nn.Module = made
    return module


def _module_type() -> Any:  # noqa: ANN401
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            "importing a torch model needs torch: pip install 'fedsparse[torch]' "
            "(an .onnx file needs none)"
        ) from error
    return torch.nn.Module


def _execute(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    name = f"fedsparse_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file; expected my_model.py:Net or model.onnx")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    with _importable(path.resolve().parent):
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _call(path: Path, name: str, factory: Any) -> Any:  # noqa: ANN401
    try:
        inspect.signature(factory).bind()
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: '{name}' cannot be called without arguments ({error}): write a function "
            "without arguments that returns the module, and name that"
        ) from error
    try:
        return factory()
    except Exception as error:
        raise ConfigError(f"{path}: {name}() failed: {type(error).__name__}: {error}") from error


def _candidates(source: ModuleType) -> list[str]:
    return [
        key
        for key, value in vars(source).items()
        if callable(value) and getattr(value, "__module__", None) == source.__name__
    ]
