"""What the tower promises beside parity: sizes, shapes, and each trap undone in turn (see test_traps)."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core import ops
from gemwright.core.module import abstract, count
from gemwright.models import siglip
from gemwright.models.siglip import PRESETS, Config, SigLIP
from tests.parity.pictures.cases import TOWERS, Tower, pixels_of, tower_weights
from tests.parity.pictures.stored import stored
from tests.tolerances import LOGITS, UNDONE

PARAMETERS = {224: 412_442_352, 448: 413_327_088, 896: 416_866_032}

each = pytest.mark.parametrize("tower", TOWERS, ids=lambda tower: tower.name)


def difference(tower: Tower, weights: SigLIP | None = None, pixels: np.ndarray | None = None) -> float:
    """The largest difference to the oracle's features. A new jit each time: no trace outlives a monkeypatch."""
    weights = weights or tower_weights(tower, 0)
    given = pixels_of(tower.config, 0) if pixels is None else pixels
    found = jax.jit(lambda weights, pixels: weights(pixels, tower.config))(weights, jnp.asarray(given))
    return float(np.abs(np.asarray(found) - stored(tower.name)["features"][0]).max())


def edited(tower: Tower, edit: Callable[[siglip.Block], siglip.Block]) -> SigLIP:
    weights = tower_weights(tower, 0)
    return dataclasses.replace(weights, layers=tuple(map(edit, weights.layers)))


# ------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("size", PARAMETERS)
def test_specs_count_the_parameters_to_the_unit(size: int) -> None:
    assert count(SigLIP.specs(PRESETS[f"siglip-so400m-{size}"])) == PARAMETERS[size]


@pytest.mark.parametrize(("size", "patches"), [(224, 256), (448, 1024), (896, 4096)])
def test_a_preset_gives_one_vector_a_patch_in_the_dtype_of_its_weights(size: int, patches: int) -> None:
    config = PRESETS[f"siglip-so400m-{size}"]
    weights = abstract(SigLIP.specs(config), jnp.dtype(jnp.bfloat16))
    pixels = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    features = jax.eval_shape(lambda weights, pixels: weights(pixels, config), weights, pixels)
    assert (features.shape, features.dtype) == ((2, patches, 1152), jnp.bfloat16)


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size 225 is no multiple of patch_size 14"):
        Config(225, 14, 8, 1, 2, 4)
    with pytest.raises(ValueError, match="embed_dim 9 is no multiple of num_heads 2"):
        Config(28, 14, 9, 1, 2, 4)


def test_pixels_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected pixels of \(21, 21, 3\), found \(20, 21, 3\)"):
        siglip.cut(jnp.zeros((1, 20, 21, 3)), TOWERS[0].config)


# ------------------------------------------------------------------------------------------- traps


@each
def test_with_no_trap_undone_the_oracle_is_met(tower: Tower) -> None:
    assert difference(tower) <= LOGITS


@each
def test_patches_run_row_by_row(tower: Tower) -> None:
    assert difference(tower, pixels=pixels_of(tower.config, 0).transpose(0, 2, 1, 3)) > UNDONE


@each
def test_channels_are_red_green_blue(tower: Tower) -> None:
    assert difference(tower, pixels=pixels_of(tower.config, 0)[..., ::-1]) > UNDONE


@each
def test_pixels_run_from_minus_one_to_one(tower: Tower) -> None:
    assert difference(tower, pixels=(pixels_of(tower.config, 0) + 1) / 2) > UNDONE


@each
def test_a_patch_is_laid_out_channel_by_channel(tower: Tower) -> None:
    weights = tower_weights(tower, 0)
    mixed = jnp.moveaxis(weights.patch, 1, -1).reshape(weights.patch.shape)  # row, column, channel
    assert difference(tower, dataclasses.replace(weights, patch=mixed)) > UNDONE


@each
def test_each_patch_has_its_place_added(tower: Tower) -> None:
    weights = tower_weights(tower, 0)
    assert difference(tower, dataclasses.replace(weights, position=weights.position[::-1])) > UNDONE


@each
@pytest.mark.parametrize("bias", ["query_bias", "key_bias", "value_bias", "output_bias"])
def test_attention_has_biases(tower: Tower, bias: str) -> None:
    def without(block: siglip.Block) -> siglip.Block:
        found = getattr(block.attention, bias)
        return dataclasses.replace(block, attention=dataclasses.replace(block.attention, **{bias: found * 0}))

    # All scores of a query move alike with the keys' bias, which no softmax sees.
    assert (difference(tower, edited(tower, without)) > UNDONE) == (bias != "key_bias")


@each
@pytest.mark.parametrize("bias", ["up_bias", "down_bias"])
def test_the_mlp_has_biases(tower: Tower, bias: str) -> None:
    def without(block: siglip.Block) -> siglip.Block:
        return dataclasses.replace(block, mlp=dataclasses.replace(block.mlp, **{bias: getattr(block.mlp, bias) * 0}))

    assert difference(tower, edited(tower, without)) > UNDONE


@each
def test_norms_take_the_mean_off(tower: Tower, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_root_mean_square(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
        return ops.rms_norm(x, scale - 1, epsilon) + bias

    monkeypatch.setattr(siglip, "layer_norm", by_root_mean_square)
    assert difference(tower) > UNDONE


@each
def test_a_norm_multiplies_by_its_scale_and_not_by_one_plus_it(tower: Tower, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = ops.layer_norm
    monkeypatch.setattr(siglip, "layer_norm", lambda x, scale, bias, epsilon: norm(x, 1 + scale, bias, epsilon))
    assert difference(tower) > UNDONE


@each
def test_gelu_is_the_tanh_form(tower: Tower, monkeypatch: pytest.MonkeyPatch) -> None:
    gelu = jax.nn.gelu
    monkeypatch.setattr(jax.nn, "gelu", lambda x, approximate: gelu(x, approximate=False))
    assert difference(tower) > UNDONE


@each
def test_scores_are_scaled_by_the_heads_width(tower: Tower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siglip, "attend", lambda queries, *rest, **options: ops.attend(queries * 2, *rest, **options))
    assert difference(tower) > UNDONE


@each
def test_patches_see_those_after_them(tower: Tower, monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards_only(queries: jax.Array, keys: jax.Array, values: jax.Array, seen: jax.Array, cap: None) -> jax.Array:
        return ops.attend(queries, keys, values, jnp.tril(seen), cap)

    monkeypatch.setattr(siglip, "attend", backwards_only)
    assert difference(tower) > UNDONE


@each
def test_the_last_norm_is_applied(tower: Tower) -> None:
    weights = tower_weights(tower, 0)
    still = siglip.Norm(weights.final_norm.scale * 0 + 1, weights.final_norm.bias * 0)
    assert difference(tower, dataclasses.replace(weights, final_norm=still)) > UNDONE
