"""`gemwright pretrain`: a run with its report, and what is wrong with a recipe or a setting told in a line."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.training import tiny_recipe

RECIPE = tiny_recipe.__file__


def test_a_recipe_is_trained_reported_and_not_done_twice(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        done = run("pretrain", RECIPE, "--out", tmp_path, "--set", "steps=6", "--set", "optimizer.lr=1e-2")
        assert done.code == 0, done.err
        assert "trained" in done.out
    records = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(6))
    assert all(0 < record["mfu"] < 1 for record in records)
    report = (tmp_path / "report.md").read_text()
    assert "| optimizer.lr | 0.01 |" in report
    assert "| steps done | 6 |" in report
    assert "| 8 to 15 |" in report
    assert "![loss by position](positions.png)" in report
    assert {"loss.png", "positions.png", "model"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("until", [0, -3])
def test_a_run_does_not_end_before_its_first_step(run: Run, tmp_path: Path, until: int) -> None:
    done = run("pretrain", RECIPE, "--out", tmp_path / "out", "--until", until)
    assert done.code == 2
    assert not (tmp_path / "out").exists()


def test_another_setting_for_the_same_folder_is_refused(run: Run, tmp_path: Path) -> None:
    assert run("pretrain", RECIPE, "--out", tmp_path, "--until", 2, "--set", "steps=6").code == 0
    done = run("pretrain", RECIPE, "--out", tmp_path, "--set", "steps=6", "--set", "optimizer.lr=1")
    assert done.code == 1
    assert "begun with optimizer.lr = 0.02, now it is 1.0; set it back, or use another folder" in done.err


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("optimizer.lr", "--set optimizer.lr: expected NAME=VALUE"),
        ("optimizer.lr=fast", "--set optimizer.lr=fast: expected float"),
        ("optimizer.rate=1", "--set optimizer.rate: no field rate; there are kind, lr"),
        ("optimiser.lr=1", "--set optimiser.lr: no field optimiser; did you mean optimizer?"),
        ("optimizer.kind=sgd", "--set optimizer.kind=sgd: expected muon or adamw"),
        ("optimizer=muon", "--set optimizer: expected one of its fields: kind, lr"),
        ("stages.3.steps=1", "--set stages.3.steps: no field 3"),
        ("steps=many", "--set steps=many: expected int"),
        ("mesh.data=7", "expected sizes for 2 devices"),
        ("model.head_dim=7", "--set model.head_dim=7: head_dim 7 is odd"),
        ("tokens_per_step=100", "expected a multiple of 32"),
        ("tokens_per_step=0", "tokens_per_step 0: expected a number, 1 or more"),
        ("stages.0.length=0", "length 0: expected a number, 1 or more"),
        ("stages.0.steps=0", "steps 0: expected a number, 1 or more"),
        ("optimizer.lr=nan", "lr nan: expected a number, 0 or more"),
        ("optimizer.adam_b1=1", "adam_b1 1.0: expected a number, 0 or more and below 1"),
        ("compute.accumulate=0", "accumulate 0: expected a number, 1 or more"),
        ("guard.window=0", "window 0: expected a number, 1 or more"),
        ("model.num_kv_heads=0", "--set model.num_kv_heads=0: "),
        ("model.embed_dim=-1", "embed_dim -1: expected a number, 1 or more"),
        ("seed=-1", "seed -1: expected a number, 0 or more"),
        ("save_every=0", "save_every 0: expected 1 or more"),
    ],
)
def test_a_wrong_setting_is_told(run: Run, tmp_path: Path, setting: str, told: str) -> None:
    done = run("pretrain", RECIPE, "--out", tmp_path / "out", "--set", setting)
    assert done.code == 1
    assert told in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def pretraining(:", "line 1: SyntaxError"),
        ("x = 1\nimport no_such_module", "line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def recipe(): pass", "expected a function pretraining(...) -> Pretraining, found none"),
        ("def pretraining():\n    return 1 / 0", "line 2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(0)", "line 2: SystemExit: 0"),
        ("def pretraining(size: 'Missing' = 1): return 3", "NameError: name 'Missing' is not defined"),
        ("def pretraining(): return 3", "to return a Pretraining, found int"),
        ("def pretraining(corpus: str): return 3", "corpus is not set; add --set corpus=VALUE"),
    ],
)
def test_a_broken_recipe_is_told_with_its_line(run: Run, tmp_path: Path, text: str, told: str) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(text)
    done = run("pretrain", recipe, "--out", tmp_path / "out")
    assert done.code == 1
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_coordinator_without_a_port_is_told(run: Run, tmp_path: Path) -> None:
    done = run("pretrain", tmp_path / "recipe.py", "--coordinator", "10.0.0.1")
    assert (done.code, done.err) == (1, "error: 10.0.0.1: expected HOST:PORT, as 10.0.0.1:7777\n")


def test_a_recipe_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    assert "expected a recipe, a Python file, found none" in run("pretrain", tmp_path / "none.py").err
