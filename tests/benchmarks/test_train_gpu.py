"""The GPU's benchmark of training on the CPU: its variants run, one that fails leaves the others."""

import json
import subprocess
import sys


def test_a_side_that_fails_leaves_the_other() -> None:
    given = [
        "--shape",
        "tiny",
        "--only",
        "ours",
        "torch",
        "--steps",
        "3",
        "--documents",
        "2",
        "--torch-weights",
        "float32",
    ]
    command = [sys.executable, "-m", "benchmarks.train_gpu", *given, "--python", "false"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["mfu"] > 0
    assert found["tokens_per_second"] > 0
    assert found["torch_mfu"] is None
    assert found["ratio"] is None
    assert "torch failed" in done.stderr
