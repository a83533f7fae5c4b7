"""The known traps of Gemma 1 and 2, each undone in turn: the oracle's logits must then be missed by far.

A comparison that would not see a mistake proves nothing. The trap list is in docs/parity.md; weights and
tokens follow from a seed, so that a mutation which shows once shows always.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core import flash_attention, ops
from gemwright.core.cache import KVCache
from gemwright.kernels import native
from gemwright.models import gemma
from gemwright.models.gemma import Config, Gemma
from tests.parity.cases import BY_NAME, KEPT, Family, weights_of
from tests.parity.stored import stored
from tests.tolerances import LOGITS, UNDONE

GEMMA1 = [BY_NAME["gemma1-mqa"], BY_NAME["gemma1-mha"]]
GEMMA2 = [BY_NAME["gemma2-gqa"], BY_NAME["gemma2-27b"]]

each = pytest.mark.parametrize("family", GEMMA1 + GEMMA2, ids=lambda family: family.name)
each_gemma1 = pytest.mark.parametrize("family", GEMMA1, ids=lambda family: family.name)
each_gemma2 = pytest.mark.parametrize("family", GEMMA2, ids=lambda family: family.name)


@pytest.fixture(autouse=True)
def plain_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps are set in what plain JAX calls, which kernels would go around."""
    monkeypatch.setenv(native.VARIABLE, "off")


def difference(family: Family, weights: Gemma | None = None, config: Config | None = None) -> float:
    """The largest difference to the oracle's logits. Not jitted, so that no trace outlives a monkeypatch."""
    weights, config, expected = weights or weights_of(family, 0), config or family.config, stored(family, 0)
    hidden, _ = weights(jnp.asarray(expected.tokens), config)
    return float(np.abs(np.asarray(weights.logits(hidden[:, KEPT], config)) - expected.logits).max())


def changed(family: Family, **values: object) -> Config:
    return dataclasses.replace(family.config, **values)


def edited(family: Family, edit: Callable[[gemma.Block], gemma.Block]) -> Gemma:
    weights = weights_of(family, 0)
    return dataclasses.replace(weights, layers=tuple(map(edit, weights.layers)))


@each
def test_with_no_trap_undone_the_oracle_is_met(family: Family) -> None:
    assert difference(family) <= LOGITS


# ------------------------------------------------------------------------------------------ common


@each
def test_the_embedding_is_scaled(family: Family) -> None:
    # The tied head keeps its rows: only what enters the layers loses the factor.
    class Unscaled(Gemma):
        def embed(self, tokens: jax.Array, config: Config) -> jax.Array:
            return self.embedding[tokens]

    weights = weights_of(family, 0)
    assert difference(family, Unscaled(weights.embedding, weights.layers, weights.final_norm)) > UNDONE


@each
def test_a_norm_multiplies_by_one_plus_its_weight(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = ops.rms_norm
    monkeypatch.setattr(gemma, "rms_norm", lambda x, weight, epsilon: norm(x, weight - 1, epsilon))
    assert difference(family) > UNDONE


@each
def test_gelu_is_the_tanh_form(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    gelu = jax.nn.gelu
    monkeypatch.setattr(jax.nn, "gelu", lambda x, approximate: gelu(x, approximate=False))
    assert difference(family) > UNDONE


@each
def test_the_gate_is_opened_and_not_the_up_branch(family: Family) -> None:
    def swap(block: gemma.Block) -> gemma.Block:
        mlp = dataclasses.replace(block.mlp, gate=block.mlp.up, up=block.mlp.gate)
        return dataclasses.replace(block, mlp=mlp)

    assert difference(family, edited(family, swap)) > UNDONE


def interleaved(x: jax.Array, by: ops.Rotation) -> jax.Array:
    """Rotates neighbours (0,1), (2,3), ... in place of the two halves of a head."""
    apart = jnp.concatenate([x[..., 0::2], x[..., 1::2]], axis=-1)
    first, second = jnp.split(ops.rotate(apart, by), 2, axis=-1)
    return jnp.stack([first, second], axis=-1).reshape(x.shape)


@each
def test_rotary_pairs_are_halves_and_not_neighbours(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemma, "rotate", interleaved)
    assert difference(family) > UNDONE


@each
def test_rotary_turns_by_the_given_base(family: Family) -> None:
    assert difference(family, config=changed(family, rope_base=1_000_000.0)) > UNDONE


@each
def test_rotary_frequencies_run_over_the_whole_head(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = ops.rotation  # the exponent i/K of a mistaken formula is that of base**0.5
    monkeypatch.setattr(gemma, "rotation", lambda positions, size, base: rotation(positions, size, base**0.5))
    assert difference(family) > UNDONE


@each
def test_positions_start_at_the_first_token_and_go_up_by_one(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only distances matter, so that a shift is harmless; standing still is not.
    rotation = ops.rotation
    monkeypatch.setattr(
        gemma, "rotation", lambda positions, size, base: rotation(jnp.zeros_like(positions), size, base)
    )
    assert difference(family) > UNDONE


@each
def test_queries_are_scaled(family: Family) -> None:
    assert difference(family, config=changed(family, query_scale=1.0)) > UNDONE


@pytest.mark.parametrize("name", ["gemma2-gqa", "gemma2-27b"])
def test_the_query_scale_is_the_models_and_not_that_of_its_heads(name: str) -> None:
    family = BY_NAME[name]
    assert difference(family, config=changed(family, query_scale=family.config.head_dim**-0.5)) > UNDONE


@each
def test_the_future_is_masked(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    causal = ops.causal

    def see_one_ahead(query: jax.Array, key: jax.Array, *rest: Any) -> jax.Array:
        return causal(query + 1, key, *rest)

    monkeypatch.setattr(gemma, "causal", see_one_ahead)
    assert difference(family) > UNDONE


@each_gemma2
def test_query_heads_share_keys_in_runs_and_not_in_turn(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    heads, groups = family.config.num_heads, family.config.num_kv_heads
    in_turn = jnp.arange(heads).reshape(heads // groups, groups).T.reshape(-1)
    back = jnp.argsort(in_turn)

    def mixed_up(queries: jax.Array, *rest: Any) -> jax.Array:
        return ops.attend_in_order(queries[:, :, in_turn], *rest)[:, :, back]

    monkeypatch.setattr(flash_attention, "attend_in_order", mixed_up)
    assert difference(family) > UNDONE


@each
def test_the_head_is_the_embedding_row_by_row(family: Family) -> None:
    weights, expected = weights_of(family, 0), stored(family, 0)
    hidden, _ = weights(jnp.asarray(expected.tokens), family.config)
    rolled = dataclasses.replace(weights, embedding=jnp.roll(weights.embedding, 1, axis=0))
    logits = np.asarray(rolled.logits(hidden[:, KEPT], family.config))
    assert np.abs(logits - expected.logits).max() > UNDONE


@each
def test_the_head_is_not_scaled_like_the_embedding(family: Family) -> None:
    weights, expected = weights_of(family, 0), stored(family, 0)
    hidden, _ = weights(jnp.asarray(expected.tokens), family.config)
    logits = np.asarray(weights.logits(hidden[:, KEPT] * math.sqrt(family.config.embed_dim), family.config))
    assert np.abs(logits - expected.logits).max() > UNDONE


@pytest.mark.parametrize(
    ("preset", "factor"),
    [("gemma-2b", 45.25), ("gemma-7b", 55.5), ("gemma2-2b", 48), ("gemma2-9b", 59.75), ("gemma2-27b", 68)],
)
def test_the_embedding_factor_is_rounded_to_the_weights_dtype(preset: str, factor: float) -> None:
    config = gemma.PRESETS[preset]
    ones = jnp.ones((2, 3), jnp.bfloat16)
    rows = Gemma(ones, (), ones[0]).embed(jnp.zeros((1, 1), jnp.int32), config)
    assert rows.dtype == jnp.bfloat16
    assert float(rows[0, 0, 0]) == factor


# ----------------------------------------------------------------------------------------- Gemma 1


@each_gemma1
def test_gemma_1_has_no_soft_caps(family: Family) -> None:
    assert difference(family, config=changed(family, attention_cap=50.0)) > UNDONE
    assert difference(family, config=changed(family, final_cap=30.0)) > UNDONE


@each_gemma1
def test_gemma_1_has_no_post_norms(family: Family) -> None:
    zeros = jnp.zeros(family.config.embed_dim)
    weights = edited(family, lambda block: dataclasses.replace(block, attention_post_norm=zeros, mlp_post_norm=zeros))
    assert difference(family, weights) > UNDONE


@each_gemma1
def test_gemma_1_has_no_window(family: Family) -> None:
    assert difference(family, config=changed(family, windows=(7, None))) > UNDONE


# ----------------------------------------------------------------------------------------- Gemma 2


@each_gemma2
def test_scores_are_soft_capped(family: Family) -> None:
    assert difference(family, config=changed(family, attention_cap=None)) > UNDONE


@each_gemma2
def test_logits_are_soft_capped(family: Family) -> None:
    assert difference(family, config=changed(family, final_cap=None)) > UNDONE


@each_gemma2
def test_the_two_caps_are_not_each_others(family: Family) -> None:
    assert difference(family, config=changed(family, final_cap=50.0)) > UNDONE
    assert difference(family, config=changed(family, attention_cap=30.0)) > UNDONE


@each_gemma2
def test_scores_are_capped_before_they_are_masked(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    # Capped after masking, a masked score becomes -50: small, but no longer nothing. Sharp random scores
    # are of the order of 1, under which -50 vanishes; a cap of 5 on both sides makes the order matter.
    config = changed(family, attention_cap=5.0)
    weights, tokens = weights_of(family, 0), jnp.asarray(stored(family, 0).tokens)
    right, _ = weights(tokens, config)
    monkeypatch.setattr(ops, "MASKED", -5.0)
    wrong, _ = weights(tokens, config)
    assert float(jnp.abs(weights.logits(right, config) - weights.logits(wrong, config)).max()) > UNDONE


@each_gemma2
@pytest.mark.parametrize("norm", ["attention_post_norm", "mlp_post_norm"])
def test_each_branch_is_normed_again(family: Family, norm: str) -> None:
    assert difference(family, edited(family, lambda block: dataclasses.replace(block, **{norm: None}))) > UNDONE


class NormedAfter(gemma.Block):
    """Post norms misplaced: on the sum in place of the branch."""

    def __call__(
        self, x: jax.Array, step: gemma.Step, window: int | None, cache: KVCache | None, config: Config
    ) -> tuple[jax.Array, KVCache | None]:
        def norm(value: jax.Array, weight: jax.Array | None) -> jax.Array:
            assert weight is not None
            return ops.rms_norm(value, weight, config.norm_epsilon)

        mixed, cache = self.attention(norm(x, self.attention_norm), step, window, cache, config)
        x = norm(x + mixed, self.attention_post_norm)
        return norm(x + self.mlp(norm(x, self.mlp_norm)), self.mlp_post_norm), cache


@each_gemma2
def test_post_norms_come_before_the_residual_is_added(family: Family) -> None:
    def after(block: gemma.Block) -> gemma.Block:
        return NormedAfter(**{field.name: getattr(block, field.name) for field in dataclasses.fields(block)})

    assert difference(family, edited(family, after)) > UNDONE


@each_gemma2
def test_pre_and_post_norms_are_not_each_others(family: Family) -> None:
    def swap(block: gemma.Block) -> gemma.Block:
        return dataclasses.replace(block, mlp_norm=block.attention_post_norm, attention_post_norm=block.mlp_norm)

    assert difference(family, edited(family, swap)) > UNDONE


@each_gemma2
@pytest.mark.parametrize("error", [-1, 1])
def test_a_window_is_exactly_its_keys_wide(family: Family, error: int) -> None:
    width = family.config.windows[0]
    assert width is not None
    assert difference(family, config=changed(family, windows=(width + error, None))) > UNDONE


@each_gemma2
def test_even_layers_are_the_local_ones(family: Family) -> None:
    assert difference(family, config=changed(family, windows=family.config.windows[::-1])) > UNDONE


@each_gemma2
def test_odd_layers_see_everything(family: Family) -> None:
    assert difference(family, config=changed(family, windows=family.config.windows[:1])) > UNDONE
