"""A Gemma 3 that sees as two GGUF files, the decoder's and its tower's: what is written is read again."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.gguf_tower import TOWER_NAMES
from gemwright.checkpoints.gguf_writer import save_gguf
from gemwright.checkpoints.load import load_checkpoint, read_constants
from gemwright.checkpoints.save import save_checkpoint
from gemwright.cli.main import app
from gemwright.core.module import named_leaves
from gemwright.models.gemma3_vision import Gemma3Vision
from tests.checkpoints.gguf_files import Tensors, refused, rewrite
from tests.tiny import GEMMA3, PALIGEMMA, sharp_weights

LAYERS = (24, 24, 24, 24, 24, None)  # as llama.cpp slides them
CONFIG = replace(GEMMA3, decoder=replace(GEMMA3.decoder, windows=LAYERS))


@cache
def weights() -> Gemma3Vision:
    return sharp_weights(CONFIG)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_gguf(tmp_path / "model.gguf", CONFIG, weights(), kind="f16")
    return tmp_path / "model.gguf"


@jax.jit
def soft_tokens(model: Gemma3Vision) -> jax.Array:
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 24, 24, 3)).astype(np.float32)
    return model.look(jnp.asarray(pixels), CONFIG)


def test_tower_and_decoder_are_read_again(file: Path) -> None:
    """Matrices are rounded to float16, everything else is exact."""
    loaded: Any = load_checkpoint(file)
    assert loaded.config == read_constants(file) == CONFIG
    for (name, found), (_, expected) in zip(
        named_leaves(loaded.weights).items(), named_leaves(weights()).items(), strict=True
    ):
        exact = np.ndim(expected) == 1 or name in ("vision.patch", "vision.position")
        bound = 2e-7 if exact else 2**-11  # one is added to the norms of a Gemma, and taken away again
        assert np.abs(found - expected).max() <= bound * max(1, np.abs(expected).max()), name
    np.testing.assert_allclose(soft_tokens(loaded.weights), soft_tokens(weights()), rtol=0, atol=0.05)


def test_names_and_metadata_are_llama_cpps(file: Path) -> None:
    reader = gguf.GGUFReader(file.with_name("mmproj-model.gguf"))
    values = {key: field.contents() for key, field in reader.fields.items()}
    assert values["general.architecture"] == "clip"
    assert values["general.type"] == "mmproj"
    assert values["clip.projector_type"] == "gemma3"
    assert values["clip.has_vision_encoder"] is True
    assert values["clip.use_gelu"] is True
    keys = gguf.Keys.ClipVision
    assert values[keys.IMAGE_SIZE] == 24
    assert values[keys.PATCH_SIZE] == 4
    assert values[keys.PROJECTION_DIM] == 24
    assert values[keys.FEED_FORWARD_LENGTH] == 40
    assert values[keys.BLOCK_COUNT] == values[keys.Attention.HEAD_COUNT] == 2
    assert values[keys.Projector.SCALE_FACTOR] == 2
    assert values[keys.IMAGE_MEAN] == values[keys.IMAGE_STD] == [0.5, 0.5, 0.5]
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, 2)
    for ours, theirs in _in_layer_1(TOWER_NAMES):
        name, _, part = _their_name(ours).rpartition(".")
        assert known.get_name(name) == theirs.rpartition(".")[0], ours
        assert part == theirs.rpartition(".")[2]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    np.testing.assert_array_equal(tensors["mm.soft_emb_norm.weight"].data, np.asarray(weights().projector.norm) + 1)
    np.testing.assert_array_equal(tensors["v.post_ln.weight"].data, np.asarray(weights().vision.final_norm.scale))
    assert tensors["mm.input_projection.weight"].tensor_type == gguf.GGMLQuantizationType.F16
    assert tensors["v.patch_embd.weight"].data.shape == (24, 3, 4, 4)


def _in_layer_1(names: Any) -> list[tuple[str, str]]:
    return [(ours.replace("*", "1"), theirs.replace("*", "1")) for ours, theirs in names]


def _their_name(ours: str) -> str:
    """In the files of Hugging Face that llama.cpp's converter reads."""
    from gemwright.core.names import translate
    from gemwright.models.gemma3_vision import HUGGING_FACE_NAMES

    theirs = translate([ours], HUGGING_FACE_NAMES["gemma3"])[ours]
    return theirs.replace("vision_tower.", "vision_tower.vision_model.").replace(
        "projection_weight", "projection.weight"
    )


def test_the_decoder_alone_is_a_model_of_text(file: Path) -> None:
    file.with_name("mmproj-model.gguf").unlink()
    loaded: Any = load_checkpoint(file)
    assert loaded.config == CONFIG.decoder
    np.testing.assert_array_equal(loaded.weights.final_norm, weights().decoder.final_norm)


def test_a_folder_of_a_model_and_one_tower_of_another_name_is_both(file: Path) -> None:
    file.with_name("mmproj-model.gguf").rename(file.with_name("mmproj-f16.gguf"))
    assert read_constants(file.parent) == CONFIG
    file.with_name("second.gguf").write_bytes(file.read_bytes())
    assert read_constants(file) == CONFIG.decoder, "it is not known whose tower it is"


def test_files_of_before_with_a_blocks_products_by_each_others_name_are_read(file: Path) -> None:
    def swap(_: Any, tensors: Tensors) -> None:
        for name in [name for name in tensors if "ffn_up" in name]:
            other = name.replace("ffn_up", "ffn_down")
            tensors[name], tensors[other] = tensors[other], tensors[name]

    expected: Any = load_checkpoint(file)
    rewrite(file.with_name("mmproj-model.gguf"), swap)
    found: Any = load_checkpoint(file)
    np.testing.assert_array_equal(soft_tokens(found.weights), soft_tokens(expected.weights))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clip.projector_type": "mlp"}, "projector_type: expected 'gemma3', found 'mlp'"),
        ({"clip.vision.projection_dim": 25}, "projection_dim: expected 24, found 25"),
        ({"clip.vision.block_count": 2**31}, "no more layers than the 39 tensors"),
        ({"clip.vision.patch_size": 5}, "image_size 24 is no multiple of patch_size 5"),
        ({"clip.vision.image_size": 0}, "image_size: expected a positive integer, found 0"),
        (
            {"clip.vision.projector.scale_factor": 7},
            "scale_factor: expected a divisor of the 6 patches of a side, found 7",
        ),
        ({"clip.vision.image_mean": [0.5, 0.5, 0.4]}, "image_mean: expected 0.5"),
    ],
)
def test_a_tower_that_does_not_fit_is_refused(file: Path, values: dict[str, Any], message: str) -> None:
    rewrite(file.with_name("mmproj-model.gguf"), lambda found, _: found.update(values))
    with pytest.raises(CheckpointError, match=message):
        read_constants(file)
    assert "mmproj-model.gguf" in refused(file)


def test_tensors_of_a_tower_that_are_missing_or_too_many_are_refused(file: Path) -> None:
    tower, whole = file.with_name("mmproj-model.gguf"), file.with_name("mmproj-model.gguf").read_bytes()
    rewrite(tower, lambda _, tensors: tensors.pop("v.post_ln.bias"))
    assert "mmproj-model.gguf: tensor v.post_ln.bias: expected one of shape (24,), found none" in refused(file)
    tower.write_bytes(whole)
    rewrite(tower, lambda _, tensors: tensors.update({"v.class_embd": tensors["v.post_ln.bias"]}))
    assert "mmproj-model.gguf: tensor v.class_embd: expected no tensor of this name" in refused(file)


def test_the_tower_itself_is_no_model(file: Path) -> None:
    assert "found the tower of one that sees" in refused(file.with_name("mmproj-model.gguf"))


def test_neither_file_is_written_where_one_is_there_already(file: Path) -> None:
    file.unlink()
    before = file.with_name("mmproj-model.gguf").read_bytes()
    with pytest.raises(CheckpointError, match=r"mmproj-model.gguf: is there already"):
        save_gguf(file, CONFIG, weights(), kind="f16")
    assert [path.name for path in file.parent.iterdir()] == ["mmproj-model.gguf"]
    assert file.with_name("mmproj-model.gguf").read_bytes() == before


def test_a_paligemma_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"llama.cpp computes no model of this kind, save it as a Hugging Face"):
        save_gguf(tmp_path / "model.gguf", PALIGEMMA, sharp_weights(PALIGEMMA))


def test_convert_says_where_the_tower_is_and_reads_both(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", CONFIG, weights())
    out = CliRunner().invoke(app, ["convert", str(tmp_path / "model"), str(tmp_path / "x" / "out.gguf")])
    assert out.exit_code == 0, out.output
    assert "its tower mmproj-out.gguf" in out.output
    back = CliRunner().invoke(app, ["convert", str(tmp_path / "x"), str(tmp_path / "back")])
    assert back.exit_code == 0, back.output
    assert read_constants(tmp_path / "back") == CONFIG
