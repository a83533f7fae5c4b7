"""Gemma 3 in files: old and new ones, alone or as the text of a model that also sees."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_config import TokenIds, config_json, read_config
from gemwright.checkpoints.hf_tensors import parts_left_out
from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.save import save_checkpoint
from gemwright.model import load
from gemwright.models.gemma3 import PRESETS, Config
from tests.checkpoints.conftest import GEMMA3, assert_same, sharp_weights

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
PUBLISHED_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "mm_tokens_per_image": 256,
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152},
}


def read(tmp_path: Path, values: Any) -> Config:
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = read_config(tmp_path)
    assert isinstance(config, Config)
    return config


@pytest.mark.parametrize(("values", "preset"), [(PUBLISHED_1B, "gemma3-1b"), (PUBLISHED_4B, "gemma3-4b")])
def test_published_files_are_the_presets(tmp_path: Path, values: Any, preset: str) -> None:
    assert read(tmp_path, values) == PRESETS[preset]


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
        ({"model_type": "gemma3", "text_config": 3}, "text_config"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_the_key(tmp_path: Path, change: Any, named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        read(tmp_path, PUBLISHED_1B | change)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_text_of_a_model_that_also_sees_needs_no_image_code(tmp_path: Path, prefix: str) -> None:
    weights = sharp_weights(GEMMA3)
    save_checkpoint(tmp_path / "text", GEMMA3, weights)
    tensors = load_file(tmp_path / "text" / "model.safetensors")
    both = {prefix + name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    vision = prefix.removesuffix("language_model.") if prefix.startswith("model") else ""
    both |= {f"{vision}vision_tower.embeddings.weight": np.ones(3), f"{vision}multi_modal_projector.w": np.ones(3)}
    (tmp_path / "both").mkdir()
    save_file(both, tmp_path / "both" / "model.safetensors")
    values = json.loads((tmp_path / "text" / "config.json").read_text())
    (tmp_path / "both" / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": values}))
    loaded = load_checkpoint(tmp_path / "both")
    assert loaded.config == GEMMA3
    assert_same(loaded.weights, weights)
    assert parts_left_out(tmp_path / "both", GEMMA3) == ["multi_modal_projector", "vision_tower"]
    assert parts_left_out(tmp_path / "text", GEMMA3) == []


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
