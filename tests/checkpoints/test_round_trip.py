"""What is written is what is read."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import named_leaves
from gemwright.models.gemma import Config
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import CONFIGS, assert_same, sharp_weights


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_round_trip_changes_no_bit(tmp_path: Path, config: Config, dtype: Any) -> None:
    weights = sharp_weights(config, dtype)
    save_checkpoint(tmp_path / "model", config, weights)
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.config == config
    assert_same(loaded.weights, weights)


def test_a_model_in_shards_is_the_same_model(tmp_path: Path, config: Config) -> None:
    weights = sharp_weights(config)
    save_checkpoint(tmp_path / "model", config, weights, shard_bytes=40_000)
    shards = sorted(tmp_path.glob("model/*.safetensors"))
    assert len(shards) > 2
    assert shards[0].name == f"model-00001-of-{len(shards):05}.safetensors"
    assert_same(load_checkpoint(tmp_path / "model").weights, weights)


def test_weights_come_in_the_type_asked_for(folder: Path) -> None:
    stored, wide = load_checkpoint(folder).weights, load_checkpoint(folder, dtype="float32").weights
    assert {array.dtype for array in named_leaves(wide).values()} == {jnp.dtype(jnp.float32)}
    np.testing.assert_array_equal(np.asarray(wide.embedding), np.asarray(stored.embedding).astype(np.float32))


def test_float32_is_rounded_to_the_nearest_bfloat16(tmp_path: Path, config: Config) -> None:
    weights = sharp_weights(config)
    save_checkpoint(tmp_path / "model", config, weights)
    narrow = load_checkpoint(tmp_path / "model", dtype=jnp.bfloat16).weights
    np.testing.assert_array_equal(np.asarray(narrow.embedding), np.asarray(weights.embedding.astype(jnp.bfloat16)))


@pytest.mark.parametrize("dtype", ["float16", "int8", "float64", "nonsense"])
def test_a_type_that_cannot_be_computed_in_is_refused(folder: Path, dtype: str) -> None:
    with pytest.raises(CheckpointError, match=r"float32"):
        load_checkpoint(folder, dtype=dtype)


def test_a_folder_without_a_tokenizer_loads(folder: Path) -> None:
    assert load_checkpoint(folder).tokenizer is None


def test_the_tokenizer_travels_with_the_model(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = CONFIGS["gemma"]
    save_checkpoint(tmp_path / "model", config, sharp_weights(config), tokenizer)
    loaded = load_checkpoint(tmp_path / "model").tokenizer
    assert loaded is not None
    assert loaded.fingerprint == tokenizer.fingerprint


def test_an_answer_ends_at_the_end_of_a_turn_too(folder: Path) -> None:
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [1, 107]


def test_settings_and_templates_of_the_source_are_kept(folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "generation_config.json").write_text('{"temperature": 0.7, "eos_token_id": 1}')
    loaded = load_checkpoint(folder)
    save_checkpoint(tmp_path / "copy", loaded.config, loaded.weights, source=folder)
    assert (tmp_path / "copy" / "chat_template.jinja").read_text() == "{{ messages }}"
    generation = json.loads((tmp_path / "copy" / "generation_config.json").read_text())
    assert (generation["temperature"], generation["eos_token_id"]) == (0.7, [1, 107])


def test_progress_ends_at_the_whole(folder: Path, tmp_path: Path) -> None:
    read: list[tuple[int, int]] = []
    written: list[tuple[int, int]] = []
    loaded = load_checkpoint(folder, progress=lambda done, total: read.append((done, total)))
    save_checkpoint(
        tmp_path / "copy", loaded.config, loaded.weights, progress=lambda done, total: written.append((done, total))
    )
    for steps in (read, written):
        assert len(steps) == len(named_leaves(loaded.weights))
        assert steps[-1][0] == steps[-1][1] == sum(array.size for array in named_leaves(loaded.weights).values())
        assert steps == sorted(steps)
