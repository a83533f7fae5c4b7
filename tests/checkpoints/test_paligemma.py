"""PaliGemma in files: published constants, names of all ages, folders that pass to transformers and back."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_config import TokenIds, config_json, read_config
from gemwright.checkpoints.load import check_vocabulary, load_checkpoint
from gemwright.checkpoints.save import save_checkpoint
from gemwright.models.gemma import gemma1, gemma2
from gemwright.models.paligemma import PRESETS, Config, PaliGemma
from gemwright.models.siglip import Config as Tower
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import SIZES, assert_same, sharp_weights
from tests.tolerances import LOGITS

TOWER = Tower(image_size=21, patch_size=7, embed_dim=30, num_layers=2, num_heads=5, mlp_dim=46)
CONFIGS = (
    Config(TOWER, gemma1(num_kv_heads=1, **SIZES), image_token=640),
    Config(TOWER, gemma2(window=8, query_scale=24**-0.5, num_kv_heads=2, **SIZES), image_token=640),
)
each = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.family)

PUBLISHED_1 = {
    "architectures": ["PaliGemmaForConditionalGeneration"],
    "bos_token_id": 2,
    "eos_token_id": 1,
    "hidden_size": 2048,
    "ignore_index": -100,
    "image_token_index": 257152,
    "model_type": "paligemma",
    "pad_token_id": 0,
    "projection_dim": 2048,
    "text_config": {
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "model_type": "gemma",
        "num_attention_heads": 8,
        "num_hidden_layers": 18,
        "num_image_tokens": 256,
        "num_key_value_heads": 1,
        "torch_dtype": "float32",
        "vocab_size": 257216,
    },
    "torch_dtype": "float32",
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "num_image_tokens": 256,
        "patch_size": 14,
        "projection_dim": 2048,
        "projector_hidden_act": "gelu_fast",
        "vision_use_head": False,
    },
}
PUBLISHED_2 = PUBLISHED_1 | {
    "hidden_size": 2304,
    "projection_dim": 2304,
    "text_config": {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "model_type": "gemma2",
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 257216,
    },
    "vision_config": {**PUBLISHED_1["vision_config"], "image_size": 448},
}


def read(tmp_path: Path, values: Any) -> Config:
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = read_config(tmp_path)
    assert isinstance(config, Config)
    return config


@pytest.mark.parametrize(("values", "preset"), [(PUBLISHED_1, "paligemma-3b-224"), (PUBLISHED_2, "paligemma2-3b-448")])
def test_published_files_are_the_presets(tmp_path: Path, values: Any, preset: str) -> None:
    assert read(tmp_path, values) == PRESETS[preset]


@pytest.mark.parametrize("config", [*PRESETS.values(), *CONFIGS])
def test_every_config_reads_back_as_it_was_written(tmp_path: Path, config: Config) -> None:
    assert read(tmp_path, config_json(config, "bfloat16", TokenIds(0, 2, (1,)))) == config


@pytest.mark.parametrize(
    ("part", "change", "named"),
    [
        ("text_config", {"model_type": "llama"}, "text_config: model_type: expected gemma or gemma2, found 'llama'"),
        ("text_config", {"hidden_size": 0}, "text_config: hidden_size"),
        ("text_config", {"use_bidirectional_attention": False}, "picture and prompt see all of each other"),
        ("vision_config", {"model_type": "clip_vision_model"}, "vision_config: model_type: .*SigLIP"),
        ("vision_config", {"hidden_act": "gelu"}, "vision_config: hidden_act"),
        ("vision_config", {"num_channels": 1}, "three colours"),
        ("vision_config", {"patch_size": 15}, "image_size 224 is no multiple of patch_size 15"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_the_key(tmp_path: Path, part: str, change: Any, named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        read(tmp_path, PUBLISHED_1 | {part: {**PUBLISHED_1[part], **change}})


@pytest.mark.parametrize("key", ["text_config", "vision_config"])
def test_a_file_without_one_half_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(CheckpointError, match=f"{key}: expected an object, found None"):
        read(tmp_path, {name: value for name, value in PUBLISHED_1.items() if name != key})


# ----------------------------------------------------------------------------------------- tensors


@each
def test_a_folder_reads_back_as_it_was_written(tmp_path: Path, config: Config) -> None:
    weights = sharp_weights(config)
    save_checkpoint(tmp_path / "model", config, weights, shard_bytes=40_000)
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.config == config
    assert_same(loaded.weights, weights)


def renamed(tmp_path: Path, rename: Any) -> Path:
    """A folder of the Gemma 2 kind with other names; `rename` gives a tensor's, or None to leave it out."""
    save_checkpoint(tmp_path / "model", CONFIGS[1], sharp_weights(CONFIGS[1]))
    path = tmp_path / "model" / "model.safetensors"
    tensors = {rename(name): tensor for name, tensor in load_file(path).items() if rename(name)}
    save_file(tensors, path)
    return tmp_path / "model"


def _first_files(name: str) -> str:
    return name.replace("vision_tower.", "vision_tower.vision_model.")


def _in_memory(name: str) -> str:
    return "model." + name.replace("language_model.model.", "language_model.")


@pytest.mark.parametrize("rename", [_first_files, _in_memory])
def test_names_of_other_years_are_read(tmp_path: Path, rename: Any) -> None:
    assert_same(load_checkpoint(renamed(tmp_path, rename)).weights, sharp_weights(CONFIGS[1]))


@pytest.mark.parametrize("head", ["lm_head.weight", "language_model.lm_head.weight"])
def test_a_head_that_repeats_the_embedding_is_left_out(tmp_path: Path, head: str) -> None:
    folder = renamed(tmp_path, _first_files)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {**tensors, head: tensors["language_model.model.embed_tokens.weight"].copy()}, folder / "model.safetensors"
    )
    assert_same(load_checkpoint(folder).weights, sharp_weights(CONFIGS[1]))


def test_rows_that_pad_the_vocabulary_are_left_out(tmp_path: Path) -> None:
    config = Config(TOWER, gemma1(num_kv_heads=1, **{**SIZES, "vocab_size": 257_152, "embed_dim": 8}))
    weights = sharp_weights(config)
    save_checkpoint(tmp_path / "model", config, weights)
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    name = "language_model.model.embed_tokens.weight"
    tensors[name] = np.concatenate([tensors[name], np.full((64, 8), 9, np.float32)])
    save_file(tensors, path)
    values = json.loads((tmp_path / "model" / "config.json").read_text())
    values["text_config"]["vocab_size"] = 257_216
    (tmp_path / "model" / "config.json").write_text(json.dumps(values))
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.config == config
    assert_same(loaded.weights, weights)


@pytest.mark.parametrize("name", ["vision_tower.post_layernorm.bias", "multi_modal_projector.linear.weight"])
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    folder = renamed(tmp_path, lambda each: None if each == name else each)
    with pytest.raises(CheckpointError, match=f"tensor {re.escape(name)}: expected one of shape .*, found none"):
        load_checkpoint(folder)


def test_a_tensor_of_another_size_is_named(tmp_path: Path) -> None:
    folder = renamed(tmp_path, lambda name: name)
    tensors = load_file(folder / "model.safetensors")
    name = "vision_tower.embeddings.position_embedding.weight"
    save_file({**tensors, name: np.ones((16, 30), np.float32)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)}: expected shape \(9, 30\), found \(16, 30\)"):
        load_checkpoint(folder)


def test_the_settings_of_its_pictures_go_along(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{}")
    save_checkpoint(tmp_path / "model", CONFIGS[0], sharp_weights(CONFIGS[0]), source=tmp_path)
    assert (tmp_path / "model" / "preprocessor_config.json").read_text() == "{}"


def test_a_piece_that_stands_for_a_picture_needs_no_row(tmp_path: Path, tokenizer: Tokenizer) -> None:
    class WithImage(Tokenizer):
        """As transformers' file has it: one piece after the last row."""

        def has(self, piece: str) -> bool:
            return piece == "<image>" or super().has(piece)

    config = Config(TOWER, gemma1(num_kv_heads=1, **{**SIZES, "vocab_size": tokenizer.vocab_size - 1}))
    with pytest.raises(CheckpointError, match="expected the vocabulary"):
        check_vocabulary(tmp_path, config, tokenizer)
    check_vocabulary(tmp_path, config, WithImage(tokenizer._backend, tokenizer.to_bytes(), "tokenizer.model"))


# ----------------------------------------------------------------------------------------- parity


@partial(jax.jit, static_argnames="config")
def _logits(weights: PaliGemma, pixels: jax.Array, tokens: jax.Array, config: Config) -> jax.Array:
    hidden, _ = weights.read(pixels, tokens, config, prompts=jnp.array([5]))
    return weights.logits(hidden, config)


PIXELS = np.random.default_rng(0).uniform(-1, 1, (1, 21, 21, 3)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(0, 600, (1, 12))


def ours(weights: Any, config: Config) -> np.ndarray:
    return np.asarray(_logits(weights, jnp.asarray(PIXELS), jnp.asarray(TOKENS), config))


def theirs(model: Any, patches: int) -> np.ndarray:
    import torch

    ids = torch.tensor([[model.config.image_token_id] * patches + TOKENS[0].tolist()])
    types = torch.tensor([[0] * (patches + 5) + [1] * (TOKENS.shape[1] - 5)])
    pixels = torch.tensor(PIXELS.transpose(0, 3, 1, 2))
    with torch.no_grad():
        return model(ids, pixel_values=pixels, token_type_ids=types).logits.numpy()[:, patches:]


@each
@pytest.mark.parity
@pytest.mark.filterwarnings("default")  # torch and transformers warn of themselves
def test_folders_pass_to_transformers_and_back_with_equal_logits(tmp_path: Path, config: Config) -> None:
    transformers = pytest.importorskip("transformers")
    weights = sharp_weights(config)
    save_checkpoint(tmp_path / "ours", config, weights)
    kind = transformers.PaliGemmaForConditionalGeneration
    model, notes = kind.from_pretrained(tmp_path / "ours", output_loading_info=True, attn_implementation="eager")
    assert not any(notes.values()), notes
    expected = theirs(model, config.vision.patches)
    assert np.abs(ours(weights, config) - expected).max() < LOGITS
    model.save_pretrained(tmp_path / "theirs", max_shard_size="50KB")
    loaded = load_checkpoint(tmp_path / "theirs")
    assert loaded.config == config
    assert_same(loaded.weights, weights)
    assert np.abs(ours(loaded.weights, config) - expected).max() < LOGITS
