import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.data.rules.test_rules import PROSE

# Daft leaves a pipe of its workers to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

QUESTION = "Janet has sixteen ducks that lay one egg each a day, and she sells every egg for two coins; how many coins?"
TEXTS = {
    "prose": PROSE,
    "again": PROSE,
    "menu": "Home | About | Contact",
    "leak": f"{PROSE[::-1]} {QUESTION}",
    "mail": f"{PROSE[50:]} Write to jane.doe@example.com.",
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    lines = [json.dumps({"id": name, "text": text, "url": f"u/{name}"}) for name, text in TEXTS.items()]
    path.write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    return path


def written(path: Path) -> dict[str, str]:
    return {row["id"]: row["text"] for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


STEPS: dict[str, tuple[list[str], dict[str, int], list[str]]] = {
    "filter": (["--rules", "c4,gopher_quality"], {"filter/c4:few sentences": 2}, ["prose", "again", "mail"]),
    "dedup": ([], {"exact/duplicate": 1, "near/near duplicate": 1}, ["prose", "menu", "leak"]),
    "decontaminate": (["--against", "quiz.jsonl"], {"decontaminate/quiz": 1}, ["prose", "again", "menu", "mail"]),
    "redact": ([], {}, list(TEXTS)),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_alone_reads_and_writes_rows_and_accounts_for_each(
    step: str, rows: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, dropped, kept = STEPS[step]
    monkeypatch.chdir(rows.parent)
    Path("quiz.jsonl").write_text(json.dumps({"question": QUESTION.upper()}))
    done = run("data", step, "--input", rows, "--output", "out.jsonl", "--json", *options)
    assert (done.code, done.err) == (0, "")
    summary = json.loads(done.out)
    assert (summary["in"], summary["dropped"], summary["quarantined"]) == (6, dropped, {"not JSON": 1})
    assert summary["in"] == summary["kept"] + sum(dropped.values()) + 1
    leaks = {"quiz": {"items": 1, "too_short": 0, "found": 1, "times": 1}} if step == "decontaminate" else None
    assert summary.get("benchmarks") == leaks
    assert list(written(Path("out.jsonl"))) == kept
    (broken,) = map(json.loads, Path("out.jsonl.quarantine.jsonl").read_text().splitlines())
    assert (broken["reason"], broken["place"]) == ("not JSON", "line 6")
    assert sorted(p.name for p in Path().iterdir() if p.is_dir()) == [], "the working folder is gone"


def test_redacted_rows_have_the_kinds_name_in_place(rows: Path, run: Run, tmp_path: Path) -> None:
    run("data", "redact", "--input", rows, "--output", tmp_path / "out.jsonl")
    assert written(tmp_path / "out.jsonl")["mail"].endswith("Write to <e-mail>.")
    assert written(tmp_path / "out.jsonl")["prose"] == PROSE


RECIPE = """
from gemwright.data.pipeline.recipe import Filter, Recipe
from gemwright.data.pipeline.steps import repeats_of, rules_of

def recipe():
    return Recipe(("in.jsonl",), (Filter(rules_of(["c4"], ["en"])), *repeats_of(["exact"])))

def wrong():
    return 3

def broken():
    return Recipe(inputz=("in.jsonl",))

def bare():
    return Recipe()
"""


def test_a_recipe_is_carried_out_and_shown(rows: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rows.parent)
    Path("clean.py").write_text(RECIPE)
    done = run("data", "run", "clean.py", "--out", "runs/a")
    assert done.code == 0, done.err
    assert "exact/duplicate" in done.out
    again = run("data", "run", "clean.py:recipe", "--out", "runs/a", "--json")
    assert json.loads(again.out)["kept"] == 2
    assert json.loads(again.out) == json.loads(Path("runs/a/summary.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.py", "--out", "x"], "no such recipe"),
        (["run", "clean.py:wrong", "--out", "x"], "that returns a Recipe"),
        (["run", "clean.py:broken", "--out", "x"], "clean.py, line 12: TypeError: "),
        (["run", "clean.py:bare", "--out", "x"], "no inputs: name files, folders or addresses"),
        (["run", "in.jsonl", "--out", "x"], "in.jsonl: expected a recipe, a Python file whose name ends in .py"),
        (["run", "slip.py", "--out", "x"], "slip.py, line 2: SyntaxError: "),
        (["run", "clean.py", "--out", "slip.py"], "slip.py: is a file; expected a folder"),
        (["run", "clean.py", "--input", ".", "--out", "runs/a"], "runs/a: lies inside the input . and would be read"),
        (["filter", "--input", "none.jsonl", "--output", "o"], "no file to read"),
        (["filter", "--input", "in.jsonl", "--output", "in.jsonl"], "in.jsonl: is one of the inputs"),
        (["filter", "--input", "in.jsonl", "--output", "."], "found a folder; choose another name"),
        (["filter", "--input", "in.jsonl", "--output", "pipe"], "found a device or a pipe; choose another name"),
        (["examples", "in.jsonl", "--output", "in.jsonl"], "in.jsonl: is one of the inputs"),
        (["filter", "--input", "in.jsonl", "--output", "o.jsonl.xz"], "what is written are JSON lines"),
        (["filter", "--input", "*.py", "--output", "o.parquet"], "what is written are JSON lines"),
        (["filter", "--input", "*.bin", "--output", "o"], "*.bin: no file to read"),
        (["filter", "--input", "nowhere://x", "--output", "o"], "nowhere://x: Protocol not known"),
        (["filter", "--input", "in.jsonl", "--output", "o", "--rules", "typo"], "'typo': no such rule; there are"),
        (["dedup", "--input", "in.jsonl", "--output", "o", "--kinds", "typo"], "'typo': no such kind of repeat"),
        (["dedup", "--input", "in.jsonl", "--output", "o", "--kinds", ""], "expected kinds of repeats, found none"),
        (["filter", "--input", "in.jsonl", "--output", "o", "--language", "english"], "'english': no such language"),
        (
            ["filter", "--input", "in.jsonl", "--output", "o", "--min-quality", "nan"],
            "from 0 to 1, found nan",
        ),
        (
            ["filter", "--input", "in.jsonl", "--output", "o", "--block", "words"],
            "words: expected UTF-8 text, found",
        ),
        (["examples", "in.jsonl", "--output", "o", "--block", "empty"], "empty: expected words and phrases, one a li"),
        (["decontaminate", "--input", "in.jsonl", "--output", "o", "--against", "none"], "no benchmark to read"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], message: str, rows: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(rows.parent)
    Path("clean.py").write_text(RECIPE)
    Path("slip.py").write_text("import os\ndef recipe(:\n")
    os.mkfifo("pipe")
    Path("words").write_bytes(b"\xff")
    Path("empty").write_text("\n")
    before = rows.read_bytes()
    Path("a.bin").touch()
    done = run("data", *arguments)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert message in done.err
    assert rows.read_bytes() == before


def test_mixtures_are_ranked_from_what_proxies_reached(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training itself is tests/training/test_ablation.py's."""
    from gemwright.training import ablation
    from gemwright.training.ablation import Ranked, Score

    ranking = [Ranked("equal", {"a": 1.0}, Score(1.5, 0.25), {"a": Score(1.5, 0.25)})]
    monkeypatch.setattr(ablation, "read_ablation", lambda path: path)
    monkeypatch.setattr(ablation, "ablate", lambda recipe, out, say: ranking)
    shown = run("data", "ablate", tmp_path / "r.py", "--out", tmp_path / "x")
    assert "equal      1.500±0.250" in shown.out
    rows = json.loads(run("data", "ablate", tmp_path / "r.py", "--out", tmp_path / "x", "--json").out)
    assert rows[0]["total"] == {"mean": 1.5, "margin": 0.25}


def test_small_runs_suggest_a_size_for_a_budget(run: Run, tmp_path: Path) -> None:
    from tests.data.test_scaling import runs

    path = tmp_path / "runs.jsonl"
    path.write_text("".join(json.dumps(vars(r)) + "\n" for r in runs(0)))
    done = run("data", "scaling", path, "--compute", "1e20", "--plot", tmp_path / "law.png", "--json")
    assert done.code == 0, done.err
    assert 2e8 < json.loads(done.out)["best"]["parameters"] < 8e8
    assert (tmp_path / "law.png").stat().st_size > 5000
    assert "tokens" in run("data", "scaling", path, "--compute", "1e20").out
    for compute in ("0", "-5", "nan", "inf"):
        assert f"compute: expected operations above 0, such as 1e20, found {float(compute)}" in (
            run("data", "scaling", path, "--compute", compute).err
        )
    for bad in (b"{}", b"\xff\xfe", b"[1]", b"[" * 100_000):
        path.write_bytes(bad)
        assert "line 1: expected a row with parameters" in run("data", "scaling", path, "--compute", "1").err
