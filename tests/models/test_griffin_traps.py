"""The known traps of RecurrentGemma, each undone in turn: the oracle's logits must then be missed by far."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core import flash_attention, ops
from gemwright.kernels import gated_recurrence
from gemwright.kernels.gated_recurrence import Place
from gemwright.models import griffin, recurrence
from gemwright.models.griffin import Griffin
from gemwright.models.recurrence import Recurrence
from tests.models.test_traps import changed, difference, edited, plain_jax
from tests.parity.cases import BY_NAME, Family, weights_of
from tests.tolerances import LOGITS, UNDONE

__all__ = ["plain_jax"]  # of these tests too

each = pytest.mark.parametrize("family", [BY_NAME["griffin-mqa"], BY_NAME["griffin-mha"]], ids=lambda one: one.name)


@each
def test_with_no_trap_undone_the_oracle_is_met(family: Family) -> None:
    assert difference(family) <= LOGITS


def with_part(family: Family, part: str, edit: Callable[[Any], Any]) -> Griffin:
    """All layers that have such a part with an edited one."""

    def edit_block(block: griffin.Block) -> griffin.Block:
        found = getattr(block, part)
        return block if found is None else dataclasses.replace(block, **{part: edit(found)})

    return edited(family, edit_block)  # pyright: ignore


def without(name: str) -> Callable[[Any], Any]:
    return lambda part: dataclasses.replace(part, **{name: jax.tree.map(jnp.zeros_like, getattr(part, name))})


def swapped(one: str, other: str) -> Callable[[Any], Any]:
    return lambda part: dataclasses.replace(part, **{one: getattr(part, other), other: getattr(part, one)})


# ---------------------------------------------------------------------------- embedding, norms, head


@each
def test_the_embedding_is_scaled(family: Family) -> None:
    class Unscaled(Griffin):
        def embed(self, tokens: jax.Array, config: griffin.Config) -> jax.Array:
            return self.embedding[tokens]

    weights = weights_of(family, 0)
    assert difference(family, Unscaled(weights.embedding, weights.layers, weights.final_norm)) > UNDONE


def test_the_embeddings_factor_is_rounded_to_bfloat16_even_for_float32() -> None:
    class Exact(Griffin):
        def embed(self, tokens: jax.Array, config: griffin.Config) -> jax.Array:
            return self.embedding[tokens] * config.embed_dim**0.5

    family = BY_NAME["griffin-mha"]  # sqrt(40) is no bfloat16
    weights = weights_of(family, 0)
    assert difference(family, Exact(weights.embedding, weights.layers, weights.final_norm)) > UNDONE


@pytest.mark.parametrize(("preset", "factor"), [("recurrentgemma-2b", 50.5), ("recurrentgemma-9b", 64)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_factor_is_the_published_one(preset: str, factor: float, dtype: Any) -> None:
    ones = jnp.ones((2, 3), dtype)
    rows = Griffin(ones, (), ones[0]).embed(jnp.zeros((1, 1), jnp.int32), griffin.PRESETS[preset])
    assert (rows.dtype, float(rows[0, 0, 0])) == (dtype, factor)


@each
def test_a_norm_multiplies_by_one_plus_its_weight(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = ops.rms_norm
    monkeypatch.setattr(griffin, "rms_norm", lambda x, weight, epsilon: norm(x, weight - 1, epsilon))
    assert difference(family) > UNDONE


@each
def test_logits_are_soft_capped_at_30(family: Family) -> None:
    assert difference(family, config=changed(family, final_cap=None)) > UNDONE
    assert difference(family, config=changed(family, final_cap=50.0)) > UNDONE


@each
def test_scores_of_attention_are_not_capped(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    def capped(queries: jax.Array, keys: jax.Array, values: jax.Array, seen: jax.Array, *_: Any) -> jax.Array:
        return ops.attend_in_order(queries, keys, values, seen, 5.0)

    monkeypatch.setattr(flash_attention, "attend_in_order", capped)
    assert difference(family) > UNDONE


# ---------------------------------------------------------------------------------------- attention


@each
@pytest.mark.parametrize("error", [-1, 1])
def test_a_window_is_exactly_its_keys_wide(family: Family, error: int) -> None:
    assert difference(family, config=changed(family, window=family.config.window + error)) > UNDONE


@each
def test_the_first_half_of_a_head_is_rotated(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    def second_half(x: jax.Array, by: ops.Rotation) -> jax.Array:
        kept, turned = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([kept, ops.rotate(turned, by)], axis=-1)

    def whole(x: jax.Array, by: ops.Rotation) -> jax.Array:
        return ops.rotate(x, tuple(jnp.tile(part, 2) for part in by))

    for wrong in (whole, second_half, lambda x, by: x):
        monkeypatch.setattr(griffin, "rotate_half", wrong)
        assert difference(family) > UNDONE


@each
def test_frequencies_run_over_the_rotated_half(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = ops.rotation  # exponents of the whole head are those of the square root of the base
    monkeypatch.setattr(griffin, "rotation", lambda positions, size, base: rotation(positions, size, base**0.5))
    assert difference(family) > UNDONE


@each
def test_queries_are_scaled_by_their_heads(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = griffin.rotate_half
    monkeypatch.setattr(griffin, "rotate_half", lambda x, by: 2.0 * turn(x, by))
    assert difference(family) > UNDONE


@each
@pytest.mark.parametrize("part", ["attention", "recurrence"])
def test_outputs_have_biases(family: Family, part: str) -> None:
    weights = with_part(family, part, lambda found: dataclasses.replace(found, output=without("bias")(found.output)))
    assert difference(family, weights) > UNDONE


# --------------------------------------------------------------------------------------- recurrence


@each
@pytest.mark.parametrize("name", ["conv_bias", "input_gate_bias", "decay_gate_bias", "input_gate", "decay_gate"])
def test_the_recurrence_has_biases_and_gates(family: Family, name: str) -> None:
    assert difference(family, with_part(family, "recurrence", without(name))) > UNDONE


@each
@pytest.mark.parametrize("names", [("gate", "input"), ("input_gate", "decay_gate")])
def test_gates_are_not_each_others(family: Family, names: tuple[str, str]) -> None:
    assert difference(family, with_part(family, "recurrence", swapped(*names))) > UNDONE


@each
def test_blocks_of_gates_are_stored_inputs_first(family: Family) -> None:
    def transpose(part: Recurrence) -> Recurrence:
        return dataclasses.replace(part, decay_gate=part.decay_gate.swapaxes(1, 2))

    assert difference(family, with_part(family, "recurrence", transpose)) > UNDONE


@each
def test_the_last_tap_is_the_current_tokens(family: Family) -> None:
    def reverse(part: Recurrence) -> Recurrence:
        return dataclasses.replace(part, conv_weight=part.conv_weight[..., ::-1])

    assert difference(family, with_part(family, "recurrence", reverse)) > UNDONE


@each
def test_every_tap_counts(family: Family) -> None:
    for tap in range(family.config.taps):

        def drop(part: Recurrence, tap: int = tap) -> Recurrence:
            return dataclasses.replace(part, conv_weight=part.conv_weight.at[..., tap].set(0))

        assert difference(family, with_part(family, "recurrence", drop)) > UNDONE


@each
def test_a_decay_is_that_of_a_softplus(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.nn, "softplus", jax.nn.sigmoid)
    assert difference(family) > UNDONE


def with_arguments(monkeypatch: pytest.MonkeyPatch, edit: Callable[..., Any]) -> None:
    """The recurrence with another rate and other places."""

    def edited(x: Any, gates: Any, rate: Any, places: Any, start: Any) -> jax.Array:
        return gated_recurrence.gated_recurrence(x, gates, *edit(rate, places), start)

    monkeypatch.setattr(recurrence, "gated_recurrence", edited)


@each
def test_a_decays_exponent_has_the_factor_8(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    with_arguments(monkeypatch, lambda rate, places: (rate / 8, places))
    assert difference(family) > UNDONE


@each
def test_the_first_token_goes_in_unscaled(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    with_arguments(monkeypatch, lambda rate, places: (rate, jnp.where(places == Place.FIRST, Place.ALONE, places)))
    assert difference(family) > UNDONE


@each
def test_the_state_is_carried_on(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    with_arguments(monkeypatch, lambda rate, places: (rate, jnp.where(places == Place.GOES_ON, Place.ALONE, places)))
    assert difference(family) > UNDONE


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recurrence in plain JAX, whose parts can be exchanged."""
    monkeypatch.setattr(recurrence, "gated_recurrence", gated_recurrence.gated_recurrence_reference)


@each
@pytest.mark.usefixtures("reference")
def test_inputs_are_scaled_by_the_root_of_1_minus_a_squared(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    assert difference(family) <= LOGITS
    for wrong in (jnp.ones_like, lambda x: x, lambda x: jnp.sqrt(1 - jnp.sqrt(1 - x))):
        monkeypatch.setattr(gated_recurrence, "bounded_sqrt", wrong)
        assert difference(family) > UNDONE


@each
@pytest.mark.usefixtures("reference")
def test_the_state_is_kept_in_float32(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = gated_recurrence.linear_scan

    def narrow(decay: jax.Array, inputs: jax.Array, start: jax.Array) -> jax.Array:
        return scan(decay.astype(jnp.bfloat16), inputs.astype(jnp.bfloat16), start.astype(jnp.bfloat16)).astype(
            "float32"
        )

    monkeypatch.setattr(gated_recurrence, "linear_scan", narrow)
    assert difference(family) > UNDONE


# ---------------------------------------------------------------------------------------------- MLP


@each
def test_gelu_is_the_tanh_form_in_both_places(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    gelu = jax.nn.gelu
    monkeypatch.setattr(jax.nn, "gelu", lambda x, approximate: gelu(x, approximate=False))
    assert difference(family) > UNDONE


@each
def test_the_gate_is_opened_and_not_the_up_branch(family: Family) -> None:
    assert difference(family, with_part(family, "mlp", swapped("gate", "up"))) > UNDONE


@each
@pytest.mark.parametrize("name", ["gate", "up", "down"])
def test_the_mlp_has_biases(family: Family, name: str) -> None:
    weights = with_part(
        family, "mlp", lambda part: dataclasses.replace(part, **{name: without("bias")(getattr(part, name))})
    )
    assert difference(family, weights) > UNDONE


@each
def test_the_two_norms_of_a_block_are_not_each_others(family: Family) -> None:
    weights = edited(family, swapped("mixer_norm", "mlp_norm"))
    assert difference(family, weights) > UNDONE
    assert np.isfinite(difference(family, weights))
