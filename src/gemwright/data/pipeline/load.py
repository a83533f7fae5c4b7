"""A recipe from the Python file that describes it."""

from pathlib import Path

from gemwright.data.pipeline.recipe import Recipe
from gemwright.data.recipe_file import in_recipe, run_recipe_file


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
    made = getattr(run_recipe_file(path), function or "recipe", None)
    with in_recipe(path):
        recipe = made() if callable(made) else None
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{path}: expected a function {function or 'recipe'}() that returns a Recipe")
    return recipe
