"""The shared operations against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core import ops
from gemwright.core.ops import attend, attend_in_order, causal, rms_norm, rotate, rotation, soft_cap
from tests.core import reference
from tests.tolerances import BFLOAT16, SAME


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def assert_same(result: jax.Array, expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(result), expected, rtol=0, atol=SAME)


# -------------------------------------------------------------------------------------------- norms


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_rms_norm_divides_by_the_root_mean_square_and_multiplies_by_one_plus_the_weight(scale: float) -> None:
    x, weight = normal(3, 4, 18) * np.float32(scale), normal(18)
    assert_same(rms_norm(jnp.asarray(x), jnp.asarray(weight), 1e-6), reference.rms_norm(x, weight, 1e-6))


def test_rms_norm_of_bfloat16_rounds_once() -> None:
    x, weight = jnp.asarray(normal(5, 18), jnp.bfloat16), jnp.asarray(normal(18), jnp.bfloat16)
    expected = reference.rms_norm(np.asarray(x, np.float64), np.asarray(weight, np.float64), 1e-6)
    result = rms_norm(x, weight, 1e-6)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(result, np.float64), expected, rtol=BFLOAT16, atol=SAME)


def test_rms_norm_of_zeros_is_zero_and_has_a_finite_gradient() -> None:
    gradient = jax.grad(lambda x: jnp.sum(rms_norm(x, jnp.zeros(6), 1e-6)))(jnp.zeros((2, 6)))
    assert rms_norm(jnp.zeros((2, 6)), jnp.ones(6), 1e-6).tolist() == [[0.0] * 6] * 2
    assert bool(jnp.isfinite(gradient).all())


# --------------------------------------------------------------------------------------------- caps


def test_a_soft_cap_leaves_small_values_and_bounds_large_ones() -> None:
    x = jnp.array([-1e30, -40.0, -0.1, 0.0, 0.1, 40.0, 1e30])
    capped = soft_cap(x, 30.0)
    assert_same(capped, 30 * np.tanh(np.asarray(x, np.float64) / 30))
    assert (float(capped[0]), float(capped[-1])) == (-30.0, 30.0)


def test_no_cap_changes_nothing() -> None:
    x = jnp.asarray(normal(4))
    assert soft_cap(x, None) is x


# ----------------------------------------------------------------------------------------- rotation


def rotated(x: jax.Array, positions: np.ndarray) -> jax.Array:
    return rotate(x, rotation(jnp.asarray(positions), x.shape[-1], 10_000.0))


def test_rotation_turns_each_pair_of_halves_by_its_own_angle() -> None:
    x, positions = normal(2, 5, 3, 10), np.array([[0, 1, 2, 3, 99], [7, 50, 3, 3, 64]])
    assert_same(rotated(jnp.asarray(x), positions), reference.rotate(x, positions, 10_000.0))


def test_position_zero_is_not_turned() -> None:
    x = jnp.asarray(normal(1, 4, 2, 6))
    assert bool((rotated(x, np.zeros((1, 4))) == x).all())


def test_rotated_products_depend_on_the_distance_alone() -> None:
    query, key = (jnp.asarray(normal(1, 1, 1, 14, seed=seed)) for seed in (0, 1))

    def product(at: int, other: int) -> float:
        left = rotated(query, np.array([[at]]))
        return float(jnp.sum(left * rotated(key, np.array([[other]]))))

    assert product(9, 4) == pytest.approx(product(25, 20), abs=SAME)
    assert abs(product(9, 4) - product(4, 9)) > 0.1


def test_bfloat16_is_rotated_in_float32_even_far_out() -> None:
    # A bfloat16 position has 8 bits: 8191 would become 8192, and the first pair turn by a radian more.
    x, positions = jnp.asarray(normal(1, 3, 2, 8), jnp.bfloat16), np.array([[257, 4097, 8191]])
    result = rotated(x, positions)
    expected = reference.rotate(np.asarray(x, np.float32), positions, 10_000.0)
    assert result.dtype == jnp.bfloat16
    # At such angles the float32 frequencies are off by 8191 * 2^-24 radians, as they are in every reference.
    np.testing.assert_allclose(np.asarray(result, np.float64), expected, rtol=BFLOAT16, atol=2e-3)


# ---------------------------------------------------------------------------------------- attention


def random_attention(heads: int, groups: int) -> tuple[np.ndarray, ...]:
    visible = normal(2, 5, 9) > 0
    visible[:, :, 0], visible[:, :, 3] = True, False  # every query sees something; one key is seen by nobody
    return normal(2, 5, heads, 6), normal(2, 9, groups, 6), normal(2, 9, groups, 6, seed=1), visible


@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (3, 3), (6, 2), (5, 1)])
@pytest.mark.parametrize("cap", [None, 2.0])
def test_attention_is_softmax_over_the_keys_of_each_heads_group(heads: int, groups: int, cap: float | None) -> None:
    inputs = random_attention(heads, groups)
    assert_same(attend(*map(jnp.asarray, inputs), cap), reference.attend(*inputs, cap))


@pytest.mark.parametrize("most_scores", [1, 2 * 6 * 9 * 2, 2 * 6 * 9 * 4])
def test_attention_in_blocks_of_queries_is_attention(most_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The sizes make blocks of 1, 2 and 4 of the 5 queries; the last two leave a rest.
    inputs = random_attention(6, 2)
    monkeypatch.setattr(ops, "_ON_CPU", ops.Blocks(64, 8, most_scores))
    assert_same(attend(*map(jnp.asarray, inputs), 2.0), reference.attend(*inputs, 2.0))


@pytest.mark.parametrize("length", [1, 5, 8, 9, 30])
def test_attention_in_order_is_attention(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks of 2 queries, or of a quarter of the length where that is more; lengths that leave a rest among them.
    monkeypatch.setattr(ops, "_ON_CPU", ops.Blocks(2, 4, 1 << 22))
    queries, keys, values = (normal(2, length, heads, 6, seed=heads) for heads in (4, 2, 2))
    positions = jnp.broadcast_to(jnp.arange(length), (2, length))
    visible = np.asarray(causal(positions, positions, None)) & (normal(2, length, length) > -1)
    visible[:, np.arange(length), np.arange(length)] = True
    assert_same(
        attend_in_order(*map(jnp.asarray, (queries, keys, values, visible)), 2.0),
        reference.attend(queries, keys, values, visible, 2.0),
    )


@pytest.mark.parametrize("window", [1, 2, 3, 7, 40])
def test_attention_in_order_is_attention_within_a_window(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Padding stands before the first row and after the second; its own results nobody reads.
    monkeypatch.setattr(ops, "_ON_CPU", ops.Blocks(2, 4, 1 << 22))
    queries, keys, values = (normal(2, 30, heads, 6, seed=heads) for heads in (4, 2, 2))
    positions = np.stack([np.arange(-5, 25), np.where(np.arange(30) < 26, np.arange(30), -1)]).clip(min=-1)
    visible = np.asarray(causal(jnp.asarray(positions), jnp.asarray(positions), window))
    found = attend_in_order(*map(jnp.asarray, (queries, keys, values, visible)), 2.0, window)
    assert_same(found[positions >= 0], reference.attend(queries, keys, values, visible, 2.0)[positions >= 0])


def test_blocks_are_spared_the_keys_before_their_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_ON_CPU", ops.Blocks(2, 4, 1 << 22))
    seen: list[int] = []
    attend_all = ops.attend
    monkeypatch.setattr(ops, "attend", lambda q, k, *rest: seen.append(k.shape[1]) or attend_all(q, k, *rest))
    x, visible = jnp.ones((1, 32, 1, 4)), jnp.ones((1, 32, 32), bool)
    attend_in_order(x, x, x, visible, None, 5)
    assert seen == [8, 12, 12, 12]


def test_what_is_masked_has_no_influence_at_all() -> None:
    queries, keys, values, visible = random_attention(6, 2)
    before = attend(*map(jnp.asarray, (queries, keys, values, visible)), 50.0)
    keys[:, 3], values[:, 3] = 1e4, -1e4
    after = attend(*map(jnp.asarray, (queries, keys, values, visible)), 50.0)
    assert bool((before == after).all())


def test_a_query_that_sees_nothing_gets_finite_values_and_gradients() -> None:
    queries, keys, values, visible = map(jnp.asarray, random_attention(3, 3))
    visible = jnp.zeros_like(visible)
    gradient = jax.grad(lambda q: jnp.sum(attend(q, keys, values, visible, 50.0)))(queries)
    assert bool(jnp.isfinite(attend(queries, keys, values, visible, 50.0)).all())
    assert bool(jnp.isfinite(gradient).all())


def test_the_softmax_of_bfloat16_is_computed_in_float32() -> None:
    # 300 equal scores: shares of 1/300 summed in bfloat16 would stop growing at 1/2 or less.
    ones = jnp.ones((1, 300, 1, 2), jnp.bfloat16)
    result = attend(ones[:, :1], ones, ones, jnp.ones((1, 1, 300), bool), None)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(result, np.float64), 1.0, rtol=BFLOAT16)


# ------------------------------------------------------------------------------------------ masking


def test_a_query_sees_itself_and_its_past() -> None:
    positions = jnp.arange(4)[None]
    assert causal(positions, positions, None)[0].tolist() == np.tri(4, dtype=bool).tolist()


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_a_window_holds_exactly_that_many_keys_the_querys_own_included(window: int) -> None:
    positions = jnp.arange(9)[None]
    seen = causal(positions, positions, window)[0].sum(axis=-1).tolist()
    assert seen == [min(at + 1, window) for at in range(9)]


def test_empty_slots_and_padding_are_seen_by_nobody_and_see_nothing() -> None:
    visible = causal(jnp.array([[-1, 5]]), jnp.array([[-1, 4, -1, 5, 6]]), None)
    assert visible[0].tolist() == [[False] * 5, [False, True, False, True, False]]


def test_layer_norm_is_the_formula_in_float64() -> None:
    draw = np.random.default_rng(0)
    x, scale, bias = draw.normal(3, 2, (4, 17)), draw.normal(size=17), draw.normal(size=17)
    exact = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias
    given = (jnp.asarray(array, jnp.float32) for array in (x, scale, bias))
    np.testing.assert_allclose(np.asarray(ops.layer_norm(*given, 1e-6)), exact, rtol=0, atol=SAME)
    assert ops.layer_norm(jnp.ones((2, 3), jnp.bfloat16), jnp.ones(3), jnp.ones(3), 1e-6).dtype == jnp.bfloat16
