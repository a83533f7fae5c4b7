"""`gemwright recipe`: what it says at the end, and its exit code."""

import json
from pathlib import Path
from typing import Any

import pytest

from gemwright.gemma_mini import recipe
from gemwright.gemma_mini.course import Done
from gemwright.gemma_mini.outcome import Outcome
from gemwright.training.loop import Interrupted
from gemwright.tuning.intervals import Interval
from tests.cli.conftest import Run


def chain(monkeypatch: pytest.MonkeyPatch, **gains: float) -> None:
    """In place of the chain, stages with these gains and intervals of 0.1 either way."""

    def done(name: str, gain: float) -> Done:
        both = Interval(0.5, 0.4, 0.6, 10)
        return Done(name, Outcome("a share", "chance", both, both, Interval(gain, gain - 0.1, gain + 0.1, 10)), 60.0)

    def carried_out(out: Path, **settings: Any) -> list[Done]:
        settings["say"](f"{settings['minutes']:g} minutes, seed {settings['seed']}")
        return [done(name, gain) for name, gain in gains.items()]

    monkeypatch.setattr(recipe, "gemma_mini", carried_out)


def test_a_chain_whose_stages_all_gain_passes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(monkeypatch, sft=0.3, rlhf=0.11)
    told = run("recipe", "gemma-mini", "--out", "x", "--minutes", 7, "--seed", 3)
    assert (told.code, told.out) == (0, "passed, all 2 stages; x/report.html tells how\n")
    assert told.err == "7 minutes, seed 3\n"


def test_a_stage_without_a_gain_is_named_and_the_command_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(monkeypatch, sft=0.3, reward=0.1, rlhf=-0.2)
    told = run("recipe", "gemma-mini")
    assert told.code == 1
    assert told.out == "not passed: no gain beyond chance in reward, rlhf; runs/gemma-mini/report.html tells how\n"
    as_json = run("recipe", "gemma-mini", "--json")
    assert as_json.code == 1
    kept = json.loads(as_json.out)
    assert kept["passed"] is False
    assert {one["name"]: one["improved"] for one in kept["stages"]} == {"sft": True, "reward": False, "rlhf": False}


@pytest.mark.parametrize("stopped", [Interrupted("stopped after step 3 of 6"), KeyboardInterrupt()])
def test_a_chain_that_is_stopped_says_how_to_go_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, stopped: BaseException
) -> None:
    def raises(*_: Any, **__: Any) -> None:
        raise stopped

    monkeypatch.setattr(recipe, "gemma_mini", raises)
    told = run("recipe", "gemma-mini")
    assert told.code == 130
    assert told.err == f"{str(stopped) or 'stopped'}; the same command goes on\n"


def test_another_run_of_the_folder_and_too_few_minutes_are_refused(run: Run, tmp_path: Path) -> None:
    short = run("recipe", "gemma-mini", "--out", tmp_path, "--minutes", 0.2)
    assert (short.code, short.err) == (1, "error: minutes 0.2: expected 1 to 6000\n")
    (tmp_path / "settings.json").write_text(json.dumps({"recipe": "gemma-mini", "seed": 7}))
    other = run("recipe", "gemma-mini", "--out", tmp_path)
    assert other.code == 1
    assert "holds a run with" in other.err
    assert "Traceback" not in other.err
    unknown = run("recipe", "gemma-maxi")
    assert unknown.code == 2
    assert "gemma-mini" in unknown.err
