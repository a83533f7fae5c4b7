"""JSON that every reader takes: a number without a value, such as an endless interval's bound, is null."""

import json
import math
from typing import Any


def dumps(value: Any, indent: int | None = None) -> str:
    return json.dumps(_strict(value), indent=indent, default=str, allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _strict(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    return value
