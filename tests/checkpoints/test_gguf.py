"""GGUF files of llama.cpp: what is written is read back, and what its library says is what we read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import jax.numpy as jnp
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.gguf_config import config_of, metadata_of
from gemwright.checkpoints.gguf_reader import open_gguf
from gemwright.checkpoints.gguf_tokenizer import tokenizer_metadata
from gemwright.checkpoints.gguf_writer import save_gguf
from gemwright.checkpoints.hub import resolve
from gemwright.checkpoints.load import load_checkpoint
from gemwright.cli.convert import convert
from gemwright.core.module import abstract, named_leaves
from gemwright.models import gemma3, griffin
from gemwright.models.family import Config, specs_of
from gemwright.models.gemma import PRESETS, Gemma, gemma1
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import assert_same, logits, sharp_weights
from tests.checkpoints.gguf_files import GGUF_CONFIGS, K_TYPES, Tensors, model_of, refused, rewrite

TOKENS = np.arange(24).reshape(2, 12) * 7 % 640


@pytest.fixture(params=["gemma", "gemma2", "gemma3"])
def config(request: pytest.FixtureRequest) -> Config:
    return GGUF_CONFIGS[request.param]


# ----------------------------------------------------------------------------------- round trips


def test_f16_computes_nearly_the_same(tmp_path: Path, config: Config) -> None:
    weights = sharp_weights(config)
    save_gguf(tmp_path / "model.gguf", config, weights, kind="f16")
    loaded = load_checkpoint(tmp_path / "model.gguf")
    assert loaded.config == config
    assert loaded.tokenizer is None
    ours, theirs = logits(weights, config, TOKENS), logits(loaded.weights, config, TOKENS)
    np.testing.assert_allclose(theirs, ours, atol=0.01 * np.abs(ours).max())
    assert {array.dtype for array in named_leaves(loaded.weights).values()} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(("kind", "bits"), [("q8_0", 8), ("q4_0", 4)])
def test_blocks_are_what_the_library_says_and_near_the_weights(
    tmp_path: Path, config: Config, kind: str, bits: int
) -> None:
    weights = sharp_weights(config)
    save_gguf(tmp_path / "model.gguf", config, weights, kind=kind)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    loaded = load_checkpoint(tmp_path / "model.gguf").weights
    embedding = stored["token_embd.weight"]
    assert embedding.tensor_type.name == kind.upper()
    opened = gguf.dequantize(embedding.data, embedding.tensor_type)
    np.testing.assert_array_equal(np.asarray(loaded.embedding), opened)
    for name, array in named_leaves(weights).items():
        mine, theirs = np.asarray(array), np.asarray(named_leaves(loaded)[name])
        assert np.abs(mine - theirs).max() <= 1.01 * np.abs(mine).max() / 2 ** (bits - 1), name


def test_rows_that_are_no_whole_blocks_are_f16_and_norms_f32(tmp_path: Path) -> None:
    config = GGUF_CONFIGS["gemma2"]
    save_gguf(tmp_path / "model.gguf", config, sharp_weights(config), kind="q4_0")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16"  # rows of 48
    assert kinds["blk.0.ffn_up.weight"] == kinds["blk.0.attn_output.weight"] == "Q4_0"
    assert {kind for name, kind in kinds.items() if name.endswith("norm.weight")} == {"F32"}


def test_norms_are_stored_with_one_added(file: Path) -> None:
    weights = sharp_weights(GGUF_CONFIGS["gemma2"])
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}
    np.testing.assert_array_equal(stored["output_norm.weight"], 1 + np.asarray(weights.final_norm))
    np.testing.assert_array_equal(stored["blk.1.ffn_norm.weight"], 1 + np.asarray(weights.layers[1].mlp_norm))
    rewrite(file, lambda _, tensors: tensors["output_norm.weight"][0].__iadd__(1))
    moved = load_checkpoint(file).weights.final_norm
    np.testing.assert_allclose(np.asarray(moved), 1 + np.asarray(weights.final_norm), atol=1e-6)


def test_bfloat16_stays_and_float32_is_exact(file: Path) -> None:
    weights = sharp_weights(GGUF_CONFIGS["gemma2"])

    def store(_: Any, tensors: Tensors) -> None:
        wide, narrow = np.asarray(weights.embedding), np.asarray(weights.layers[0].mlp.up, jnp.bfloat16)
        tensors["token_embd.weight"] = (wide, K_TYPES.F32)
        tensors["blk.0.ffn_up.weight"] = (narrow.view(np.uint8), K_TYPES.BF16)

    rewrite(file, store)
    loaded = load_checkpoint(file).weights
    np.testing.assert_array_equal(np.asarray(loaded.embedding), np.asarray(weights.embedding))
    assert loaded.layers[0].mlp.up.dtype == jnp.bfloat16
    np.testing.assert_array_equal(loaded.layers[0].mlp.up, weights.layers[0].mlp.up.astype(jnp.bfloat16))


@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K"])
def test_k_blocks_are_what_the_library_says(tmp_path: Path, kind: str) -> None:
    config = gemma1(vocab_size=40, embed_dim=256, num_layers=1, num_heads=4, num_kv_heads=1, head_dim=64, mlp_dim=256)
    path, stored = tmp_path / "model.gguf", K_TYPES[kind]
    save_gguf(path, config, sharp_weights(config), kind="f16")
    random = np.random.default_rng(0)

    def blocks(rows: int) -> np.ndarray[Any, Any]:
        size = gguf.GGML_QUANT_SIZES[stored][1]
        data = random.integers(0, 256, (rows, size), np.uint8)
        scales = slice(0, 4) if kind == "Q4_K" else slice(size - 2, size)
        data[:, scales] = (
            random.uniform(0.01, 0.1, (rows, (scales.stop - scales.start) // 2)).astype(np.float16).view(np.uint8)
        )
        return data

    names = ("token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_down.weight")
    data = {name: blocks(rows) for name, rows in zip(names, (40, 256, 256), strict=True)}
    rewrite(path, lambda _, tensors: tensors.update({name: (data[name], stored) for name in names}))
    loaded = load_checkpoint(path).weights
    mine = (loaded.embedding, loaded.layers[0].attention.query, loaded.layers[0].mlp.down)
    for name, array in zip(names, mine, strict=True):
        expected = gguf.dequantize(data[name], stored)
        assert np.isfinite(expected).all()
        np.testing.assert_array_equal(np.asarray(array).reshape(expected.shape), expected, err_msg=name)
    narrow = load_checkpoint(path, dtype="bfloat16").weights
    np.testing.assert_array_equal(narrow.embedding, loaded.embedding.astype(jnp.bfloat16))


def test_a_folder_with_one_file_is_that_file(file: Path) -> None:
    assert_same(load_checkpoint(file.parent).weights, load_checkpoint(file).weights)
    assert resolve(file) == file
    (file.parent / "other.gguf").write_bytes(b"")
    assert "found 2" in refused(file.parent)


# ------------------------------------------------------------------------------------- constants


def test_names_and_metadata_are_llama_cpps(file: Path) -> None:
    reader = gguf.GGUFReader(file)
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA2, 3)
    known = {name for _, name in table.mapping.values()}
    assert {tensor.name.removesuffix(".weight") for tensor in reader.tensors} <= known
    values = {key: field.contents() for key, field in reader.fields.items()}
    expected = {
        "general.architecture": "gemma2",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "gemma2.vocab_size": 640,
        "gemma2.context_length": 8192,
        "gemma2.embedding_length": 32,
        "gemma2.block_count": 3,
        "gemma2.feed_forward_length": 48,
        "gemma2.attention.head_count": 4,
        "gemma2.attention.head_count_kv": 2,
        "gemma2.attention.key_length": 16,
        "gemma2.attention.value_length": 16,
        "gemma2.attention.sliding_window": 8,
        "gemma2.attn_logit_softcapping": 50.0,
        "gemma2.final_logit_softcapping": 30.0,
        "tokenizer.ggml.model": "none",
    }
    assert {key: values[key] for key in expected} == expected
    assert values["gemma2.attention.layer_norm_rms_epsilon"] == np.float32(1e-6)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives(name: str) -> None:
    metadata = {"general.architecture": PRESETS[name].family, **metadata_of(PRESETS[name])}
    assert config_of(metadata, 256_000) == PRESETS[name]


def test_gemma_3_has_names_and_metadata_of_its_own(tmp_path: Path) -> None:
    save_gguf(tmp_path / "model.gguf", GGUF_CONFIGS["gemma3"], sharp_weights(GGUF_CONFIGS["gemma3"]), kind="f16")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    known = {name for _, name in gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, 7).mapping.values()}
    names = {tensor.name.removesuffix(".weight") for tensor in reader.tensors}
    assert names <= known
    assert {"blk.6.attn_q_norm", "blk.6.attn_k_norm", "blk.6.post_ffw_norm"} <= names
    values = {key: field.contents() for key, field in reader.fields.items()}
    expected = {
        "general.architecture": "gemma3",
        "gemma3.attention.sliding_window": 8,
        "gemma3.rope.freq_base": 1_000_000.0,
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
        "gemma3.context_length": 131_072,
    }
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize("name", gemma3.PRESETS)
def test_every_preset_of_gemma_3_survives(name: str) -> None:
    metadata = {"general.architecture": "gemma3", **metadata_of(gemma3.PRESETS[name])}
    assert config_of(metadata, 262_144) == gemma3.PRESETS[name]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope.freq_base_swa", 20_000.0),
        ("attention.sliding_window_pattern", 4),
        ("rope.scaling.type", "yarn"),
        ("final_logit_softcapping", 30.0),
    ],
)
def test_a_gemma_3_that_computes_something_else_is_refused(key: str, value: Any) -> None:
    metadata = {"general.architecture": "gemma3", **metadata_of(gemma3.PRESETS["gemma3-1b"]), f"gemma3.{key}": value}
    with pytest.raises(ValueError, match=key):
        config_of(metadata, 262_144)


@pytest.mark.parametrize(
    ("field", "value"),
    [("windows", (8, None)), ("local_rope_base", 20_000.0), ("query_scale", 0.3), ("windows", (None,))],
)
def test_a_gemma_3_that_llama_cpp_would_not_compute_is_not_written(field: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match="window" if field == "windows" else field):
        metadata_of(replace(GGUF_CONFIGS["gemma3"], **{field: value}))


def test_families_that_llama_cpp_does_not_know_are_refused(tmp_path: Path) -> None:
    config = griffin.PRESETS["recurrentgemma-2b"]
    with pytest.raises(CheckpointError, match=r"recurrent_gemma.*llama.cpp computes no model of this kind"):
        save_gguf(tmp_path / "model.gguf", config, abstract(specs_of(config), jnp.float32))


def test_llama_cpp_scales_27b_by_the_width_a_head_would_have() -> None:
    metadata = {"general.architecture": "gemma2", **metadata_of(PRESETS["gemma2-27b"])}
    assert config_of(metadata, 256_128).query_scale == 144**-0.5
    assert config_of(metadata | {"gemma2.block_count": 45}, 256_000).query_scale == 128**-0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query_scale", 0.3),
        ("windows", (None,)),
        ("windows", (None, 8)),
        ("attention_cap", None),
        ("post_norms", False),
    ],
)
def test_what_llama_cpp_would_not_compute_is_not_written(tmp_path: Path, field: str, value: Any) -> None:
    config = replace(GGUF_CONFIGS["gemma2"], **{field: value})
    with pytest.raises(CheckpointError, match=field):
        save_gguf(tmp_path / "model.gguf", config, abstract(Gemma.specs(config), jnp.float32))
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------- tokenizer


def test_control_pieces_are_control_whatever_their_file_says(tokenizer: Tokenizer) -> None:
    proto = model_of(tokenizer)
    proto.pieces[tokenizer.id("<start_of_turn>")].type = 4  # user-defined: llama.cpp would find it in text
    edited = Tokenizer.from_bytes(proto.SerializeToString())
    kinds = tokenizer_metadata(edited, 600)["tokenizer.ggml.token_type"]
    assert kinds[tokenizer.id("<start_of_turn>")] == 3


def test_the_tokenizer_survives_and_padding_rows_have_names(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = GGUF_CONFIGS["gemma"]
    save_gguf(tmp_path / "model.gguf", config, sharp_weights(config), tokenizer)
    file = open_gguf(tmp_path / "model.gguf")
    assert len(file.metadata["tokenizer.ggml.tokens"]) == config.vocab_size
    assert "  " in file.metadata["tokenizer.ggml.tokens"]  # pieces that text matches whole have plain spaces
    assert file.metadata["tokenizer.ggml.add_bos_token"] is True
    assert "<start_of_turn>" in file.metadata["tokenizer.chat_template"]
    loaded = load_checkpoint(tmp_path / "model.gguf").tokenizer
    assert loaded is not None
    again, before = (tokenizer_metadata(each, config.vocab_size) for each in (loaded, tokenizer))
    assert again == before
    assert [loaded.piece(i) for i in range(600)] == [tokenizer.piece(i) for i in range(600)]
    assert loaded.stop_ids == tokenizer.stop_ids
    for text in ("all human beings  are\n\n\tborn", " Zürich 1948 ✓ <b>", "<start_of_turn>user", ""):
        assert loaded.encode(text) == tokenizer.encode(text), text
        assert loaded.decode(loaded.encode(text)) == text


def test_convert_writes_and_reads_files(file: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(convert)
    out = tmp_path / "out.gguf"
    result = CliRunner().invoke(app, [str(file), str(out), "--gguf-type", "q4_0"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}: gemma2, q4_0, 0.00 GB, without a tokenizer\n"
    result = CliRunner().invoke(app, [str(out), str(tmp_path / "folder")])
    assert result.exit_code == 0, result.output
    assert_same(load_checkpoint(tmp_path / "folder").weights, load_checkpoint(out).weights)
