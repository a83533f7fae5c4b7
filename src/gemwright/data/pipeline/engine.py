"""Daft runs the work: each row of its table is a piece of work, which one worker does from file to file.

The native engine is embedded; `ray` sends the same table over a Ray cluster, whose machines must
see the files under the same paths.
"""

import functools
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from gemwright.data.recipe_file import RECIPE_MODULE
from gemwright.data.rules.batch import Rule, judge

Engine = Literal["native", "ray"]
Work = Callable[[str], str]

_turn = threading.Lock()  # threads of one process would share what the rules remember


def run_work(work: Work, pieces: Sequence[str], engine: Engine, workers: int, address: str | None) -> Iterator[str]:
    """Results of `work`, as pieces are done.

    Raises:
      ValueError: with what went wrong in a worker, in its words.
    """
    if not pieces:
        return
    daft = _daft(engine, address)
    table = daft.from_pydict({"piece": list(pieces)})
    table = table.into_partitions(len(pieces)) if engine == "ray" else table.into_batches(1)
    call = _worker(daft, work, engine, workers)
    rows = table.select(call(daft.col("piece")).alias("done")).iter_rows()
    try:
        for row in rows:
            done = json.loads(row["done"])
            if "error" in done:
                raise ValueError(done["error"])
            yield done["result"]
    except RuntimeError as error:  # a worker that died, for want of memory or by a defect
        raise ChildProcessError(f"a worker failed: {str(error).strip()}") from error


def rules_for_daft(rules: Sequence[Rule]) -> Any:
    """The rules as a Daft function of a column of texts: gives for each why it is dropped, or null.

    table.where(rules_for_daft(rules)(daft.col("text")).is_null())
    """
    daft = _daft_module()

    def reasons(texts: Any) -> list[str | None]:
        return _reasons(rules, texts.to_pylist())

    return daft.func.batch(return_dtype=daft.DataType.string())(reasons)


def _reasons(rules: Sequence[Rule], texts: Sequence[str | None]) -> list[str | None]:
    with _turn:
        return judge(rules, [text or "" for text in texts]).reasons


def _worker(daft: Any, work: Work, engine: Engine, workers: int) -> Callable[[Any], Any]:
    """The work as a function of a column: done in this process, by some of our own, or by the cluster's."""
    if engine == "native" and workers == 1:
        return daft.func.batch(return_dtype=daft.DataType.string())(_each(work))

    class Worker:
        def each(self, pieces: Any) -> list[str]:
            return [_guarded(work, piece) for piece in pieces.to_pylist()]

    _send_recipes_whole()
    Worker.each = daft.method.batch(return_dtype=daft.DataType.string())(Worker.each)
    processes = {"max_concurrency": workers, "use_process": True} if engine == "native" else {}
    return daft.cls(Worker, **processes)().each


def _send_recipes_whole() -> None:
    """Steps and rules of a recipe's own go to the workers by what they are: these cannot import its file."""
    import daft.pickle.cloudpickle  # with which Daft sends work to its own processes; nothing is read with it here

    for name, module in list(sys.modules.items()):
        if name.startswith(RECIPE_MODULE):
            daft.pickle.cloudpickle.register_pickle_by_value(module)


def _each(work: Work) -> Callable[[Any], list[str]]:
    def each(pieces: Any) -> list[str]:
        return [_guarded(work, piece) for piece in pieces.to_pylist()]

    return each


def _guarded(work: Work, piece: str) -> str:
    """A failure travels as words: an exception would come back wrapped in the engine's own."""
    try:
        with _turn:
            return json.dumps({"result": work(piece)})
    except (ValueError, OSError, ModuleNotFoundError, MemoryError) as error:
        return json.dumps({"error": f"{type(error).__name__}: {error}" if not str(error) else str(error)})
    except Exception as error:  # of a step or rule; a recipe may have its own
        place = traceback.extract_tb(error.__traceback__)[-1]
        return json.dumps({"error": f"{place.filename}, line {place.lineno}: {type(error).__name__}: {error}"})


def _daft_module() -> Any:
    os.environ.setdefault("DO_NOT_TRACK", "1")  # no report to anyone of what runs here
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    import daft

    return daft


@functools.lru_cache(maxsize=1)
def _daft(engine: Engine, address: str | None) -> Any:
    daft = _daft_module()
    try:
        if engine == "ray":
            daft.set_runner_ray(address=address)
        elif daft.get_or_infer_runner_type() != "native":
            daft.set_runner_native()
    except Exception as error:  # the engine's own class of errors
        raise ValueError(f"cannot run on {engine}: {error}; a process keeps its first engine") from None
    return daft
