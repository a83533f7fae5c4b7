"""Gemma 3 with its tower in files: published constants, names of all ages, folders that pass to transformers."""

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
from gemwright.model import load
from gemwright.models.gemma3_vision import PRESETS, Config, Gemma3Vision
from gemwright.models.siglip import Config as Tower
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import GEMMA3, assert_same, logits, sharp_weights
from tests.tolerances import LOGITS, SAME

TOWER = Tower(image_size=24, patch_size=4, embed_dim=30, num_layers=2, num_heads=5, mlp_dim=46)
CONFIG = Config(TOWER, GEMMA3, picture_tokens=9)
IDS = TokenIds(0, 2, (1, 106))

PUBLISHED_4B: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "vision_use_head": False,
    },
}


def read(tmp_path: Path, values: Any) -> Config:
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = read_config(tmp_path)
    assert isinstance(config, Config)
    return config


def test_the_published_file_is_the_preset(tmp_path: Path) -> None:
    assert read(tmp_path, PUBLISHED_4B) == PRESETS["gemma3-4b"]
    padded = PUBLISHED_4B | {"text_config": {**PUBLISHED_4B["text_config"], "vocab_size": 262_208}}
    assert read(tmp_path, padded) == PRESETS["gemma3-4b"]


@pytest.mark.parametrize("config", [*PRESETS.values(), CONFIG])
def test_every_config_reads_back_as_it_was_written(tmp_path: Path, config: Config) -> None:
    assert read(tmp_path, config_json(config, "bfloat16", IDS)) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"text_config": {"model_type": "gemma2"}}, "text_config: model_type: expected gemma3_text, found 'gemma2'"),
        ({"text_config": {"hidden_size": 0}}, "text_config: hidden_size"),
        ({"text_config": {"final_logit_softcapping": 30.0}}, "text_config: final_logit_softcapping"),
        ({"vision_config": {"model_type": "clip_vision_model"}}, "vision_config: model_type: .*SigLIP"),
        ({"mm_tokens_per_image": 200}, "picture_tokens 200: expected a square number whose side divides the 64"),
        ({"mm_tokens_per_image": 81}, "picture_tokens 81"),
        ({"mm_tokens_per_image": 0}, "mm_tokens_per_image"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_the_key(tmp_path: Path, change: Any, named: str) -> None:
    changed = {
        key: {**PUBLISHED_4B[key], **value} if isinstance(value, dict) else value for key, value in change.items()
    }
    with pytest.raises(CheckpointError, match=named):
        read(tmp_path, PUBLISHED_4B | changed)


@pytest.mark.parametrize("key", ["text_config", "vision_config"])
def test_a_file_without_one_half_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(CheckpointError, match=f"{key}: expected an object, found None"):
        read(tmp_path, {name: value for name, value in PUBLISHED_4B.items() if name != key})


# ----------------------------------------------------------------------------------------- tensors


@pytest.fixture(scope="module")
def weights() -> Any:
    return sharp_weights(CONFIG)


def saved(tmp_path: Path, weights: Any, rename: Any = str) -> Path:
    """A folder; `rename` gives a tensor's name, or None to leave it out."""
    save_checkpoint(tmp_path / "model", CONFIG, weights)
    path = tmp_path / "model" / "model.safetensors"
    save_file({rename(name): tensor for name, tensor in load_file(path).items() if rename(name)}, path)
    return tmp_path / "model"


def _of_2025(name: str) -> str:
    return name.replace("vision_tower.", "vision_tower.vision_model.")


def _in_memory(name: str) -> str:
    return "model." + _of_2025(name).replace("language_model.model.", "language_model.")


@pytest.mark.parametrize("rename", [str, _of_2025, _in_memory])
def test_tower_and_decoder_are_read_by_the_names_of_all_years(tmp_path: Path, weights: Any, rename: Any) -> None:
    loaded = load_checkpoint(saved(tmp_path, weights, rename))
    assert loaded.config == CONFIG
    assert_same(loaded.weights, weights)


@pytest.mark.parametrize(
    "name", ["multi_modal_projector.mm_input_projection_weight", "vision_tower.post_layernorm.bias"]
)
def test_a_missing_tensor_is_named(tmp_path: Path, weights: Any, name: str) -> None:
    folder = saved(tmp_path, weights, lambda each: None if each == name else each)
    with pytest.raises(CheckpointError, match=f"tensor {re.escape(name)}: expected one of shape .*, found none"):
        load_checkpoint(folder)


def test_its_text_is_read_as_that_of_the_decoder_alone(tmp_path: Path, weights: Any) -> None:
    model, tokens = load(saved(tmp_path, weights)), np.array([[2, 5, 9, 300]])
    alone = logits(weights.decoder, GEMMA3, tokens)
    np.testing.assert_allclose(np.asarray(model.logits(tokens)), alone, rtol=0, atol=SAME)
    assert model._default_stop_ids() == {1, 106}


@pytest.mark.parametrize("piece", ["<image>", "<image_soft_token>"])
def test_a_piece_that_stands_for_a_picture_needs_no_row(tmp_path: Path, tokenizer: Tokenizer, piece: str) -> None:
    class WithPicture(Tokenizer):
        """As transformers' file has it: one piece after the last row."""

        def has(self, other: str) -> bool:
            return other == piece or super().has(other)

    config = Config(TOWER, GEMMA3.__class__(**{**vars(GEMMA3), "vocab_size": tokenizer.vocab_size - 1}), 9)
    with pytest.raises(CheckpointError, match="expected the vocabulary"):
        check_vocabulary(tmp_path, config, tokenizer)
    check_vocabulary(tmp_path, config, WithPicture(tokenizer._backend, tokenizer.to_bytes(), "tokenizer.model"))


# ----------------------------------------------------------------------------------------- parity

PLACES = np.array([[-1, -1, *range(9), -1, -1, *range(9, 18), -1, -1, -1]], np.int32)
PIXELS = np.random.default_rng(0).uniform(-1, 1, (2, 24, 24, 3)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(0, 600, PLACES.shape)


@partial(jax.jit, static_argnames="config")
def _logits(weights: Gemma3Vision, pixels: jax.Array, tokens: jax.Array, config: Config) -> jax.Array:
    hidden, _ = weights.read(tokens, weights.look(pixels, config), jnp.asarray(PLACES), config)
    return weights.logits(hidden, config)


def ours(weights: Any) -> np.ndarray:
    return np.asarray(_logits(weights, jnp.asarray(PIXELS), jnp.asarray(TOKENS), CONFIG))


def theirs(model: Any) -> np.ndarray:
    import torch

    soft = torch.tensor(PLACES >= 0)
    ids = torch.where(soft, model.config.image_token_id, torch.tensor(TOKENS))
    with torch.no_grad():
        pixels = torch.tensor(PIXELS.transpose(0, 3, 1, 2))
        return model(ids, pixel_values=pixels, token_type_ids=soft.long()).logits.numpy()


@pytest.mark.parity
@pytest.mark.filterwarnings("default")  # torch and transformers warn of themselves
def test_folders_pass_to_transformers_and_back_with_equal_logits(tmp_path: Path, weights: Any) -> None:
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path / "ours", CONFIG, weights)
    kind = transformers.Gemma3ForConditionalGeneration
    model, notes = kind.from_pretrained(tmp_path / "ours", output_loading_info=True, attn_implementation="eager")
    assert not any(notes.values()), notes
    expected = theirs(model)
    assert np.abs(ours(weights) - expected).max() < LOGITS
    model.save_pretrained(tmp_path / "theirs", max_shard_size="50KB")
    loaded = load_checkpoint(tmp_path / "theirs")
    assert loaded.config == CONFIG
    assert_same(loaded.weights, weights)
