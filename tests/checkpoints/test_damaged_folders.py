"""Each thing that can be wrong with a folder is one line that says where, what was expected and what found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.save import save_checkpoint
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import CONFIGS, sharp_weights


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    """Rewrite a folder's tensors by the library itself."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    path.unlink()
    save_file(tensors, path, metadata={"format": "pt"})


# ---------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kept", [0, 7, 100, 5000, -1])
def test_a_truncated_file_is_named(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:kept])
    message = refused(folder)
    assert str(path) in message
    assert "truncated" in message
    assert f"{len(data[:kept]):,}" in message


def test_bytes_after_the_last_tensor_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data + b"\0")
    assert f"expected {len(data):,} bytes, found {len(data) + 1:,}" in refused(folder)


@pytest.mark.parametrize(
    "field",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]},
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": "F32", "shape": [1]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        [],
    ],
)
def test_a_header_that_lies_is_refused(folder: Path, field: Any) -> None:
    header = json.dumps({"model.norm.weight": field}).encode()
    path = folder / "model.safetensors"
    path.unlink()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert str(path) in refused(folder)


@pytest.mark.parametrize("header", [b"\xff\xfe", b"[1]", b"{" * 5000, b"null", b""])
def test_a_header_that_is_no_json_object_is_refused(folder: Path, header: bytes) -> None:
    path = folder / "model.safetensors"
    path.unlink()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert str(path) in refused(folder)


def test_overlapping_tensors_are_refused(folder: Path) -> None:
    field = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"a": field, "b": field}).encode()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert "expected at byte" in refused(folder)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}: expected the folder of a model, found no config.json" in refused(tmp_path)


def test_a_folder_without_weights_says_what_it_wants(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "expected model.safetensors or model.safetensors.index.json" in refused(folder)


def test_a_pickle_is_never_opened(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refused(folder)
    assert "pytorch_model.bin" in message
    assert "never read" in message


# --------------------------------------------------------------------------------------- shards


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "shards", CONFIGS["gemma2"], sharp_weights(CONFIGS["gemma2"]), shard_bytes=60_000)
    return tmp_path / "shards"


def reindex(folder: Path, change: Callable[[dict[str, str]], Any]) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


def test_a_missing_shard_is_named(shards: Path) -> None:
    lost = sorted(shards.glob("model-*"))[1]
    lost.unlink()
    assert str(lost) in refused(shards)


def test_a_tensor_that_is_not_where_the_index_says_is_named(shards: Path) -> None:
    last = sorted(shards.glob("model-*"))[-1]
    reindex(shards, lambda files: files.update({"model.embed_tokens.weight": last.name}))
    assert f"{last}: tensor model.embed_tokens.weight: expected here" in refused(shards)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "weights.bin", "sub/a.safetensors"])
def test_an_index_cannot_lead_out_of_its_folder_or_to_a_pickle(shards: Path, name: str) -> None:
    reindex(shards, lambda files: files.update({"model.norm.weight": name}))
    assert repr(name) in refused(shards)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_an_index_of_another_form_is_refused(shards: Path, text: str) -> None:
    (shards / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json" in refused(shards)


# -------------------------------------------------------------------------------------- tensors


def test_a_missing_tensor_is_named(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    assert "tensor model.layers.1.mlp.up_proj.weight: expected one of shape (48, 32), found none" in refused(folder)


def test_a_surplus_tensor_is_named(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"model.layers.0.self_attn.q_norm.weight": np.ones(16, np.float32)}))
    message = refused(folder)
    assert (
        "model.layers.0.self_attn.q_norm.weight: expected no tensor of this name, found one of shape (16,)" in message
    )


def test_a_wrong_shape_is_named_with_its_file(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"model.norm.weight": np.ones(31, np.float32)}))
    message = f"{folder}/model.safetensors: tensor model.norm.weight: expected shape (32,), found (31,)"
    assert message in refused(folder)


def test_a_transposed_matrix_is_a_wrong_shape(folder: Path) -> None:
    name = "model.layers.0.mlp.gate_proj.weight"
    edit(folder, lambda tensors: tensors.update({name: np.ascontiguousarray(tensors[name].T)}))
    assert "expected shape (48, 32), found (32, 48)" in refused(folder)


def test_many_mismatches_are_counted_not_listed(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"hidden_size": 64}))
    message = refused(folder)
    assert message.count("expected shape") == 3
    assert message.endswith("more")


def test_an_embedding_of_another_vocabulary_is_a_wrong_shape(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"model.embed_tokens.weight": np.ones((700, 32), np.float32)}))
    assert "model.embed_tokens.weight: expected shape (640, 32), found (700, 32)" in refused(folder)


def test_integers_are_no_weights(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"model.norm.weight": np.ones(32, np.int8)}))
    assert "tensor model.norm.weight: expected floating-point numbers, found int8" in refused(folder)


def test_a_tokenizer_of_another_vocabulary_is_refused(folder: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"vocab_size": 900}))
    edit(folder, lambda tensors: tensors.update({"model.embed_tokens.weight": np.ones((900, 32), np.float32)}))
    message = refused(folder)
    assert "900 pieces" in message
    assert "found 600" in message


def test_a_damaged_tokenizer_is_named(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"tokenizer\.model"):
        load_checkpoint(folder)


# ------------------------------------------------------------------------------ accepted oddities


def test_a_repeated_head_and_computed_angles_are_left_out(folder: Path) -> None:
    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)

    edit(folder, add)
    load_checkpoint(folder)


def test_a_head_of_its_own_shape_is_refused(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"lm_head.weight": np.ones((641, 32), np.float32)}))
    assert "lm_head.weight" in refused(folder)


def test_float16_is_widened_since_gemma_overflows_it(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({n: t.astype(np.float16) for n, t in tensors.items()}))
    assert load_checkpoint(folder).weights.embedding.dtype == np.float32


def test_padding_rows_of_the_official_files_are_trimmed_and_not_written_back(folder: Path, tmp_path: Path) -> None:
    rows = np.arange(256_128 * 2, dtype=np.float32).reshape(256_128, 2)
    values = json.loads((folder / "config.json").read_text())
    sizes = {"vocab_size": 256_128, "hidden_size": 2}
    (folder / "config.json").write_text(json.dumps(values | sizes))

    def narrow(tensors: dict[str, np.ndarray]) -> None:
        for name, tensor in tensors.items():
            kept = tensor[:2] if name.endswith(("o_proj.weight", "down_proj.weight", "norm.weight")) else tensor[:, :2]
            tensors[name] = np.ascontiguousarray(kept)
        tensors["model.embed_tokens.weight"] = rows

    edit(folder, narrow)
    loaded = load_checkpoint(folder)
    assert loaded.config.vocab_size == 256_000
    np.testing.assert_array_equal(np.asarray(loaded.weights.embedding), rows[:256_000])
    save_checkpoint(tmp_path / "copy", loaded.config, load_checkpoint(folder, dtype="float32").weights)
    assert load_file(tmp_path / "copy" / "model.safetensors")["model.embed_tokens.weight"].shape == (256_000, 2)
