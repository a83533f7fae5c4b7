"""A recipe from the Python file that describes it."""

import importlib.util
import sys
from pathlib import Path

from gemwright.data.pipeline.recipe import Recipe


def load_recipe(name: str) -> Recipe:
    """Call `recipe()` in FILE.py, or the function named in FILE.py:FUNCTION.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it has no such function, or that returns something else.
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
    spec.loader.exec_module(module)
    made = getattr(module, function or "recipe", None)
    recipe = made() if callable(made) else None
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{path}: expected a function {function or 'recipe'}() that returns a Recipe")
    return recipe
