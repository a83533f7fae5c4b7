"""The program that calls a user's reward function, a line of JSON for each answer: see `function.py`."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """File and function come as arguments; what the function prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**told: Any) -> None:
        print(json.dumps(told), file=out, flush=True)

    try:
        function = _function(sys.argv[1], sys.argv[2])
    except BaseException as error:  # what a user's file raises when it is read
        say(fault=_told(error))
        return
    say(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            value = function(asked["prompt"], asked["answer"], asked["row"])
            say(value=float(value))
        except BaseException as error:
            say(fault=_told(error))


def _function(file: str, name: str) -> Any:
    sys.path.insert(0, str(Path(file).resolve().parent))
    spec = importlib.util.spec_from_file_location("gemwright_reward", file)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return getattr(found, name)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
