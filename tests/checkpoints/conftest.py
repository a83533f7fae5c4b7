"""Two tiny models with sharp random weights, and their folders."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints.gguf_writer import save_gguf
from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import Spec, generator, map_specs, named_leaves
from gemwright.models import gemma, gemma3, griffin
from gemwright.models.family import Config, Decoder, specs_of
from gemwright.models.gemma import gemma1, gemma2
from gemwright.text.tokenizer import Tokenizer
from gemwright.text.training import train_tokenizer

SIZES = {"vocab_size": 640, "embed_dim": 32, "num_layers": 3, "num_heads": 4, "head_dim": 16, "mlp_dim": 48}
CONFIGS: dict[str, gemma.Config] = {
    "gemma": gemma1(num_kv_heads=1, **SIZES),
    "gemma2": gemma2(window=8, query_scale=24**-0.5, num_kv_heads=2, **SIZES),
}


GRIFFIN = griffin.Config(
    **{**SIZES, "num_heads": 2}, num_kv_heads=1, recurrent_dim=40, window=65
)  # transformers sees a key less: in short texts that makes no difference

GEMMA3 = gemma3.Config(**SIZES, num_kv_heads=2, query_scale=24**-0.5, windows=(8, 8, None), rope_factor=8.0)


def sharp_weights(config: Config, dtype: Any = jnp.float32, seed: int = 0) -> Any:
    """Matrices of deviation 1.5/sqrt(fan in), norms of 0.3: with gentler ones a swapped weight goes unseen."""

    def draw(name: str, spec: Spec) -> jax.Array:
        deviation = 0.3 if spec.init == "zeros" else 1.5 / np.sqrt(spec.fan_in)
        return jnp.asarray(generator(seed, name).standard_normal(spec.shape) * deviation, dtype)

    return map_specs(draw, specs_of(config))


def assert_same(mine: Any, theirs: Any) -> None:
    """Bit by bit, types included."""
    mine, theirs = named_leaves(mine), named_leaves(theirs)
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        assert array.dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(np.asarray(array), np.asarray(theirs[name]), err_msg=name)


def logits(weights: Decoder, config: Config, tokens: np.ndarray) -> np.ndarray:
    return np.asarray(_logits(weights, jnp.asarray(tokens), config))


@partial(jax.jit, static_argnames="config")
def _logits(weights: Decoder, tokens: jax.Array, config: Config) -> jax.Array:
    hidden, _ = weights(tokens, config)
    return weights.logits(hidden, config)


@pytest.fixture(params=[*CONFIGS.values(), GRIFFIN, GEMMA3], ids=lambda config: config.family)
def config(request: pytest.FixtureRequest) -> Config:
    return request.param


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Gemma 2 in bfloat16 without a tokenizer."""
    save_checkpoint(tmp_path / "model", CONFIGS["gemma2"], sharp_weights(CONFIGS["gemma2"], jnp.bfloat16))
    return tmp_path / "model"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A GGUF of a Gemma 2 in F16 without a tokenizer."""
    config = replace(CONFIGS["gemma2"], query_scale=16**-0.5)  # what llama.cpp computes for heads of 16
    save_gguf(tmp_path / "model.gguf", config, sharp_weights(config), kind="f16")
    return tmp_path / "model.gguf"


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_bytes(train_tokenizer(["all human beings are born free and equal " * 20, "1948"], 600))
