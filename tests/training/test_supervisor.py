"""A process that is killed takes its part of the state from another's memory, and the run goes on as if nothing was."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from gemwright.training.loop import train
from gemwright.training.report import read_losses
from gemwright.training.supervisor import Held, common_step
from tests.processes import with_devices
from tests.tolerances import SAME
from tests.training import tiny_recipe
from tests.training.test_kill import ROOT, begun, lines

STEPS, MEMORY_EVERY = 40, 4


def supervised(out: Path) -> subprocess.Popen[str]:
    """Two processes that keep their state in memory, and write no checkpoint before the end."""
    command = [
        sys.executable,
        "-m",
        "gemwright.cli.main",
        "pretrain",
        tiny_recipe.__file__,
        "--workers=2",
        f"--out={out}",
    ]
    sets = (f"steps={STEPS}", "seconds=0.05", "save_every=1000", f"guard.memory_every={MEMORY_EVERY}", f"tell={out}")
    environment = with_devices(1)
    command += ["--workers=2", f"--out={out}", *(f"--set={text}" for text in sets)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def kill(worker: int, out: Path, supervisor: subprocess.Popen[str]) -> None:
    """Once a state was kept since the last loss. Process ids are what the recipe told."""
    os.kill(int((out / f"pid{worker}").read_text()), signal.SIGKILL)
    assert supervisor.poll() is None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two processes that nobody supervised and nobody killed."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = f"--coordinator=localhost:{free.getsockname()[1]}"
    options = (place, "--processes=2", f"--set=steps={STEPS}")
    both = [begun(folder, *options, f"--process={number}", devices=1) for number in range(2)]
    ends = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    return folder


def test_two_processes_take_the_steps_of_one(undisturbed: Path, tmp_path: Path) -> None:
    train(tiny_recipe.run(STEPS), tiny_recipe.rows(), tmp_path)
    np.testing.assert_allclose(read_losses(undisturbed), read_losses(tmp_path), rtol=0, atol=SAME)
    assert jax.device_count() == 2
    assert (undisturbed / "model" / "model.safetensors").exists()


def test_either_process_is_killed_and_the_losses_are_those_of_an_unkilled_run(
    undisturbed: Path, tmp_path: Path
) -> None:
    killed = tmp_path
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
    assert read_losses(killed) == read_losses(undisturbed)
    model = "model/model.safetensors"
    assert (killed / model).read_bytes() == (undisturbed / model).read_bytes()


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
