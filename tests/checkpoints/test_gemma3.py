"""Gemma 3's text in files, old and new ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_config import TokenIds, config_json, read_config
from gemwright.checkpoints.save import save_checkpoint
from gemwright.model import load
from gemwright.models.gemma3 import PRESETS, Config
from tests.checkpoints.conftest import GEMMA3, sharp_weights

IDS = TokenIds(0, 2, (1, 106))

PUBLISHED_1B = {
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "torch_dtype": "bfloat16",
    "vocab_size": 262144,
}


def read(tmp_path: Path, values: Any) -> Config:
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = read_config(tmp_path)
    assert isinstance(config, Config)
    return config


def test_the_published_file_is_the_preset(tmp_path: Path) -> None:
    assert read(tmp_path, PUBLISHED_1B) == PRESETS["gemma3-1b"]


def test_a_file_of_transformers_5_is_the_same(tmp_path: Path) -> None:
    old = ("rope_theta", "rope_local_base_freq", "rope_scaling", "sliding_window_pattern")
    values = {key: value for key, value in PUBLISHED_1B.items() if key not in old} | {
        "layer_types": ([*["sliding_attention"] * 5, "full_attention"] * 5)[:26],
        "rope_parameters": {
            "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
        },
    }
    assert read(tmp_path, values) == PRESETS["gemma3-1b"]


@pytest.mark.parametrize("config", [*PRESETS.values(), GEMMA3, replace(GEMMA3, windows=(None,), rope_base=500.0)])
def test_every_config_reads_back_as_it_was_written(tmp_path: Path, config: Config) -> None:
    values = config_json(config, "bfloat16", IDS)
    assert read(tmp_path, values) == config
    assert read(tmp_path, {key: value for key, value in values.items() if key != "rope_parameters"}) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}, "yarn"),
        ({"rope_parameters": {"rope_theta": 1e6}}, "rope_parameters: expected those of full_attention"),
        ({"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}}, "sliding_attention"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 0}}}, "factor"),
        ({"use_bidirectional_attention": True}, "causal"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_the_key(tmp_path: Path, change: Any, named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        read(tmp_path, PUBLISHED_1B | change)


def test_an_answer_ends_at_its_own_end_of_turn(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", GEMMA3, sharp_weights(GEMMA3))
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text())["eos_token_id"] == [1, 106]
    model = load(tmp_path / "model")
    assert model._default_stop_ids() == {1, 106}


@pytest.mark.parametrize("bits", [4, 8])
def test_it_is_packed_and_answers(tmp_path: Path, bits: int) -> None:
    save_checkpoint(tmp_path / "model", GEMMA3, sharp_weights(GEMMA3))
    model = load(tmp_path / "model", bits=bits)
    answer = model.generate_ids([2, 5, 9], 12, stop_ids=())
    logits = np.asarray(model.logits([[2, 5, 9]]))[0, -1]
    assert logits[answer[0]] > logits.max() - 0.25  # bfloat16 between the products moves logits by as much
    assert len(answer) == 12
