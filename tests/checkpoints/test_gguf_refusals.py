"""What is wrong with a GGUF file, or cannot be written as one, is one line; nothing half written stays."""

import sys
from dataclasses import replace
from pathlib import Path

import gguf
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.gguf_reader import match_gguf, open_gguf
from gemwright.checkpoints.gguf_tokenizer import read_tokenizer, tokenizer_metadata
from gemwright.checkpoints.gguf_writer import save_gguf
from gemwright.checkpoints.load import load_checkpoint
from gemwright.core.module import abstract
from gemwright.models.gemma import Gemma
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import sharp_weights
from tests.checkpoints.gguf_files import GGUF_CONFIGS, K_TYPES, model_of, refused, rewrite

# --------------------------------------------------------------------------------------- reading


def test_a_missing_tensor_is_named(file: Path) -> None:
    rewrite(file, lambda _, tensors: tensors.pop("blk.1.ffn_up.weight"))
    assert f"{file}: tensor blk.1.ffn_up.weight: expected one of shape (48, 32), found none" in refused(file)


def test_a_surplus_tensor_is_named(file: Path) -> None:
    surplus = {"blk.0.attn_q_norm.weight": (np.ones(16, np.float32), K_TYPES.F32)}
    rewrite(file, lambda _, tensors: tensors.update(surplus))
    assert f"{file}: tensor blk.0.attn_q_norm.weight: expected no tensor of this name" in refused(file)


def test_a_wrong_shape_is_named(file: Path) -> None:
    name = "blk.2.ffn_gate.weight"
    rewrite(file, lambda _, tensors: tensors.update({name: (tensors[name][0].T.copy(), K_TYPES.F16)}))
    assert f"{file}: tensor {name}: expected shape (48, 32), found (32, 48)" in refused(file)


def test_a_type_that_is_not_read_is_named(file: Path) -> None:
    name = "blk.2.ffn_gate.weight"
    blocks = gguf.quantize(np.ones((48, 32), np.float32), K_TYPES.Q5_1)
    rewrite(file, lambda _, tensors: tensors.update({name: (blocks, K_TYPES.Q5_1)}))
    message = refused(file)
    assert f"{file}: tensor {name}: expected one of the types F32" in message
    assert "found Q5_1" in message


@pytest.mark.parametrize("architecture", ["llama", "gemma3n"])
def test_another_architecture_is_named(file: Path, architecture: str) -> None:
    rewrite(file, lambda values, _: values.update({"general.architecture": architecture}))
    assert f"{file}: general.architecture: expected gemma or gemma2 or gemma3, found '{architecture}'" in refused(file)


@pytest.mark.parametrize("kept", [0, 7, 100, 5000, -1000])
def test_a_truncated_file_is_named(file: Path, kept: int) -> None:
    data = file.read_bytes()[:kept]
    file.write_bytes(data)
    message = refused(file)
    assert str(file) in message
    assert "truncated" in message
    assert f"{len(data):,}" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [("gemma2.block_count", 0), ("gemma2.attention.value_length", 8), ("split.count", 3)],
)
def test_metadata_that_cannot_be_computed_are_named(file: Path, key: str, value: int) -> None:
    rewrite(file, lambda values, _: values.update({key: value}))
    message = refused(file)
    assert str(file) in message
    assert key in message or "part" in message


@pytest.mark.parametrize(
    "key", ["general.architecture", "tokenizer.ggml.model", "gemma2.rope.scaling.type", "gemma2.block_count"]
)
def test_a_list_where_one_value_is_expected_is_named(file: Path, key: str) -> None:
    opened = open_gguf(file)
    changed = replace(opened, metadata={**opened.metadata, key: np.array([1, 2])})
    read = read_tokenizer if key.startswith("tokenizer") else match_gguf
    with pytest.raises(CheckpointError, match=f"{file}: {key}: expected"):
        read(changed)


# --------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise failure

    config = GGUF_CONFIGS["gemma"]
    with pytest.raises(failure):
        save_gguf(tmp_path / "model.gguf", config, sharp_weights(config), progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [1e6, np.nan, np.inf])
def test_a_number_that_the_type_cannot_hold_is_named(tmp_path: Path, value: float) -> None:
    config = GGUF_CONFIGS["gemma"]
    weights = sharp_weights(config)
    weights = replace(weights, embedding=weights.embedding.at[3, 4].set(value))
    with pytest.raises(CheckpointError, match=r"token_embd\.weight: expected numbers up to"):
        save_gguf(tmp_path / "model.gguf", config, weights)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_if_asked(file: Path) -> None:
    config, before = GGUF_CONFIGS["gemma"], file.read_bytes()
    with pytest.raises(CheckpointError, match="is there already"):
        save_gguf(file, config, sharp_weights(config))
    assert file.read_bytes() == before
    save_gguf(file, config, sharp_weights(config), overwrite=True)
    assert load_checkpoint(file).config == config


def test_a_kind_that_is_not_written_is_refused(tmp_path: Path) -> None:
    config = GGUF_CONFIGS["gemma"]
    with pytest.raises(CheckpointError, match="expected one of f16, q8_0, q4_0"):
        save_gguf(tmp_path / "model.gguf", config, sharp_weights(config), kind="q4_k")


def test_only_blocks_need_the_library(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = GGUF_CONFIGS["gemma"]
    save_gguf(tmp_path / "blocks.gguf", config, sharp_weights(config), kind="q8_0")
    monkeypatch.setitem(sys.modules, "gguf", None)
    wanted = "quantised and new GGUF files need the gguf library: pip install 'gemwright[gguf]'"
    assert refused(tmp_path / "blocks.gguf") == wanted
    with pytest.raises(CheckpointError) as caught:
        save_gguf(tmp_path / "new.gguf", config, sharp_weights(config))
    assert str(caught.value) == wanted
    assert load_checkpoint(file).config == GGUF_CONFIGS["gemma2"]


# ------------------------------------------------------------------------------------- tokenizer


def test_another_kind_of_tokenizer_is_refused(file: Path) -> None:
    rewrite(file, lambda values, _: values.update({"tokenizer.ggml.model": "gpt2"}))
    assert f"{file}: tokenizer.ggml.model: expected llama" in refused(file)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config, path = GGUF_CONFIGS["gemma"], tmp_path / "model.gguf"
    save_gguf(path, config, sharp_weights(config), tokenizer)
    rewrite(path, lambda values, _: values["tokenizer.ggml.scores"].pop())
    assert "found 640, 639, 640" in refused(path)
    assert read_tokenizer(replace(open_gguf(path), metadata={})) is None


def test_a_tokenizer_of_another_vocabulary_is_not_written(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = replace(GGUF_CONFIGS["gemma"], vocab_size=900)
    with pytest.raises(CheckpointError, match="900 pieces"):
        save_gguf(tmp_path / "model.gguf", config, abstract(Gemma.specs(config), jnp.float32), tokenizer)


@pytest.mark.parametrize("setting", ["remove_extra_whitespaces", "model_type"])
def test_a_tokenizer_that_llama_cpp_would_not_compute_is_not_written(tokenizer: Tokenizer, setting: str) -> None:
    proto = model_of(tokenizer)
    if setting == "remove_extra_whitespaces":
        proto.normalizer_spec.remove_extra_whitespaces = True
    else:
        proto.trainer_spec.model_type = proto.trainer_spec.UNIGRAM
    with pytest.raises(CheckpointError, match=setting):
        tokenizer_metadata(Tokenizer.from_bytes(proto.SerializeToString()), 600)
