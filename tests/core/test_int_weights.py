"""Quantised weights in rows: the values of their codes, sharded or packed, and gradients to activations alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from gemwright.core.int_weights import IntWeight, few_rows_product, int_product, signed_codes, to_dense, to_int
from gemwright.core.module import Spec, initialise, map_specs
from gemwright.core.packed import Packed, to_packed
from gemwright.core.quantise import dequantise, quantise
from gemwright.core.sharding import shardings
from gemwright.core.weights import lookup, project
from gemwright.kernels.packed_product import unpack
from gemwright.models.gemma import Gemma, gemma1
from tests.tolerances import SAME

HEADS = Spec((4, 10, 70), ("heads", "head_dim", "embed"))
OUTPUT = Spec((6, 4, 10), ("embed", "heads", "head_dim"), inputs=2)


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("spec", [HEADS, OUTPUT])
def test_a_weight_stands_for_its_codes_times_its_scales(spec: Spec, bits: int) -> None:
    dense = normal(*spec.shape)
    weight = to_int(dense, spec, bits)
    codes, scales = quantise(np.asarray(dense).reshape(-1, spec.fan_in), bits)
    assert (weight.bits, weight.shape, weight.dtype) == (bits, spec.shape, jnp.float32)
    np.testing.assert_array_equal(np.asarray(signed_codes(weight)), codes)
    np.testing.assert_array_equal(
        np.asarray(to_dense(weight)), dequantise(codes, scales, spec.fan_in).reshape(spec.shape)
    )


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("spec", [HEADS, OUTPUT])
def test_few_rows_take_another_way_to_the_same_product(spec: Spec, bits: int) -> None:
    weight, rows = to_int(normal(*spec.shape), spec, bits), 0.1 * normal(3, spec.fan_in)  # sums stay near 1
    expected = int_product(rows, weight)
    np.testing.assert_allclose(np.asarray(few_rows_product(rows, weight)), np.asarray(expected), rtol=0, atol=SAME)

    def loss(product, rows: jax.Array) -> jax.Array:
        return jnp.mean(product(rows, weight))

    found, expected = (jax.grad(partial(loss, product))(rows) for product in (few_rows_product, int_product))
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=SAME, atol=SAME)


def test_four_bits_take_half_the_bytes_of_eight() -> None:
    four, eight = (to_int(normal(*HEADS.shape), HEADS, bits) for bits in (4, 8))
    assert 2 * four.codes.nbytes == eight.codes.nbytes


@pytest.mark.parametrize("bits", [4, 8])
def test_products_and_rows_are_those_of_the_values(bits: int) -> None:
    embedding = Spec((50, 70), ("vocab", "embed"))
    for spec, x in ((HEADS, normal(2, 3, 70)), (OUTPUT, normal(2, 4, 10)), (embedding, normal(3, 70))):
        weight = to_int(normal(*spec.shape), spec, bits)
        found, expected = project(x, weight, spec.inputs), project(x, to_dense(weight), spec.inputs)
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=SAME)
    weight, tokens = to_int(normal(50, 70), embedding, bits), jnp.asarray([[3, 49], [0, 3]])
    np.testing.assert_array_equal(np.asarray(lookup(weight, tokens)), np.asarray(to_dense(weight)[tokens]))
    assert lookup(weight, jnp.zeros((0, 2), jnp.int32)).shape == (0, 2, 70)


@pytest.mark.parametrize("bits", [4, 8])
def test_packing_keeps_the_values(bits: int) -> None:
    weight = to_int(normal(*HEADS.shape), HEADS, bits)
    packed = to_packed(weight)
    assert isinstance(packed, Packed)
    values = unpack(packed.codes, packed.scales, 40, 70).reshape(HEADS.shape)
    np.testing.assert_array_equal(np.asarray(values), np.asarray(to_dense(weight)))


def test_gradients_flow_to_activations_alone() -> None:
    weight, x = to_int(normal(*HEADS.shape), HEADS, 4), normal(3, 70)

    def loss(x: jax.Array, scales: jax.Array) -> jax.Array:
        return jnp.sum(project(x, IntWeight(weight.codes, scales, weight.shape, weight.dtype)) ** 2)

    found, to_scales = jax.grad(loss, argnums=(0, 1))(x, weight.scales)
    expected = jax.grad(lambda x: jnp.sum(project(x, to_dense(weight)) ** 2))(x)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=SAME, atol=SAME)
    assert not to_scales.any()
    with pytest.raises(TypeError, match="got uint8"):
        jax.grad(lambda w: jnp.sum(project(x, w)))(weight)


def test_a_sharded_model_of_few_bits_computes_the_same() -> None:
    config = gemma1(vocab_size=64, embed_dim=64, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=32, mlp_dim=128)
    specs = Gemma.specs(config)
    dense = initialise(specs, 0)
    weights = map_specs(lambda _, spec, w: to_int(w, spec, 4) if w.ndim > 1 else w, specs, dense)
    declared = map_specs(lambda _, spec: IntWeight.specs(spec, 4, jnp.float32) if len(spec.shape) > 1 else spec, specs)
    mesh = jax.make_mesh((2,), ("tensor",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(weights, shardings(declared, mesh))
    tokens = jnp.arange(8)[None]

    def logits(model: Gemma) -> np.ndarray:
        return np.asarray(jax.jit(lambda model: model.logits(model(tokens, config)[0], config))(model))

    gate = spread.layers[0].mlp.gate
    assert isinstance(gate, IntWeight)
    assert isinstance(gate.codes.sharding, NamedSharding)
    assert gate.codes.addressable_shards[0].data.nbytes * 2 == gate.codes.nbytes
    np.testing.assert_allclose(logits(spread), logits(weights), rtol=0, atol=SAME)
