"""Pictures: read from files, turned into pixels for a model, drawn upon. Needs Pillow and no jax."""

from importlib.util import find_spec

if find_spec("PIL") is None:
    raise ModuleNotFoundError("pictures need Pillow: pip install 'gemwright[images]'")
