"""big_vision's .npz files of PaliGemma, written here as its code documents them: names, shapes and equations.

Sources: google-research/big_vision `models/vit.py` (with `scan`), `models/ppp/gemma.py` and
`models/proj/paligemma/paligemma.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gemwright
from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.load import load_checkpoint, read_constants
from gemwright.checkpoints.npz_file import NpzFile
from gemwright.checkpoints.npz_paligemma import match_paligemma
from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import named_leaves
from gemwright.models.gemma import gemma1, gemma2
from gemwright.models.paligemma import PRESETS, Config, PaliGemma
from gemwright.models.siglip import Config as Tower
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import assert_same
from tests.checkpoints.test_paligemma import ours, theirs
from tests.tolerances import LOGITS, SAME

Arrays = dict[str, np.ndarray]

TOWER = Tower(image_size=21, patch_size=7, embed_dim=30, num_layers=2, num_heads=5, mlp_dim=46)
SIZES = {"vocab_size": 640, "embed_dim": 32, "num_layers": 3, "num_heads": 4, "head_dim": 16, "mlp_dim": 48}
CONFIGS = {
    "one key head": Config(TOWER, gemma1(num_kv_heads=1, **SIZES)),
    "joined heads": Config(TOWER, gemma1(num_kv_heads=4, **SIZES)),
    "PaliGemma 2": Config(TOWER, gemma2(num_kv_heads=2, **SIZES)),
}
each = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def shapes_of(config: Config) -> dict[str, tuple[int, ...]]:
    """Every array of a published file."""
    tower, text = config.vision, config.decoder
    n, w, f, h, p = tower.num_layers, tower.embed_dim, tower.mlp_dim, tower.num_heads, tower.patch_size
    layers, d, heads, g, k = text.num_layers, text.embed_dim, text.num_heads, text.num_kv_heads, text.head_dim
    block = "img/Transformer/encoderblock"
    shapes: dict[str, tuple[int, ...]] = {
        "img/embedding/kernel": (p, p, 3, w),
        "img/embedding/bias": (w,),
        "img/pos_embedding": (1, tower.patches, w),
        "img/Transformer/encoder_norm/scale": (w,),
        "img/Transformer/encoder_norm/bias": (w,),
        f"{block}/LayerNorm_0/scale": (n, w),
        f"{block}/LayerNorm_0/bias": (n, w),
        f"{block}/LayerNorm_1/scale": (n, w),
        f"{block}/LayerNorm_1/bias": (n, w),
        f"{block}/MlpBlock_0/Dense_0/kernel": (n, w, f),
        f"{block}/MlpBlock_0/Dense_0/bias": (n, f),
        f"{block}/MlpBlock_0/Dense_1/kernel": (n, f, w),
        f"{block}/MlpBlock_0/Dense_1/bias": (n, w),
        f"{block}/MultiHeadDotProductAttention_0/query/kernel": (n, w, h, w // h),
        f"{block}/MultiHeadDotProductAttention_0/query/bias": (n, h, w // h),
        f"{block}/MultiHeadDotProductAttention_0/key/kernel": (n, w, h, w // h),
        f"{block}/MultiHeadDotProductAttention_0/key/bias": (n, h, w // h),
        f"{block}/MultiHeadDotProductAttention_0/value/kernel": (n, w, h, w // h),
        f"{block}/MultiHeadDotProductAttention_0/value/bias": (n, h, w // h),
        f"{block}/MultiHeadDotProductAttention_0/out/kernel": (n, h, w // h, w),
        f"{block}/MultiHeadDotProductAttention_0/out/bias": (n, w),
        "img/head/kernel": (w, d),
        "img/head/bias": (d,),
        "llm/embedder/input_embedding": (text.vocab_size, d),
        "llm/final_norm/scale": (d,),
        "llm/layers/attn/attn_vec_einsum/w": (layers, heads, k, d),
        "llm/layers/mlp/gating_einsum": (layers, 2, d, text.mlp_dim),
        "llm/layers/mlp/linear": (layers, text.mlp_dim, d),
        "llm/layers/pre_attention_norm/scale": (layers, d),
        "llm/layers/pre_ffw_norm/scale": (layers, d),
    }
    if heads == g:
        shapes["llm/layers/attn/qkv_einsum/w"] = (layers, 3, heads, d, k)
    else:
        shapes["llm/layers/attn/q_einsum/w"] = (layers, heads, d, k)
        shapes["llm/layers/attn/kv_einsum/w"] = (layers, 2, g, d, k)
    if text.post_norms:
        shapes["llm/layers/post_attention_norm/scale"] = (layers, d)
        shapes["llm/layers/post_ffw_norm/scale"] = (layers, d)
    return {f"params/{name}": shape for name, shape in shapes.items()}


def arrays_of(config: Config) -> Arrays:
    """Random ones, as sharp as those of the other tests: a swapped weight would be seen."""
    drawn = np.random.default_rng(0)
    return {
        name: (drawn.standard_normal(shape) * (0.3 if len(shape) < 3 else 1.5 / shape[-2] ** 0.5)).astype(np.float32)
        for name, shape in shapes_of(config).items()
    }


def write(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


@each
def test_the_equations_of_big_vision_hold_with_our_weights(tmp_path: Path, config: Config) -> None:
    """Each product as its code writes it, over the arrays of the file, and over ours."""
    arrays = arrays_of(config)
    file = {name.removeprefix("params/"): array for name, array in arrays.items()}
    loaded = load_checkpoint(write(tmp_path / "pt_224.npz", arrays))
    assert loaded.config == config
    weights, drawn = loaded.weights, np.random.default_rng(1)
    assert isinstance(weights, PaliGemma)
    x, y = (drawn.standard_normal((6, size)).astype(np.float32) for size in (32, 30))
    pairs: list[tuple[str, np.ndarray, np.ndarray, str, Any]] = []
    for number, layer in enumerate(weights.decoder.layers):
        attn, at = layer.attention, "llm/layers/attn"
        if f"{at}/qkv_einsum/w" in file:
            query, key, value = file[f"{at}/qkv_einsum/w"][number]
        else:
            query, (key, value) = file[f"{at}/q_einsum/w"][number], file[f"{at}/kv_einsum/w"][number]
        pairs += [("TD,NDH->TNH", x, query, "td,hkd->thk", attn.query)]
        pairs += [
            ("SD,KDH->SKH", x, key, "td,hkd->thk", attn.key),
            ("SD,KDH->SKH", x, value, "td,hkd->thk", attn.value),
        ]
        mixed = drawn.standard_normal((6, 4, 16)).astype(np.float32)
        vec = file[f"{at}/attn_vec_einsum/w"][number]
        pairs += [("TNH,NHD->TD", mixed, vec, "thk,dhk->td", attn.output)]
        gate, up = file["llm/layers/mlp/gating_einsum"][number]
        pairs += [("TD,DF->TF", x, gate, "td,fd->tf", layer.mlp.gate), ("TD,DF->TF", x, up, "td,fd->tf", layer.mlp.up)]
        wide = drawn.standard_normal((6, 48)).astype(np.float32)
        pairs += [("TF,FD->TD", wide, file["llm/layers/mlp/linear"][number], "tf,df->td", layer.mlp.down)]
    for number, layer in enumerate(weights.vision.layers):
        attn, at = layer.attention, "img/Transformer/encoderblock/MultiHeadDotProductAttention_0"
        for name in ("query", "key", "value"):
            bias = file[f"{at}/{name}/bias"][number]
            np.testing.assert_array_equal(getattr(attn, f"{name}_bias").reshape(5, 6), bias)
            pairs += [("td,dhk->thk", y, file[f"{at}/{name}/kernel"][number], "td,hkd->thk", getattr(attn, name))]
        mixed = drawn.standard_normal((6, 5, 6)).astype(np.float32)
        pairs += [("thk,hkd->td", mixed, file[f"{at}/out/kernel"][number], "thk,dhk->td", attn.output)]
        wide, at = drawn.standard_normal((6, 46)).astype(np.float32), "img/Transformer/encoderblock/MlpBlock_0"
        pairs += [("td,df->tf", y, file[f"{at}/Dense_0/kernel"][number], "td,fd->tf", layer.mlp.up)]
        pairs += [("tf,fd->td", wide, file[f"{at}/Dense_1/kernel"][number], "tf,df->td", layer.mlp.down)]
    patch = drawn.standard_normal((7, 7, 3)).astype(np.float32)
    pairs += [("hwc,hwcd->d", patch, file["img/embedding/kernel"], "hwc,dchw->d", weights.vision.patch)]
    pairs += [("td,de->te", y, file["img/head/kernel"], "td,ed->te", weights.projector.matrix)]
    for theirs_says, left, right, ours_says, weight in pairs:
        expected, found = np.einsum(theirs_says, left, right), np.einsum(ours_says, left, np.asarray(weight))
        np.testing.assert_allclose(found, expected, rtol=0, atol=SAME * 10)


@each
def test_what_is_no_matrix_stands_in_its_layer(tmp_path: Path, config: Config) -> None:
    arrays = arrays_of(config)
    weights = load_checkpoint(write(tmp_path / "pt.npz", arrays)).weights
    assert isinstance(weights, PaliGemma)
    layer, block = weights.decoder.layers[2], weights.vision.layers[1]
    found = {
        "llm/embedder/input_embedding": weights.decoder.embedding,
        "llm/final_norm/scale": weights.decoder.final_norm,
        "img/embedding/bias": weights.vision.patch_bias,
        "img/Transformer/encoder_norm/scale": weights.vision.final_norm.scale,
        "img/Transformer/encoder_norm/bias": weights.vision.final_norm.bias,
        "img/head/bias": weights.projector.bias,
    }
    stacked: dict[str, tuple[int, Any]] = {
        "llm/layers/pre_attention_norm/scale": (2, layer.attention_norm),
        "llm/layers/pre_ffw_norm/scale": (2, layer.mlp_norm),
        "img/Transformer/encoderblock/LayerNorm_0/scale": (1, block.attention_norm.scale),
        "img/Transformer/encoderblock/LayerNorm_0/bias": (1, block.attention_norm.bias),
        "img/Transformer/encoderblock/LayerNorm_1/scale": (1, block.mlp_norm.scale),
        "img/Transformer/encoderblock/LayerNorm_1/bias": (1, block.mlp_norm.bias),
        "img/Transformer/encoderblock/MlpBlock_0/Dense_0/bias": (1, block.mlp.up_bias),
        "img/Transformer/encoderblock/MlpBlock_0/Dense_1/bias": (1, block.mlp.down_bias),
        "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/out/bias": (1, block.attention.output_bias),
    }
    if config.decoder.post_norms:
        stacked["llm/layers/post_attention_norm/scale"] = (2, layer.attention_post_norm)
        stacked["llm/layers/post_ffw_norm/scale"] = (2, layer.mlp_post_norm)
    for name, weight in found.items():
        np.testing.assert_array_equal(arrays[f"params/{name}"], weight, err_msg=name)
    for name, (number, weight) in stacked.items():
        np.testing.assert_array_equal(arrays[f"params/{name}"][number], weight, err_msg=name)
    np.testing.assert_array_equal(arrays["params/img/pos_embedding"][0], weights.vision.position)


@each
def test_it_passes_to_a_hugging_face_folder_and_back(tmp_path: Path, config: Config) -> None:
    loaded = load_checkpoint(write(tmp_path / "pt_224.npz", arrays_of(config)))
    save_checkpoint(tmp_path / "folder", loaded.config, loaded.weights)
    again = load_checkpoint(tmp_path / "folder")
    assert again.config == config
    assert_same(again.weights, loaded.weights)


@each
@pytest.mark.parity
@pytest.mark.filterwarnings("default")  # torch and transformers warn of themselves
def test_transformers_gives_equal_logits_for_the_converted_folder(tmp_path: Path, config: Config) -> None:
    transformers = pytest.importorskip("transformers")
    loaded = load_checkpoint(write(tmp_path / "pt_224.npz", arrays_of(config)))
    asked = replace(loaded.config, image_token=640)  # a row that this vocabulary has room for in transformers
    save_checkpoint(tmp_path / "folder", asked, loaded.weights)
    kind = transformers.PaliGemmaForConditionalGeneration
    model = kind.from_pretrained(tmp_path / "folder", attn_implementation="eager")
    assert np.abs(ours(loaded.weights, config) - theirs(model, TOWER.patches)).max() < LOGITS


# ------------------------------------------------------------------------------- the ways to name it


def test_a_file_or_its_folder_is_loaded_with_the_tokenizer_beside_it(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = replace(CONFIGS["one key head"], decoder=gemma1(num_kv_heads=1, **{**SIZES, "vocab_size": 600}))
    path = write(tmp_path / "pt_224.npz", arrays_of(config))
    (tmp_path / "paligemma_tokenizer.model").write_bytes(tokenizer.to_bytes())
    (tmp_path / "vae-oid.npz").write_bytes(b"of the masks, and not meant")
    for named in (path, tmp_path):
        model = gemwright.load(named)
        assert model.tokenizer.vocab_size == 600
        assert model.logits([2, 5, 6]).shape == (1, 3, 600)
        assert read_constants(named) == config


def test_several_files_in_a_folder_are_to_be_named(tmp_path: Path) -> None:
    for name in ("pt_224.npz", "pt_224.bf16.npz"):
        write(tmp_path / name, {})
    with pytest.raises(CheckpointError, match=r"expected one \.npz file, found 2; name one"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_half_precision_is_read_as_numpy_stores_it(tmp_path: Path, kind: str) -> None:
    """bfloat16 is no type of NumPy: its files have two bytes of no type. float16 is widened."""
    config = CONFIGS["PaliGemma 2"]
    arrays = {name: array.astype(jnp.dtype(kind)) for name, array in arrays_of(config).items()}
    path = write(tmp_path / "pt.npz", arrays)
    with np.load(path) as stored:
        assert stored["params/img/head/bias"].dtype == np.dtype("V2" if kind == "bfloat16" else kind)
    weights = load_checkpoint(path).weights
    assert isinstance(weights, PaliGemma)
    assert weights.embedding.dtype == ("bfloat16" if kind == "bfloat16" else "float32")
    expected = arrays["params/img/head/kernel"].T.astype(np.float32)
    np.testing.assert_array_equal(np.asarray(weights.projector.matrix, np.float32), expected)


def test_what_else_a_run_kept_is_left_alone(tmp_path: Path) -> None:
    arrays = arrays_of(CONFIGS["one key head"])
    more = {**arrays, "opt/0/count": np.zeros((), np.int32), "chrono/step": np.ones(())}
    plain, kept = (load_checkpoint(write(tmp_path / f"{n}.npz", a)) for n, a in (("plain", arrays), ("run", more)))
    assert_same(plain.weights, kept.weights)


@pytest.mark.parametrize("name", PRESETS)
def test_published_shapes_are_the_presets(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a byte of weights: shapes alone, 257,152 rows among them, tell which model it is."""

    class Published(NpzFile):
        def __init__(self, path: Path) -> None:
            self.path, self._whole = path, set()
            from gemwright.checkpoints.npz_file import Entry

            shapes = shapes_of(PRESETS[name])
            self.entries = {key: Entry(np.dtype(np.float32), shape, 0, 0, 0, 0) for key, shape in shapes.items()}

    monkeypatch.setattr("gemwright.checkpoints.npz_paligemma.NpzFile", Published)
    config, weights = match_paligemma(tmp_path / "published.npz")
    assert config == PRESETS[name]
    assert weights.keys() == named_leaves(PaliGemma.specs(config)).keys()
    assert shapes_of(config)["params/llm/embedder/input_embedding"][0] == 257_152


# --------------------------------------------------------------------------------- what does not fit


def drop(name: str) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.pop(f"params/{name}")


def put(name: str, array: np.ndarray) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({f"params/{name}": array})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("img/head/bias"), "tensor img/head/bias: expected it in a PaliGemma of big_vision, found none"),
        (drop("llm/embedder/input_embedding"), "llm/embedder/input_embedding: expected 2 axes"),
        (put("img/extra", np.zeros(2)), "tensor params/img/extra: expected none of this name in a paligemma"),
        (put("llm/layers/post_ffw_norm/scale", np.zeros((3, 32))), "post_ffw_norm/scale: expected none"),
        (
            put("llm/layers/mlp/gating_einsum", np.zeros((3, 2, 48, 32))),
            "expected (3, 2, 32, 48), found (3, 2, 48, 32)",
        ),
        (put("llm/layers/mlp/linear", np.zeros((2, 48, 32))), "linear: expected (3, 48, 32), found (2, 48, 32)"),
        (put("img/pos_embedding", np.zeros((1, 10, 30))), "pos_embedding: expected patches in a square, found 10"),
        (put("img/embedding/kernel", np.zeros((0, 0, 3, 30))), "img/embedding/kernel: expected 4 axes"),
        (put("img/head/kernel", np.zeros((30, 32), np.int32)), "expected floating-point numbers, found int32"),
        (put("img/head/bias", np.array([{}] * 32)), "img/head/bias.npy: expected numbers row by row, found objects"),
        (
            put("img/head/kernel", np.zeros((32, 30)).T),
            "img/head/kernel.npy: expected numbers row by row, found columns",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, change: Callable[[Arrays], object], said: str) -> None:
    arrays = arrays_of(CONFIGS["one key head"])
    change(arrays)
    path = write(tmp_path / "pt.npz", arrays)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_never_loaded(tmp_path: Path) -> None:
    """Cut anywhere, or with any one byte of an array changed: its check sum does not fit then."""
    path = write(tmp_path / "pt.npz", arrays_of(CONFIGS["one key head"]))
    whole = path.read_bytes()
    for stop in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:stop])
        with pytest.raises(CheckpointError, match=r"fetch the file again") as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
    changed = bytearray(whole)
    changed[whole.index(b"params/llm/layers/mlp/linear") + 300] ^= 1
    path.write_bytes(changed)
    with pytest.raises(CheckpointError, match=r"tensor params/llm/layers/mlp/linear: its bytes are damaged"):
        load_checkpoint(path)


def test_compressed_arrays_are_refused_with_what_to_do(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "pt.npz", **arrays_of(CONFIGS["one key head"]))  # pyright: ignore[reportArgumentType]
    with pytest.raises(CheckpointError, match=r"is compressed: save it with numpy\.savez"):
        load_checkpoint(tmp_path / "pt.npz")


def test_weights_spread_over_devices_are_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "pt.npz", arrays_of(CONFIGS["PaliGemma 2"]))
    mesh = jax.make_mesh((1, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    assert_same(load_checkpoint(path, mesh=mesh).weights, load_checkpoint(path).weights)
