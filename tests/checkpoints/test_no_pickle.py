"""No pickle, ever: nothing in the package can open one."""

import re
from pathlib import Path

import gemwright


def test_no_code_can_read_a_pickle() -> None:
    readers = re.compile(
        r"import (pickle|cloudpickle|dill|shelve|joblib)|torch\.load|allow_pickle\s*=\s*True|np\.load\("
    )
    for path in Path(gemwright.__file__).parent.rglob("*.py"):
        assert not readers.search(path.read_text(encoding="utf-8")), path
