"""Queries of a model run on an SQLite database, which they can read and nothing else."""

import math
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemwright.tuning.rewards.reward import ByRule, Task
from gemwright.tuning.rewards.sandbox import program_of

_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_LENGTH = 1 << 20  # bytes of a text or a blob
_READING = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What a query gave.

    Attributes:
      rows: at most those asked for.
      fault: why there are none: no SQL, no such table, too long.
    """

    rows: list[tuple[Any, ...]]
    fault: str = ""


def run_query(database: Path, query: str, seconds: float = 2.0, most: int = 1000) -> Found:
    """Run one query, for at most so many seconds and rows. The database's file is opened to be read alone.

    Raises:
      ValueError: if there is no such file.
    """
    if not database.is_file():
        raise ValueError(f"{database}: expected an SQLite database, found no such file")
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        _hold(connection, time.monotonic() + seconds)
        rows = connection.execute(query).fetchmany(most + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        late = "interrupted" in str(error)
        return Found([], f"not ended after {seconds:g} s" if late else str(error))
    finally:
        connection.close()
    return Found([], f"more than {most} rows") if len(rows) > most else Found(rows)


def same_result(found: Found, expected: Found, ordered: bool) -> bool:
    """Whether two queries gave the same rows, in the same order if that was asked for; numbers to nine digits."""
    ours, theirs = ([tuple(map(_value, row)) for row in one.rows] for one in (found, expected))
    if found.fault or expected.fault:
        return False
    return ours == theirs if ordered else Counter(ours) == Counter(theirs)


def sql(database: Path, seconds: float = 2.0) -> ByRule:
    """1 if an answer's query gives what the row's `sql` gives on this database."""

    def rule(task: Task, said: str) -> float:
        right = task.text("sql")
        expected = run_query(database, right, seconds)
        if expected.fault:
            raise ValueError(f"the row's own query fails: {expected.fault}")
        found = run_query(database, query_of(said), seconds)
        return float(same_result(found, expected, "order by" in right.lower()))

    return ByRule("sql", rule, "sql")


def query_of(said: str) -> str:
    """The query of an answer: that of its first block between fences, or all of it."""
    code = program_of(said).strip()
    first, _, rest = code.partition("\n")
    return rest if first.strip().lower() in ("sql", "sqlite") else code


def _hold(connection: sqlite3.Connection, until: float) -> None:
    """Reading alone, no other files, no large values, and an end."""
    connection.set_progress_handler(lambda: int(time.monotonic() > until), _STEPS)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LENGTH)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY)


def _value(value: Any) -> Any:
    if isinstance(value, int | float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    return value
