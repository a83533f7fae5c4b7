"""A recipe from the Python file that describes it."""

import importlib.util
import sys
import traceback
from pathlib import Path

from gemwright.data.pipeline.recipe import Recipe


def load_recipe(name: str) -> Recipe:
    """Call `recipe()` in FILE.py, or the function named in FILE.py:FUNCTION.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it has no such function, that returns something else, or the file fails; names the line.
    """
    file, _, function = name.partition(":")
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{file}: no such recipe; expected FILE.py or FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"gemwright_recipe_{path.stem}", path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses of the file look themselves up there
    try:
        spec.loader.exec_module(module)
        made = getattr(module, function or "recipe", None)
        recipe = made() if callable(made) else None
    except Exception as error:  # whatever a user's file may raise
        raise ValueError(f"{_place(path, error)}: {type(error).__name__}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{path}: expected a function {function or 'recipe'}() that returns a Recipe")
    return recipe


def _place(path: Path, error: Exception) -> str:
    """The file, and the last of its lines that the error came through."""
    if isinstance(error, SyntaxError):
        return f"{path}, line {error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
    ]
    return f"{path}, line {lines[-1]}" if lines else str(path)
