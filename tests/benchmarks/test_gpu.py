"""The GPU's benchmark on the CPU: its models run, and its bytes are those of the weights and the cache."""

import subprocess
import sys

import pytest

from benchmarks.gpu import PROMPT, measure, random_weights
from gemwright.bench.speed import weight_bytes
from gemwright.core.module import count
from gemwright.models.gemma import Gemma, gemma1

CONFIG = gemma1(vocab_size=192, embed_dim=64, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=32, mlp_dim=96)


@pytest.mark.parametrize(("kind", "bits"), [("bf16", 16), ("int4", 4.5)])
def test_a_step_reads_the_weights_and_the_filled_cache(kind: str, bits: float) -> None:
    batch, steps = 2, 4
    drawn = random_weights(CONFIG, kind)
    found = measure(drawn, CONFIG, batch, steps)
    norms = CONFIG.embed_dim * (2 * CONFIG.num_layers + 1)
    weights = (count(Gemma.specs(CONFIG)) - norms) * bits / 8 + 2 * norms
    assert weight_bytes(drawn) == weights
    a_token = 2 * CONFIG.num_layers * CONFIG.num_kv_heads * CONFIG.head_dim * 2
    assert found["bytes_a_step"] == weights + batch * (PROMPT + steps / 2) * a_token
    assert found["tokens_per_second"] == pytest.approx(batch * found["steps_per_second"])


def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "JAX finds no GPU here" in done.stderr
    assert "Traceback" not in done.stderr
