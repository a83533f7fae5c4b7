"""Decisions of the shared rules beside datatrove's, and one run beside the same on a Ray cluster of two workers."""

import inspect
import json
import random
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from benchmarks.data import PAIRS, decisions_of_datatrove, decisions_of_ours, spoiled

pytestmark = pytest.mark.parity


def english_texts() -> list[str]:
    """Prose of the standard library: docstrings, its licence, its notes; and spoiled forms near the thresholds."""
    import argparse
    import asyncio
    import decimal
    import pydoc_data.topics
    import statistics

    texts = [inspect.getdoc(m) or "" for m in (argparse, asyncio, decimal, statistics)]
    texts += list(pydoc_data.topics.topics.values())
    texts += [p.read_text(encoding="utf-8") for p in Path(sysconfig.get_path("stdlib")).glob("*.txt")]
    texts = [text[:20_000] for text in texts if len(text) > 300]
    rng = random.Random(0)
    return texts + [spoiled(text, rng) for text in texts for _ in range(4)]


@pytest.mark.parametrize("name", PAIRS)
def test_every_text_is_kept_or_dropped_as_datatrove_does_and_left_with_the_same_lines(name: str) -> None:
    texts = english_texts()
    ours, theirs = decisions_of_ours(name, texts), decisions_of_datatrove(name, texts)
    assert ours == theirs
    assert 3 <= sum(text is None for text in ours) <= len(texts) - 3, "the texts put the rule to the test"


RAY = """
import sys, pathlib
from gemwright.data.pipeline.run import run_recipe
from tests.data.pipeline.test_run import recipe
import ray
from ray.cluster_utils import Cluster

inputs, out = map(pathlib.Path, sys.argv[1:])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
assert len([node for node in ray.nodes() if node["Alive"]]) == 2
run_recipe(recipe(inputs), out, engine="ray", address=cluster.address)
"""


def test_a_ray_cluster_of_two_workers_gives_the_same_files(tmp_path: Path) -> None:
    from tests.data.pipeline.test_run import content, write_inputs

    write_inputs(tmp_path / "raw", files=6, rows=100)
    script = tmp_path / "ray_run.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(Path.cwd())!r})\n" + RAY)
    out = tmp_path / "ray"
    done = subprocess.run([sys.executable, script, tmp_path / "raw", out], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    native = subprocess.run([sys.executable, "-c", NATIVE, tmp_path / "raw", tmp_path / "native"], timeout=300)
    assert native.returncode == 0
    assert content(out) == content(tmp_path / "native")
    assert json.loads((out / "summary.json").read_text())["in"] == 600


NATIVE = """
import sys, pathlib
from gemwright.data.pipeline.run import run_recipe
from tests.data.pipeline.test_run import recipe
run_recipe(recipe(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))
"""
