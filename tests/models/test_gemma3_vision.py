"""Gemma 3 with its tower: sizes, and its traps, each undone in turn: the oracle's logits are then missed by far."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core import ops
from gemwright.core.module import abstract, count, named_leaves
from gemwright.core.names import translate
from gemwright.models import family as house
from gemwright.models import gemma3, gemma3_vision
from gemwright.models.gemma3_vision import HUGGING_FACE_NAMES, PRESETS, Config, Gemma3Vision
from tests.parity.cases import MODERATE
from tests.parity.interleaved import ours
from tests.parity.interleaved.cases import (
    FAMILIES,
    KEPT,
    Family,
    pixels_of,
    places_of,
    positions_of,
    tokens_of,
    weights_of,
)  # fmt: skip
from tests.parity.pictures.stored import stored
from tests.tolerances import LOGITS, SAME, UNDONE

PARAMETERS = {"gemma3-4b": 4_299_915_632, "gemma3-12b": 12_187_079_280, "gemma3-27b": 27_432_062_576}
PADDED = {"gemma3-4b": 4_300_079_472, "gemma3-12b": 12_187_325_040, "gemma3-27b": 27_432_406_640}
SHORT, WIDE = FAMILIES  # the first's window is shorter than a picture
each = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def difference(
    family: Family, weights: Gemma3Vision | None = None, *, tower: bool = False, decoder: bool = False
) -> float:
    """The largest difference to the oracle's logits; a half of the model is traced anew if it was patched."""
    config, weights = family.config, weights or weights_of(family, 0)

    def look(weights: Gemma3Vision, pixels: jax.Array) -> jax.Array:
        return weights.look(pixels, config)

    def read(weights: Gemma3Vision, *arrays: jax.Array) -> tuple[jax.Array, None]:
        tokens, pictures, places, positions = arrays
        hidden, _ = weights.read(tokens, pictures, places, config, positions=positions)
        return weights.logits(hidden, config), None

    pixels = jnp.asarray(pixels_of(config.vision, 0))
    pictures = jax.jit(look)(weights, pixels) if tower else ours.features(weights, pixels, config)
    tokens, places, positions = map(jnp.asarray, (tokens_of(family, 0), places_of(family), positions_of(family)))
    given = weights, tokens, pictures, places, positions
    rows, _ = jax.jit(read)(*given) if decoder else ours.run(*given, None, config)
    rows = zip(np.asarray(rows), family.lengths, strict=True)
    return float(np.abs(np.concatenate([row[:n][KEPT] for row, n in rows]) - stored(family.name)["logits"][0]).max())


# ------------------------------------------------------------------------------------------- sizes


def test_every_preset_has_a_known_count() -> None:
    assert set(PARAMETERS) == set(PADDED) == set(PRESETS)
    assert all(house.PRESETS[name] is config for name, config in PRESETS.items()), "the released models are whole"


@pytest.mark.parametrize("preset", PRESETS)
def test_specs_count_the_parameters_to_the_unit(preset: str) -> None:
    assert count(Gemma3Vision.specs(PRESETS[preset])) == PARAMETERS[preset]
    decoder = dataclasses.replace(PRESETS[preset].decoder, vocab_size=262_208)
    assert count(Gemma3Vision.specs(dataclasses.replace(PRESETS[preset], decoder=decoder))) == PADDED[preset]


@pytest.mark.parametrize("preset", ["gemma3-4b", "gemma3-27b"])
def test_a_preset_runs_in_bfloat16_at_full_size_without_allocating(preset: str) -> None:
    config = PRESETS[preset]
    weights = abstract(Gemma3Vision.specs(config), jnp.dtype(jnp.bfloat16))
    given = jax.ShapeDtypeStruct((1, 896, 896, 3), jnp.float32), jax.ShapeDtypeStruct((1, 262), jnp.int32)

    def call(weights: Gemma3Vision, pixels: jax.Array, tokens: jax.Array) -> tuple[jax.Array, ...]:
        pictures, places = weights.look(pixels, config), jnp.full_like(tokens, -1).at[0, 3:259].set(jnp.arange(256))
        hidden, _ = weights.read(tokens, pictures, places, config)
        return pictures, hidden, weights.logits(hidden, config)

    pictures, hidden, logits = jax.eval_shape(call, weights, *given)
    assert (pictures.shape, pictures.dtype) == ((1, 256, config.embed_dim), jnp.bfloat16)
    assert (hidden.shape, hidden.dtype) == ((1, 262, config.embed_dim), jnp.bfloat16)
    assert (logits.shape, logits.dtype) == ((1, 262, 262_144), jnp.float32)


def test_every_weight_has_a_name_in_the_files_of_others() -> None:
    names = translate(named_leaves(Gemma3Vision.specs(SHORT.config)), HUGGING_FACE_NAMES["gemma3"]).values()
    assert len(set(names)) == len(names)
    assert {name.partition(".")[0] for name in names} == {"vision_tower", "multi_modal_projector", "language_model"}


@pytest.mark.parametrize("tokens", [7, 4])
def test_soft_tokens_are_a_square_that_divides_the_patches(tokens: int) -> None:
    tower = dataclasses.replace(SHORT.config.vision, image_size=20)  # 5 x 5 patches
    with pytest.raises(ValueError, match="picture_tokens"):
        Config(tower, SHORT.config.decoder, tokens)


# ------------------------------------------------------------------------------------------- paths


@each
def test_a_padded_batch_is_each_row_alone_and_step_by_step(family: Family) -> None:
    weights, pixels, tokens = weights_of(family, 1, MODERATE), pixels_of(family.config.vision, 1), tokens_of(family, 1)
    ways = [run(weights, family, pixels, tokens) for run in (ours.alone, ours.whole, ours.steps)]
    for alone, padded, stepped in zip(*ways, strict=True):
        np.testing.assert_allclose(padded, alone, rtol=0, atol=SAME)
        np.testing.assert_allclose(stepped, alone, rtol=0, atol=SAME)


def test_text_alone_is_the_decoders() -> None:
    weights, tokens = weights_of(SHORT, 0, MODERATE), jnp.asarray(tokens_of(SHORT, 0))
    whole = jax.jit(lambda weights, tokens: weights(tokens, SHORT.config)[0])(weights, tokens)
    alone = jax.jit(lambda weights, tokens: weights(tokens, SHORT.config.decoder)[0])(weights.decoder, tokens)
    np.testing.assert_allclose(whole, alone, rtol=0, atol=SAME)


# ------------------------------------------------------------------------------------------- traps


@each
def test_with_no_trap_undone_the_oracle_is_met(family: Family) -> None:
    assert difference(family) <= LOGITS


def with_reach(monkeypatch: pytest.MonkeyPatch, change: Callable[[jax.Array, jax.Array], jax.Array]) -> None:
    """`change` gives another reach from positions and the right one."""
    steps = gemma3.steps

    def changed(config: Any, positions: jax.Array, segments: Any, reach: jax.Array) -> Any:
        return steps(config, positions, segments, change(positions, reach))

    monkeypatch.setattr(gemma3, "steps", changed)


@each
def test_soft_tokens_see_those_in_front_of_them(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    with_reach(monkeypatch, lambda positions, reach: positions)
    assert difference(family, decoder=True) > UNDONE


@each
@pytest.mark.parametrize("error", [-1, 1])
def test_they_see_to_the_end_of_their_picture(family: Family, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_reach(monkeypatch, lambda positions, reach: jnp.where(reach > positions, reach + error, reach))
    assert difference(family, decoder=True) > UNDONE


@each
def test_every_picture_is_a_span_of_its_own(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    def to_the_last(positions: jax.Array, reach: jax.Array) -> jax.Array:
        inside = reach > positions
        last = jnp.max(jnp.where(inside, reach, -1), axis=1, keepdims=True)
        return jnp.where(inside, last, reach)

    with_reach(monkeypatch, to_the_last)
    assert difference(family, decoder=True) > UNDONE


def test_windows_hold_within_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    causal = ops.causal

    def without(query: jax.Array, key: jax.Array, window: int | None, reach: jax.Array | None = None) -> jax.Array:
        own = causal(query, key, window, reach)
        if window is None or reach is None:
            return own
        picture = (reach[:, :, None] == reach[:, None, :]) & (reach > query)[:, :, None]
        return own | (picture & (key >= 0)[:, None, :])

    monkeypatch.setattr("gemwright.models.gemma.causal", without)
    assert difference(SHORT, decoder=True) > UNDONE


@each
@pytest.mark.parametrize("exponent", [0.5, -0.5], ids=["like tokens", "divided"])
def test_pictures_are_not_scaled(family: Family, exponent: float) -> None:
    weights, factor = weights_of(family, 0), family.config.embed_dim**exponent
    scaled = dataclasses.replace(weights.projector, matrix=weights.projector.matrix * factor)
    assert difference(family, dataclasses.replace(weights, projector=scaled)) > UNDONE


@each
def test_soft_tokens_are_normed_by_one_plus_their_weight(family: Family) -> None:
    weights = weights_of(family, 0)
    for norm in (weights.projector.norm * 0, weights.projector.norm - 1):
        changed = dataclasses.replace(weights.projector, norm=norm)
        assert difference(family, dataclasses.replace(weights, projector=changed)) > UNDONE


@each
def test_they_are_normed_at_all(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemma3_vision, "rms_norm", lambda x, w, epsilon: x * (1 + w))
    assert difference(family, tower=True) > UNDONE


@each
@pytest.mark.parametrize("how", ["largest", "first", "across"])
def test_squares_of_patches_are_averaged_row_by_row(family: Family, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = gemma3_vision.pool

    def other(patches: jax.Array, config: Config) -> jax.Array:
        side, square = config.tokens_per_side, config.patches_per_side // config.tokens_per_side
        grid = patches.reshape(len(patches), side, square, side, square, -1)
        if how == "across":
            means = pool(patches, config).reshape(len(patches), side, side, -1)
            return means.swapaxes(1, 2).reshape(len(patches), side * side, -1)
        found = grid.max(axis=(2, 4)) if how == "largest" else grid[:, :, 0, :, 0]
        return found.reshape(len(patches), side * side, -1)

    monkeypatch.setattr(gemma3_vision, "pool", other)
    assert difference(family, tower=True) > UNDONE


@each
def test_the_norm_comes_before_the_projection(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(gemma3_vision.Projector):
        def __call__(self, patches: jax.Array, config: Config) -> jax.Array:
            projected = gemma3_vision.pool(patches, config) @ self.matrix
            return ops.rms_norm(projected, jnp.zeros_like(projected[0, 0]), config.vision.norm_epsilon)

    weights = weights_of(family, 0)
    late = Late(weights.projector.norm, weights.projector.matrix)
    jax.tree_util.register_dataclass(Late, data_fields=["norm", "matrix"], meta_fields=[])
    assert difference(family, dataclasses.replace(weights, projector=late), tower=True) > UNDONE
