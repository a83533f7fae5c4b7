"""RecurrentGemma in files: how its constants are said, what is packed and what stays as it is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.gguf_writer import save_gguf
from gemwright.checkpoints.hf_config import TokenIds, config_json, read_config
from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.packed_writer import save_packed
from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import named_weights
from gemwright.core.packed import Packed, pack_weights
from gemwright.model import load
from gemwright.models.griffin import PRESETS, Config, Griffin
from tests.checkpoints.conftest import GRIFFIN, assert_same, logits, sharp_weights

IDS = TokenIds(0, 2, (1, 107))
TOKENS = np.arange(24).reshape(2, 12) * 7 % 640

PUBLISHED_2B = {
    "architectures": ["RecurrentGemmaForCausalLM"],
    "attention_bias": False,
    "attention_window_size": 2048,
    "block_types": ["recurrent", "recurrent", "attention"],
    "conv1d_width": 4,
    "embeddings_scale_by_sqrt_dim": True,
    "final_w_init_variance_scale": 0.07692307692307693,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2560,
    "intermediate_size": 15360,
    "logits_soft_cap": 30.0,
    "lru_width": 2560,
    "model_type": "recurrent_gemma",
    "num_attention_heads": 10,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
    "vocab_size": 256000,
}


def read(tmp_path: Path, values: Any) -> Config:
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = read_config(tmp_path)
    assert isinstance(config, Config)
    return config


def test_a_published_file_is_the_preset_with_a_key_more_and_half_the_width(tmp_path: Path) -> None:
    config = read(tmp_path, PUBLISHED_2B)
    assert config == PRESETS["recurrentgemma-2b"]
    assert (config.window, config.mlp_dim) == (2049, 7680)


def test_a_file_of_transformers_5_is_the_same(tmp_path: Path) -> None:
    values = {key: value for key, value in PUBLISHED_2B.items() if not key.startswith(("rope", "partial", "head_dim"))}
    rope = {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 0.5}
    assert read(tmp_path, values | {"rope_parameters": rope, "lru_width": None}) == PRESETS["recurrentgemma-2b"]


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        GRIFFIN,
        replace(GRIFFIN, pattern=("attention", "recurrent"), taps=3, final_cap=None, rope_base=500.0),
        replace(GRIFFIN, num_kv_heads=2, window=2),
    ],
)
def test_every_config_reads_back_as_it_was_written(tmp_path: Path, config: Config) -> None:
    assert read(tmp_path, config_json(config, "bfloat16", IDS)) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"intermediate_size": 15361}, "intermediate_size: expected both branches"),
        ({"head_dim": 128}, "head_dim"),
        ({"hidden_size": 2561}, "head_dim"),
        ({"block_types": ["mamba"]}, "block_types"),
        ({"block_types": []}, "block_types"),
        ({"block_types": 3}, "block_types"),
        ({"partial_rotary_factor": 1.0}, "partial_rotary_factor"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}}, "rope_parameters"),
        ({"embeddings_scale_by_sqrt_dim": False}, "embeddings_scale_by_sqrt_dim"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_activation": "gelu"}, "hidden_activation"),
        ({"attention_window_size": 0}, "attention_window_size"),
        ({"logits_soft_cap": -3}, "logits_soft_cap"),
        ({"lru_width": 2561}, "recurrent_dim 2561 is no multiple of num_heads 10"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_the_key(tmp_path: Path, change: Any, named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        read(tmp_path, PUBLISHED_2B | change)


@pytest.mark.parametrize("change", [{"head_dim": 8}, {"window": 1}])
def test_a_config_that_a_file_cannot_say_is_refused(change: Any) -> None:
    with pytest.raises(CheckpointError, match="no Hugging Face form"):
        config_json(replace(GRIFFIN, **change), "float32", IDS)


def test_matrices_are_packed_and_what_the_recurrence_computes_with_stays(tmp_path: Path) -> None:
    weights = sharp_weights(GRIFFIN, jnp.bfloat16)
    packed = pack_weights(Griffin.specs(GRIFFIN), weights, 8)
    save_packed(tmp_path / "packed", GRIFFIN, packed)
    model = load(tmp_path / "packed")
    assert model.config == GRIFFIN
    assert_same(model.weights, packed)
    found = named_weights(Griffin.specs(GRIFFIN), model.weights)
    dense = {name.split(".")[-1] for name, weight in found.items() if not isinstance(weight, Packed)}
    gates = {"conv_weight", "conv_bias", "input_gate", "input_gate_bias", "decay_gate", "decay_gate_bias", "decay"}
    assert dense == {*gates, "bias", "mixer_norm", "mlp_norm", "final_norm"}


@pytest.mark.parametrize(("bits", "error"), [(4, 0.5), (8, 0.05)])
def test_a_packed_model_computes_nearly_the_same(tmp_path: Path, bits: int, error: float) -> None:
    """Of the logits' deviation; 4 bits of sharp random weights lose much."""
    weights = sharp_weights(GRIFFIN, jnp.bfloat16)
    save_checkpoint(tmp_path / "model", GRIFFIN, weights)
    few = load(tmp_path / "model", bits=bits)
    whole = logits(weights, GRIFFIN, TOKENS)
    assert np.sqrt(np.mean((np.asarray(few.logits(TOKENS)) - whole) ** 2)) < error * whole.std()
    answer = few.generate_ids([2, 5, 9], 12, stop_ids=())
    scores = np.asarray(few.logits([[2, 5, 9]]))[0, -1]
    assert scores[answer[0]] > scores.max() - 0.25  # bfloat16 between the products moves logits by as much
    assert len(answer) == 12


def test_padded_rows_of_a_vocabulary_are_no_pieces(tmp_path: Path) -> None:
    assert read(tmp_path, PUBLISHED_2B | {"vocab_size": 256_128}).vocab_size == 256_000


def test_llama_cpp_has_no_file_for_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="family 'recurrent_gemma': expected one of gemma, gemma2"):
        save_gguf(tmp_path / "model.gguf", GRIFFIN, sharp_weights(GRIFFIN))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", GRIFFIN, sharp_weights(GRIFFIN))
    values = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(values | {"conv1d_width": 3}))
    with pytest.raises(CheckpointError, match=r"conv_1d\.weight: expected shape \(40, 1, 3\), found \(40, 1, 4\)"):
        load_checkpoint(tmp_path / "model")
