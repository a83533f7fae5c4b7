"""The fields of a run by dotted name: read from text, changed, compared."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from gemwright.training.run import Run

T = TypeVar("T")


def settings(run: Any, prefix: str = "") -> dict[str, Any]:
    """Every field that is no dataclass itself, as JSON would hold it: `optimizer.lr`, `stages.0.steps`."""
    if dataclasses.is_dataclass(run):
        fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    elif isinstance(run, tuple) and any(dataclasses.is_dataclass(item) for item in run):
        fields = {str(index): item for index, item in enumerate(run)}
    else:
        return {prefix: json.loads(json.dumps(run, default=str))}
    return {
        name: value
        for field, part in fields.items()
        for name, value in settings(part, f"{prefix}.{field}" if prefix else field).items()
    }


_FREE = ("mesh.", "compute.remat", "compute.scan", "compute.accumulate", "guard.")
"""Do not change what is learned: a run may go on with others."""


def deciding(run: Run) -> dict[str, Any]:
    """The settings that decide what a run learns."""
    return {name: value for name, value in settings(run).items() if not name.startswith(_FREE)}


def check_same(kept: Mapping[str, Any], run: Run, where: object) -> None:
    """Compare the settings that a folder was begun with to a run's.

    Raises:
      ValueError: names the first that differs.
    """
    given = deciding(run)
    for name in [*kept, *(name for name in given if name not in kept)]:
        if kept.get(name) != given.get(name):
            raise ValueError(
                f"{where}: state of another run: begun with {name} = {kept.get(name)!r}, now it is "
                f"{given.get(name)!r}; set it back, or use another folder"
            )


def changed(value: T, name: str, text: str, whole: str | None = None) -> T:
    """A copy of a dataclass with one field, by its dotted name, read from text.

    Raises:
      ValueError: if there is no such field, or the text is not of its type.
    """
    whole = whole or name
    first, _, rest = name.partition(".")
    hints = _hints(value)
    if first not in hints:
        close = difflib.get_close_matches(first, hints, 1)
        known = f"did you mean {close[0]}?" if close else f"there are {', '.join(hints)}"
        raise ValueError(f"--set {whole}: no field {first}; {known}")
    old = value[int(first)] if isinstance(value, tuple) else getattr(value, first)
    if rest:
        if not _hints(old):
            raise ValueError(f"--set {whole}: {first} has no fields of its own")
        new = changed(old, rest, text, whole)
    elif _hints(old):
        raise ValueError(f"--set {whole}: expected one of its fields: {', '.join(_hints(old))}")
    else:
        new = parsed(text, hints[first], whole)
    if isinstance(value, tuple):
        return typing.cast(T, (*value[: int(first)], new, *value[int(first) + 1 :]))
    try:
        return dataclasses.replace(typing.cast(Any, value), **{first: new})
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"--set {whole}={text}: {error}") from None


def parsed(text: str, kind: Any, name: str) -> Any:
    """Text as a value of a type.

    Raises:
      ValueError: if it is none.
    """
    origin, choices = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal and text in choices:
        return text
    if origin in (types.UnionType, typing.Union):
        if text.lower() in ("none", "null") and type(None) in choices:
            return None
        return parsed(text, next(choice for choice in choices if choice is not type(None)), name)
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if origin is tuple:
        return tuple(parsed(part.strip(), choices[0], name) for part in text.strip("()").split(",") if part.strip())
    if origin is not Literal and kind is not bool and callable(kind):
        try:
            return kind(text)
        except (TypeError, ValueError):
            pass
    wanted = " or ".join(map(str, choices)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise ValueError(f"--set {name}={text}: expected {wanted}")


def _hints(value: Any) -> dict[str, Any]:
    """Names and types of a value's fields; none if it has none that are set by name."""
    if isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value):
        return {str(index): type(item) for index, item in enumerate(value)}
    if not dataclasses.is_dataclass(value):
        return {}
    return {field.name: typing.get_type_hints(type(value))[field.name] for field in dataclasses.fields(value)}
