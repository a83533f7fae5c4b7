"""config.json in its dialects."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_config import TokenIds, config_json, read_config
from gemwright.models.gemma import PRESETS, Config
from tests.checkpoints.conftest import CONFIGS

IDS = TokenIds(0, 2, (1, 107))


def read(tmp_path: Path, values: Any) -> Config:
    (tmp_path / "config.json").write_text(json.dumps(values))
    return read_config(tmp_path)


GEMMA_2B_OLD = {
    "architectures": ["GemmaForCausalLM"],
    "attention_bias": False,
    "head_dim": 256,
    "hidden_act": "gelu",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "max_position_embeddings": 8192,
    "model_type": "gemma",
    "num_attention_heads": 8,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
    "vocab_size": 256000,
}
GEMMA_2_27B_OLD = {
    "attention_bias": False,
    "attn_logit_softcapping": 50.0,
    "cache_implementation": "hybrid",
    "final_logit_softcapping": 30.0,
    "head_dim": 128,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 4608,
    "intermediate_size": 36864,
    "max_position_embeddings": 8192,
    "model_type": "gemma2",
    "num_attention_heads": 32,
    "num_hidden_layers": 46,
    "num_key_value_heads": 16,
    "query_pre_attn_scalar": 144,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
    "vocab_size": 256000,
}
GEMMA_2_27B_NEW = {
    **{key: value for key, value in GEMMA_2_27B_OLD.items() if key not in ("rope_theta", "torch_dtype", "hidden_act")},
    "dtype": "bfloat16",
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "layer_types": ["sliding_attention", "full_attention"] * 23,
}


@pytest.mark.parametrize(
    ("values", "preset"),
    [(GEMMA_2B_OLD, "gemma-2b"), (GEMMA_2_27B_OLD, "gemma2-27b"), (GEMMA_2_27B_NEW, "gemma2-27b")],
)
def test_both_dialects_of_published_files_are_the_presets(tmp_path: Path, values: Any, preset: str) -> None:
    assert read(tmp_path, values) == PRESETS[preset]


@pytest.mark.parametrize("config", [*PRESETS.values(), *CONFIGS.values()])
def test_every_config_reads_back_as_it_was_written(tmp_path: Path, config: Config) -> None:
    assert read(tmp_path, config_json(config, "bfloat16", IDS)) == config


def test_both_dialects_are_written(tmp_path: Path) -> None:
    values = config_json(CONFIGS["gemma2"], "bfloat16", IDS)
    assert values["torch_dtype"] == values["dtype"] == "bfloat16"
    assert values["rope_theta"] == values["rope_parameters"]["rope_theta"] == 10_000.0
    assert values["hidden_activation"] == values["hidden_act"] == "gelu_pytorch_tanh"
    for key in ("layer_types", "rope_parameters"):
        assert read(tmp_path, {k: v for k, v in values.items() if k != key}) == CONFIGS["gemma2"]
    assert read(tmp_path, {k: v for k, v in values.items() if k != "rope_theta"}) == CONFIGS["gemma2"]


@pytest.mark.parametrize("rope", [{"rope_theta": 500.0}, {"rope_parameters": {"rope_theta": 500.0}}])
def test_another_rotary_base_is_read(tmp_path: Path, rope: Any) -> None:
    values = {k: v for k, v in GEMMA_2B_OLD.items() if k != "rope_theta"}
    assert read(tmp_path, values | rope).rope_base == 500.0


def test_a_window_pattern_of_older_files_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, GEMMA_2_27B_OLD | {"sliding_window_pattern": 3}).windows == (4096, 4096, None)


def test_layer_types_of_any_order_are_kept(tmp_path: Path) -> None:
    s, f = "sliding_attention", "full_attention"
    values = GEMMA_2_27B_NEW | {"num_hidden_layers": 5}
    for types, windows in (
        ([f, s, f, s, f], (None, 4096)),
        ([s, s, s, f, s], (4096, 4096, 4096, None)),
        ([f] * 5, (None,)),
        ([s] * 5, (4096,)),
        ([s, f, s, f, s], (4096, None)),
    ):
        config = read(tmp_path, values | {"layer_types": types})
        assert config.windows == windows
        assert read(tmp_path, config_json(config, "float32", IDS)) == config


def test_absent_caps_are_the_familys_and_null_caps_are_none(tmp_path: Path) -> None:
    bare = {k: v for k, v in GEMMA_2_27B_OLD.items() if not k.endswith("softcapping")}
    assert read(tmp_path, bare).final_cap == 30.0
    assert read(tmp_path, GEMMA_2_27B_OLD | {"final_logit_softcapping": None}).final_cap is None


def test_gemma_1_has_no_use_for_a_query_scalar(tmp_path: Path) -> None:
    assert read(tmp_path, GEMMA_2B_OLD | {"query_pre_attn_scalar": 100}).query_scale == 256**-0.5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"model_type": "llama"},
            "expected gemma or gemma2 or gemma3 or gemma3_text or paligemma or paligemma2 or recurrent_gemma, found",
        ),
        ({"model_type": None}, "model_type"),
        ({"model_type": ["gemma2"]}, "model_type"),
        ({"attention_bias": True}, "attention_bias"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"use_bidirectional_attention": True}, "causal"),
        ({"hidden_act": "silu"}, "hidden_act"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"hidden_activation": "gelu"}, "hidden_activation"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "rope_parameters"),
        ({"rope_parameters": 3}, "rope_parameters"),
        ({"rope_theta": "x"}, "rope_theta"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": 2.5}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_key_value_heads": 3}, "num_kv_heads"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ({"final_logit_softcapping": -1.0}, "final_logit_softcapping"),
        ({"layer_types": ["full_attention"]}, "expected one for each of 46 layers, found 1"),
        ({"layer_types": ["linear_attention"] * 46}, "linear_attention"),
        ({"layer_types": 7}, "layer_types"),
        ({"sliding_window": None}, "sliding_window"),
        ({"sliding_window_pattern": "x"}, "sliding_window_pattern"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_the_key_and_the_file(tmp_path: Path, change: Any, named: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, GEMMA_2_27B_OLD | change)
    assert named in str(caught.value)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIGS["gemma"], query_scale=0.5),
        replace(CONFIGS["gemma"], windows=(4, None)),
        replace(CONFIGS["gemma"], final_cap=30.0),
        replace(CONFIGS["gemma2"], windows=(4, 8)),
        replace(CONFIGS["gemma2"], query_scale=0.3),
        replace(CONFIGS["gemma2"], post_norms=False),
        replace(CONFIGS["gemma2"], family="gemma9"),
    ],
)
def test_a_config_that_a_file_cannot_say_is_refused(config: Config) -> None:
    with pytest.raises(CheckpointError):
        config_json(config, "float32", IDS)
