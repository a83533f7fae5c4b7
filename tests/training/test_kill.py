"""Processes that are killed, and processes that share a run."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from gemwright.checkpoints.load import load_checkpoint
from gemwright.core.module import named_leaves
from gemwright.training.loop import train
from gemwright.training.report import read_losses
from tests.processes import with_devices
from tests.training import tiny_recipe

STEPS = 24
COMMAND = [sys.executable, "-m", "gemwright.cli.main", "pretrain", tiny_recipe.__file__, f"--set=steps={STEPS}"]
ROOT = Path(__file__).parents[2]


def begun(out: Path, *options: str, devices: int = 2) -> subprocess.Popen[str]:
    command = [*COMMAND, f"--out={out}", *options]
    return subprocess.Popen(command, cwd=ROOT, env=with_devices(devices), stderr=subprocess.PIPE, text=True)


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(process: subprocess.Popen[str], log: Path, count: int) -> None:
    while lines(log) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


def test_killed_whenever_it_ends_bit_by_bit_as_if_never_killed(tmp_path: Path) -> None:
    """States are being written every other step, 30 ms apart: a kill falls into writing as often as not."""
    whole = train(tiny_recipe.run(STEPS), tiny_recipe.rows(), tmp_path / "whole", save_every=2)
    out = tmp_path / "killed"
    for count in (5, 12):
        process = begun(out, "--set=seconds=0.03")
        wait_for(process, out / "losses.jsonl", count)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = begun(out)
    assert last.wait(timeout=200) == 0, last.communicate()[1]
    last.communicate()
    assert read_losses(out) == read_losses(tmp_path / "whole")
    found, narrow = named_leaves(load_checkpoint(out / "model").weights), named_leaves(whole)
    for name, weight in narrow.items():
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(weight.astype(found[name].dtype)), name)


def test_interrupted_it_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = begun(tmp_path, "--set=seconds=0.03", "--set=save_every=1000")
    wait_for(process, tmp_path / "losses.jsonl", 3)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=100)[1]
    assert process.returncode == 130
    assert "saved; the same command goes on" in told
    assert "Traceback" not in told
    kept = [int(folder.name) for folder in (tmp_path / "checkpoints").iterdir()]
    assert kept == [lines(tmp_path / "losses.jsonl")]
