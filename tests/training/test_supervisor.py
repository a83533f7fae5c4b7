"""A process that is killed takes its part of the state from another's memory, and the run goes on as if nothing was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gemwright.training.report import read_losses
from gemwright.training.supervisor import Held, common_step
from tests.training.test_kill import ROOT, lines
from tests.training.tiny_recipe import __file__ as RECIPE

pytestmark = pytest.mark.usefixtures("quickly_compiled")

STEPS, MEMORY_EVERY = 40, 4


def supervised(out: Path) -> subprocess.Popen[str]:
    """Two processes that keep their state in memory, and write no checkpoint before the end."""
    command = [sys.executable, "-m", "gemwright.cli.main", "pretrain", RECIPE, "--workers=2", f"--out={out}"]
    sets = (f"steps={STEPS}", "seconds=0.05", "save_every=1000", f"guard.memory_every={MEMORY_EVERY}", f"tell={out}")
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command += [f"--set={text}" for text in sets]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def kill(worker: int, out: Path, supervisor: subprocess.Popen[str]) -> None:
    """Once a state was kept since the last loss. Process ids are what the recipe told."""
    os.kill(int((out / f"pid{worker}").read_text()), signal.SIGKILL)
    assert supervisor.poll() is None


def test_either_process_is_killed_and_the_losses_are_those_of_an_unkilled_run(tmp_path: Path) -> None:
    unkilled, killed = tmp_path / "unkilled", tmp_path / "killed"
    whole = supervised(unkilled)
    assert whole.wait(timeout=200) == 0, whole.communicate()[1]
    whole.communicate()
    run = supervised(killed)
    for worker, count in ((1, 6), (0, 22)):
        while lines(killed / "losses.jsonl") < count:
            assert run.poll() is None, run.communicate()[1]
            time.sleep(0.005)
        assert not list((killed / "checkpoints").iterdir())
        kill(worker, killed, run)
        while lines(killed / "events.jsonl") < (1 if worker else 2):
            assert run.poll() is None, run.communicate()[1]
            time.sleep(0.05)
    told = run.communicate(timeout=200)[1]
    assert run.returncode == 0, told
    assert told.count("was lost (signal 9)") == 2
    events = (killed / "events.jsonl").read_text()
    assert events.count("out of memory") == 2
    assert read_losses(killed) == read_losses(unkilled)
    model = "model/model.safetensors"
    assert (killed / model).read_bytes() == (unkilled / model).read_bytes()


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({0: {0: [4, 8], 1: [4]}, 1: {1: [4, 8], 0: [4]}}, (8, {0: 0, 1: 1})),
        ({0: {0: [4, 8], 1: [4]}, 1: {}}, (4, {0: 0, 1: 0})),
        ({0: {}, 1: {1: [4, 8], 0: [4, 8]}, 2: {2: [4, 8], 1: [4, 8]}}, (8, {0: 1, 1: 1, 2: 2})),
        ({0: {}, 1: {}}, (None, {})),
        ({0: {0: [4]}, 1: {1: [8]}}, (None, {})),
    ],
    ids=["all there", "one lost", "first lost", "beginning", "nothing whole"],
)
def test_the_newest_step_that_is_whole_is_taken(
    held: dict[int, Held], expected: tuple[int | None, dict[int, int]]
) -> None:
    assert common_step(held) == expected
