"""Rules serve a Daft query as they serve the pipeline, and a worker that dies is told of in words."""

import pytest

from gemwright.data.pipeline.engine import rules_for_daft, run_work
from gemwright.data.rules.batch import judge
from gemwright.data.rules.c4 import C4
from gemwright.data.rules.gopher import GopherQuality
from tests.data.rules.test_rules import PROSE

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_rules_are_a_function_of_a_column_in_a_daft_query() -> None:
    import daft

    texts, rules = [PROSE, "Home | About", "", PROSE + " {"], (C4(), GopherQuality())
    table = daft.from_pydict({"text": texts})
    said = table.with_column("reason", rules_for_daft(rules)(daft.col("text"))).to_pydict()["reason"]
    assert said == judge(rules, texts).reasons


def dies(piece: str) -> str:
    import os

    os._exit(9)


def test_a_worker_that_dies_is_told_of() -> None:
    with pytest.raises(OSError, match="a worker failed"):
        list(run_work(dies, ["a"], "native", workers=2, address=None))


def test_several_workers_do_each_piece_once() -> None:
    assert sorted(run_work(str.upper, ["a", "b", "c"], "native", workers=2, address=None)) == ["A", "B", "C"]
