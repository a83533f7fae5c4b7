"""Gemma 3: sizes, and its known traps, each undone in turn: the oracle's logits must then be missed by far."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from gemwright.core import flash_attention, ops
from gemwright.core.module import abstract, count
from gemwright.kernels import native
from gemwright.models import gemma3
from gemwright.models.gemma import goes_back_from, new_cache
from gemwright.models.gemma3 import PRESETS, Gemma3
from tests.models.test_traps import changed, difference, edited, interleaved
from tests.parity.cases import BY_NAME, Family, weights_of
from tests.tolerances import LOGITS, UNDONE

PARAMETERS = {
    "gemma3-270m": 268_098_176,
    "gemma3-1b": 999_885_952,
    "gemma3-4b": 3_880_099_328,
    "gemma3-12b": 11_765_788_416,
    "gemma3-27b": 27_009_002_240,
}
LOCAL = BY_NAME["gemma3-gqa"]  # windows of 5, every third layer global, positions divided by 8 there
each = pytest.mark.parametrize("family", [LOCAL, BY_NAME["gemma3-mqa"]], ids=lambda family: family.name)


def test_every_preset_has_a_known_count() -> None:
    assert set(PARAMETERS) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_specs_count_the_parameters_to_the_unit(preset: str) -> None:
    assert count(Gemma3.specs(PRESETS[preset])) == PARAMETERS[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_runs_in_bfloat16_at_full_size_without_allocating(preset: str) -> None:
    config = PRESETS[preset]

    def call(weights: Gemma3, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden, _ = weights(tokens, config)
        return hidden, weights.logits(hidden, config)

    weights = abstract(Gemma3.specs(config), jnp.dtype(jnp.bfloat16))
    hidden, logits = jax.eval_shape(call, weights, jax.ShapeDtypeStruct((2, 8), jnp.int32))
    assert (hidden.shape, hidden.dtype) == ((2, 8, config.embed_dim), jnp.bfloat16)
    assert (logits.shape, logits.dtype) == ((2, 8, 262_144), jnp.float32)


def test_every_sixth_layer_sees_all_and_the_others_a_window() -> None:
    config = PRESETS["gemma3-1b"]
    assert [config.window(layer) for layer in range(26)] == [*[512] * 5, None] * 4 + [512, 512]


def test_only_the_27b_scales_queries_by_the_width_a_head_would_have() -> None:
    assert PRESETS["gemma3-27b"].query_scale == 168**-0.5
    assert {config.query_scale for name, config in PRESETS.items() if name != "gemma3-27b"} == {256**-0.5}


def test_positions_are_divided_by_8_from_the_4b_on() -> None:
    assert [config.rope_factor for config in PRESETS.values()] == [1.0, 1.0, 8.0, 8.0, 8.0]
    assert [config.max_positions for config in PRESETS.values()] == [32_768] * 2 + [131_072] * 3


def test_local_layers_keep_a_ring() -> None:
    config = PRESETS["gemma3-4b"]
    shapes = jax.eval_shape(lambda: new_cache(config, 1, 131_072, jnp.dtype(jnp.bfloat16)))  # pyright: ignore
    slots = [layer.keys.shape[1] for layer in shapes]
    assert slots[:6] == [1024 + 15] * 5 + [131_072]
    assert goes_back_from(config) == 1024  # pyright: ignore


# ------------------------------------------------------------------------------------------ traps


@each
def test_with_no_trap_undone_the_oracle_is_met(family: Family) -> None:
    assert difference(family) <= LOGITS


def with_attention(family: Family, edit: Callable[[gemma3.Attention], Any]) -> Any:
    return edited(family, lambda block: dataclasses.replace(block, attention=edit(block.attention)))  # pyright: ignore


@each
@pytest.mark.parametrize("name", ["query_norm", "key_norm"])
def test_queries_and_keys_are_normed_with_weights(family: Family, name: str) -> None:
    def plain(attention: gemma3.Attention) -> Any:
        return dataclasses.replace(attention, **{name: jnp.zeros_like(getattr(attention, name))})

    assert difference(family, with_attention(family, plain)) > UNDONE


@each
def test_queries_and_keys_are_normed_at_all(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = ops.rms_norm
    monkeypatch.setattr(gemma3, "rms_norm", lambda x, w, epsilon: x if x.ndim == 4 else norm(x, w, epsilon))
    assert difference(family) > UNDONE


@each
def test_they_are_normed_before_they_are_rotated(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(gemma3.Attention):
        def __call__(self, x, step, window, cache, config):
            queries, keys, values = gemma3.project_each(x, (self.query, self.key, self.value))
            queries, keys = ops.rotate(queries, step.rotation), ops.rotate(keys, step.rotation)
            queries = ops.rms_norm(queries, self.query_norm, config.norm_epsilon) * config.query_scale
            keys = ops.rms_norm(keys, self.key_norm, config.norm_epsilon)
            mixed = ops.attend_in_order(queries, keys, values, step.visible(window), None)
            return gemma3.project(mixed, self.output, inputs=2), cache

    def late(attention: gemma3.Attention) -> Any:
        return Late(**{field.name: getattr(attention, field.name) for field in dataclasses.fields(attention)})

    assert difference(family, with_attention(family, late)) > UNDONE


@each
def test_the_two_bases_are_not_each_others(family: Family) -> None:
    assert difference(family, config=changed(family, rope_base=10_000.0)) > UNDONE
    assert difference(family, config=changed(family, local_rope_base=1_000_000.0)) > UNDONE


def test_the_factor_is_of_global_layers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert difference(LOCAL, config=changed(LOCAL, rope_factor=1.0)) > UNDONE
    rotation = ops.rotation
    monkeypatch.setattr(gemma3, "rotation", lambda positions, size, base: rotation(positions / 8, size, base))
    assert difference(LOCAL, config=changed(LOCAL, rope_factor=1.0)) > UNDONE


@each
def test_rotary_pairs_are_halves_and_not_neighbours(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemma3, "rotate", interleaved)
    assert difference(family) > UNDONE


@each
def test_queries_are_scaled(family: Family) -> None:
    assert difference(family, config=changed(family, query_scale=1.0)) > UNDONE


def test_the_query_scale_is_the_models_and_not_that_of_its_heads() -> None:
    assert difference(LOCAL, config=changed(LOCAL, query_scale=10**-0.5)) > UNDONE


@each
@pytest.mark.parametrize("error", [-1, 1])
def test_a_window_is_exactly_its_keys_wide(family: Family, error: int) -> None:
    windows = tuple(None if window is None else window + error for window in family.config.windows)
    assert difference(family, config=changed(family, windows=windows)) > UNDONE


@each
def test_the_last_layer_of_a_period_is_the_global_one(family: Family) -> None:
    assert difference(family, config=changed(family, windows=family.config.windows[::-1])) > UNDONE
    assert difference(family, config=changed(family, windows=family.config.windows[:1])) > UNDONE


@each
@pytest.mark.parametrize("name", ["attention_post_norm", "mlp_post_norm"])
def test_post_norms_and_pre_norms_are_not_each_others(family: Family, name: str) -> None:
    pre = name.replace("_post", "")

    def swap(block: Any) -> Any:
        return dataclasses.replace(block, **{name: getattr(block, pre), pre: getattr(block, name)})

    assert difference(family, edited(family, swap)) > UNDONE


@each
def test_the_embedding_is_scaled(family: Family) -> None:
    class Unscaled(Gemma3):
        def embed(self, tokens: jax.Array, config: gemma3.Config) -> jax.Array:
            return self.embedding[tokens]

    weights = weights_of(family, 0)
    assert difference(family, Unscaled(weights.embedding, weights.layers, weights.final_norm)) > UNDONE


@each
def test_there_are_no_soft_caps(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    class Capped(Gemma3):
        def logits(self, hidden: jax.Array, config: gemma3.Config) -> jax.Array:
            return ops.soft_cap(super().logits(hidden, config), 30.0)

    weights = weights_of(family, 0)
    assert difference(family, Capped(weights.embedding, weights.layers, weights.final_norm)) > UNDONE
    attend = ops.attend_in_order
    monkeypatch.setenv(native.VARIABLE, "off")
    monkeypatch.setattr(
        flash_attention, "attend_in_order", lambda q, k, v, seen, cap, window: attend(q, k, v, seen, 5.0, window)
    )
    assert difference(family) > UNDONE


@pytest.mark.parametrize(("preset", "factor"), list(zip(PRESETS, (25.25, 34, 50.5, 62, 73.5), strict=True)))
def test_the_embedding_factor_is_rounded_to_the_weights_dtype(preset: str, factor: float) -> None:
    ones = jnp.ones((2, 3), jnp.bfloat16)
    rows = Gemma3(ones, (), ones[0]).embed(jnp.zeros((1, 1), jnp.int32), PRESETS[preset])
    assert (rows.dtype, float(rows[0, 0, 0])) == (jnp.bfloat16, factor)
