"""A run keeps account of every record, and a killed one goes on without losing or doubling any."""

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gemwright.data.leaks.search import Decontaminate
from gemwright.data.pipeline.export import export_rows
from gemwright.data.pipeline.load import load_recipe
from gemwright.data.pipeline.recipe import Filter, Recipe
from gemwright.data.pipeline.run import run_recipe
from gemwright.data.pipeline.shards import partial_of, read_shard
from gemwright.data.repeats.exact import Exact
from gemwright.data.repeats.near import Near
from gemwright.data.repeats.passages import Passages
from gemwright.data.rules.blocked import BlockList
from gemwright.data.rules.learned import Learned

# Daft leaves a pipe of its workers to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WORDS = [
    "stone",
    "river",
    "cloud",
    "amber",
    "violet",
    "lantern",
    "harbour",
    "meadow",
    "winter",
    "copper",
    "silver",
    "garden",
    "thunder",
    "island",
    "forest",
]


def text_of(number: int) -> str:
    import random

    rng = random.Random(number)
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(50)}" for _ in range(60))


def write_inputs(folder: Path, files: int, rows: int) -> None:
    """Rows of which one in ten repeats another, one in ten is blocked, and one in ten is no JSON."""
    folder.mkdir()
    for file in range(files):
        lines: list[str] = []
        for row in range(rows):
            number = file * rows + row
            text = {3: text_of(3), 5: "forbidden " + text_of(number)}.get(number % 10, text_of(number))
            lines.append("{broken" if number % 10 == 7 else json.dumps({"id": f"d{number}", "text": text}))
        (folder / f"{file}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def recipe(folder: Path) -> Recipe:
    steps = (Filter((BlockList(("forbidden",)),)), Exact(), Near(), Passages(30))
    return Recipe((str(folder),), steps, shard=20_000, batch=5_000)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "raw"
    write_inputs(folder, files=6, rows=100)
    return folder


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run_recipe(recipe(inputs), out)
    return out


def content(out: Path) -> dict[str, bytes]:
    """The last step's shards and the summary, byte for byte."""
    paths = [out / "summary.json", *sorted((out / "03-passages" / "shards").glob("*.parquet"))]
    return {path.name: path.read_bytes() for path in paths}


def test_every_record_is_kept_dropped_or_set_aside(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert summary == {
        "in": 600,
        "kept": 600 - 60 - 59 - 60,
        "dropped": {"filter/block_list:phrase": 60, "exact/duplicate": 59},
        "quarantined": {"not JSON": 60},
        "counts": {},
    }
    kept = [d.id for path in sorted((whole / "03-passages" / "shards").iterdir()) for d in read_shard(path)]
    assert kept == [f"d{n}" for n in range(600) if n % 10 not in (5, 7) and (n % 10 != 3 or n == 3)]
    lines = [line for path in (whole / "00-filter" / "quarantine").iterdir() for line in path.read_text().splitlines()]
    assert len(lines) == 60
    assert all(json.loads(line)["reason"] == "not JSON" for line in lines)


def test_a_finished_run_is_not_done_again_and_other_inputs_are_refused(whole: Path, inputs: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.parquet")}
    run_recipe(recipe(inputs), whole)
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*.parquet")}
    with pytest.raises(FileExistsError, match="run of another recipe"):
        run_recipe(Recipe((str(inputs),), (Exact(),)), whole)


KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, {root!r})
from tests.data.pipeline.test_run import recipe
from gemwright.data.pipeline.run import run_recipe

countdown, put = int(sys.argv[1]), pathlib.Path.replace

def replace(self, target):
    global countdown
    countdown -= 1
    if countdown == 0:
        os.kill(os.getpid(), signal.SIGKILL)  # the file is written and not yet in place
    put(self, target)
    if countdown == 1 and sys.argv[2] == "after":
        os.kill(os.getpid(), signal.SIGKILL)  # in place, and what follows from it not yet done

pathlib.Path.replace = replace
run_recipe(recipe(pathlib.Path({inputs!r})), pathlib.Path({out!r}))
"""


def test_a_run_killed_again_and_again_ends_like_one_left_alone(whole: Path, inputs: Path, tmp_path: Path) -> None:
    """A try is killed at a file it writes: nothing of its process gets to tidy up."""
    out, script = tmp_path / "run", tmp_path / "killed.py"
    script.write_text(KILLED.format(root=str(Path.cwd()), inputs=str(inputs), out=str(out)))
    for file, moment in ((2, "before"), (9, "after"), (14, "before"), (13, "after"), (16, "before")):
        killed = subprocess.run([sys.executable, str(script), str(file), moment])
        assert killed.returncode == -signal.SIGKILL
    assert list(out.rglob(".*.*.*")), "something was left half written"
    (out / "tokens").mkdir()
    partial_of(out / "tokens" / "train.npy").touch()
    partial_of(out / "report.html").touch()
    (out / ".gitignore").touch()
    run_recipe(recipe(inputs), out)
    assert content(out) == content(whole)
    assert list(out.rglob(".*")) == [out / ".gitignore"], "what was half written is swept away"


def test_two_runs_do_not_work_in_one_folder(inputs: Path, tmp_path: Path) -> None:
    import fcntl

    out = tmp_path / "run"
    out.mkdir()
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another run is at work"):
            run_recipe(recipe(inputs), out)


def test_kept_documents_are_written_as_rows_with_all_their_fields(tmp_path: Path) -> None:
    rows = [{"id": f"{n}", "text": f"text {n}", "url": f"u{n}", "tags": ["a", {"b": n}]} for n in range(5)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    finished = run_recipe(Recipe((str(tmp_path / "in.jsonl"),)), tmp_path / "run")
    assert export_rows(finished.shards, tmp_path / "out.jsonl.gz") == 5
    written = [json.loads(line) for line in gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).splitlines()]
    assert [{key: row[key] for key in rows[0]} for row in written] == rows


def test_the_text_of_another_field_is_not_written_over_by_a_field_named_text(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": "1", "content": "judged", "text": "not looked at"}\n')
    finished = run_recipe(Recipe((str(tmp_path / "in.jsonl"),), text_field="content"), tmp_path / "run")
    export_rows(finished.shards, tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text())["text"] == "judged"


def test_steps_named_alike_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps named alike: \['filter'\]"):
        Recipe(steps=(Filter(), Filter()))


OWN = """
from dataclasses import dataclass
from gemwright.data.pipeline.recipe import Filter, Recipe
from gemwright.data.rules.batch import Verdicts

@dataclass(frozen=True)
class Short:
    least: int
    name: str = "own"
    def __call__(self, batch):
        return Verdicts([None if len(text) / self.least > 1 else "short" for text in batch.texts])

class Unsettled:
    name = "unsettled"

def recipe():
    return Recipe(("in.jsonl",), (Filter((Short(5),)),))

def broken():
    return Recipe(("in.jsonl",), (Filter((Short(0),)),))

def unsettled():
    return Recipe(("in.jsonl",), (Filter((Unsettled(),)),))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe with a rule of its own."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    Path("in.jsonl").write_text('{"text": "a b"}\n{"text": "a b c d e"}\n')
    return "own.py"


def test_a_recipes_own_rule_reaches_every_worker(own: str) -> None:
    assert run_recipe(load_recipe(own), Path("run"), workers=2).summary()["dropped"] == {"filter/own:short": 1}


def test_a_rule_that_fails_is_told_with_its_line(own: str) -> None:
    with pytest.raises(ValueError, match=r"own\.py, line 11: ZeroDivisionError: "):
        run_recipe(load_recipe(f"{own}:broken"), Path("run"))


def test_a_rule_that_a_later_run_would_not_know_again_is_refused(own: str) -> None:
    with pytest.raises(ValueError, match=r"Unsettled object at .*make its class a dataclass"):
        run_recipe(load_recipe(f"{own}:unsettled"), Path("run"))


def test_a_failing_worker_says_why_in_words(own: str) -> None:
    with pytest.raises(ValueError, match=r"none\.npz"):
        run_recipe(Recipe(("in.jsonl",), (Filter((Learned("none.npz"),)),)), Path("run"))


@pytest.mark.parametrize(
    ("more", "message"),
    [({"steps": (Decontaminate(("none",)),)}, "no benchmark to read"), ({"tokenizer": "none"}, "none: no such file")],
)
def test_what_is_wanted_last_is_missed_first(own: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        run_recipe(Recipe(("in.jsonl",), **more), Path("run"))
    assert not Path("run").exists()


def test_a_benchmark_that_came_later_is_not_passed_for_looked_for(own: str) -> None:
    Path("quiz").mkdir()
    Path("quiz/a.txt").write_text("one two three four five six seven eight")
    looked = Recipe(("in.jsonl",), (Decontaminate(("quiz",)),))
    run_recipe(looked, Path("run"))
    Path("quiz/b.txt").write_text("eight seven six five four three two one")
    with pytest.raises(FileExistsError, match="files that have changed"):
        run_recipe(looked, Path("run"))
