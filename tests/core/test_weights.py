"""The one product with a weight, against NumPy in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.weights import project
from tests.tolerances import BFLOAT16, SAME

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 6, 10)).astype(np.float32)
WEIGHT = (RNG.standard_normal((5, 3, 10)) / np.sqrt(10)).astype(np.float32)


def test_project_contracts_the_last_dimension() -> None:
    expected = np.einsum("abk,ghk->abgh", X.astype(np.float64), WEIGHT.astype(np.float64))
    result = project(jnp.asarray(X), jnp.asarray(WEIGHT))
    assert result.shape == (8, 6, 5, 3)
    np.testing.assert_allclose(np.asarray(result), expected, rtol=0, atol=SAME)


def test_project_contracts_several_dimensions_in_their_order() -> None:
    weight = np.random.default_rng(1).standard_normal((7, 6, 10)).astype(np.float32) / np.float32(8)
    expected = np.einsum("ahk,dhk->ad", X.astype(np.float64), weight.astype(np.float64))
    np.testing.assert_allclose(
        np.asarray(project(jnp.asarray(X), jnp.asarray(weight), inputs=2)), expected, rtol=0, atol=SAME
    )


@pytest.mark.parametrize("rows", range(1, 9))
def test_bfloat16_products_round_once_however_few_the_rows(rows: int) -> None:
    # Few rows take the thin product on the CPU and more the dot: the same sum in float32, rounded at the end.
    x, weight = jnp.asarray(X[:rows, 0], jnp.bfloat16), jnp.asarray(WEIGHT, jnp.bfloat16)
    exact = np.einsum("bk,ghk->bgh", np.asarray(x, np.float64), np.asarray(weight, np.float64))
    result = project(x, weight)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(result, np.float64), exact, rtol=BFLOAT16, atol=SAME)


@pytest.mark.parametrize("rows", [1, 4])
def test_the_result_has_the_dtype_of_the_activations(rows: int) -> None:
    weight = jnp.asarray(WEIGHT, jnp.bfloat16)
    result = project(jnp.asarray(X[:rows, 0]), weight)
    exact = np.einsum("bk,ghk->bgh", X[:rows, 0].astype(np.float64), np.asarray(weight, np.float64))
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(result), exact, rtol=0, atol=SAME)


def test_an_empty_batch_gives_an_empty_result() -> None:
    assert project(jnp.zeros((0, 10)), jnp.asarray(WEIGHT)).shape == (0, 5, 3)
