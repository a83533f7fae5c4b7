"""A recipe: a user's Python file, run. What goes wrong in it is told with its line."""

import importlib.util
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

RECIPE_MODULE = "gemwright_recipe_"
"""What the names of recipes' modules begin with."""


def run_recipe_file(path: Path) -> ModuleType:
    """The file's module.

    Raises:
      ValueError: if it is no Python file, or fails; names the line.
    """
    if path.suffix != ".py":
        raise ValueError(f"{path}: expected a recipe, a Python file whose name ends in .py, found another")
    spec = importlib.util.spec_from_file_location(f"{RECIPE_MODULE}{path.stem}", path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses of the file look themselves up there
    with in_recipe(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def in_recipe(path: Path) -> Generator[None]:
    """While a function of the file runs, whatever it may raise is a ValueError that names its line; so is an exit."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ValueError(f"{_place(path, error)}: {type(error).__name__}: {error}") from error


def _place(path: Path, error: BaseException) -> str:
    """The file, and the last of its lines that the error came through."""
    if isinstance(error, SyntaxError):
        return f"{path}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path.resolve())]
    return f"{path}, line {lines[-1]}" if lines else str(path)
