"""Packed weights: small errors, the same model, and no silent damage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.module import Spec, count, initialise, named_leaves, named_weights
from gemwright.core.packed import Packed, pack_weight, pack_weights
from gemwright.core.quantise import dequantise, quantise
from gemwright.core.weights import lookup, project
from gemwright.kernels.packed_product import GROUP, unpack
from gemwright.models.gemma import Gemma, gemma1

CONFIG = gemma1(vocab_size=50, embed_dim=48, num_layers=2, num_heads=3, num_kv_heads=1, head_dim=20, mlp_dim=70)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def error(matrix: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> float:
    return float(np.mean(np.square(dequantise(codes, scales, matrix.shape[1]) - matrix)))


def test_eight_bits_are_within_half_a_step() -> None:
    matrix = normal(9, 83)
    codes, scales = quantise(matrix, 8)
    steps = np.repeat(scales.astype(np.float32), GROUP, axis=1)[:, :83]
    # A scale rounded down to float16, or fitted, cuts the largest value by a little more.
    assert (np.abs(dequantise(codes, scales, 83) - matrix) <= 0.57 * np.abs(steps)).all()


def test_searched_scales_have_a_smaller_error_than_the_largest_value_gives() -> None:
    matrix = normal(64, 256)
    groups = matrix.reshape(64, 8, 32)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=-1)[..., None], axis=-1)[..., 0]
    plain_scales = (largest / -8).astype(np.float16)
    steps = np.repeat(plain_scales.astype(np.float32), GROUP, axis=1)
    plain = np.clip(np.rint(matrix / steps), -8, 7).reshape(groups.shape)
    assert error(matrix, *quantise(matrix, 4)) < 0.9 * error(matrix, plain, plain_scales)


@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_stay_zeros(bits: int) -> None:
    codes, scales = quantise(np.zeros((3, 40), np.float32), bits)
    assert not dequantise(codes, scales, 40).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_values_that_cannot_be_kept_are_refused_by_name(bad: float) -> None:
    specs = Gemma.specs(CONFIG)
    weights = initialise(specs, 0)
    damaged = jax.tree_util.tree_map_with_path(
        lambda path, w: w.at[0].set(bad) if "layers[1].mlp.down" in jax.tree_util.keystr(path) else w, weights
    )
    with pytest.raises(ValueError, match=r"weight layers\.1\.mlp\.down: expected finite"):
        pack_weights(specs, damaged, 4)


def test_a_packed_weight_stands_for_its_shape() -> None:
    spec = Spec((4, 8, 48), ("heads", "head_dim", "embed"))
    weight = pack_weight(jnp.asarray(normal(4, 8, 48)), spec, 4)
    x = jnp.asarray(normal(2, 5, 48))
    assert (weight.shape, weight.bits) == (spec.shape, 4)
    assert project(x, weight).shape == (2, 5, 4, 8)


def test_a_row_of_a_packed_embedding_is_the_row_of_its_values() -> None:
    weight = pack_weight(jnp.asarray(normal(50, 48)), Spec((50, 48), ("vocab", "embed")), 8)
    tokens = jnp.asarray([[3, 49], [0, 17]])
    expected = unpack(weight.codes, weight.scales, 50, 48)[tokens].astype(jnp.bfloat16)
    assert bool((lookup(weight, tokens) == expected).all())


@pytest.mark.parametrize(("bits", "limit"), [(8, 0.02), (4, 0.25)])
def test_a_packed_model_is_close_to_the_model(bits: int, limit: float) -> None:
    specs = Gemma.specs(CONFIG)
    weights = initialise(specs, 0, jnp.bfloat16)
    packed = pack_weights(specs, weights, bits)
    assert isinstance(packed.layers[0].attention.query, Packed)
    tokens = jnp.arange(12)[None]

    def logits(model: Gemma) -> np.ndarray:
        hidden, _ = model(tokens, CONFIG)
        return np.asarray(model.logits(hidden, CONFIG))

    exact, found = logits(weights), logits(packed)
    # Relative errors of a weight are about 0.4% and 7%; sums of independent ones grow no faster than the logits.
    assert np.linalg.norm(found - exact) < limit * np.linalg.norm(exact)
    assert np.linalg.norm(found - exact) > 0


@pytest.mark.parametrize("bits", [4, 8])
def test_values_too_small_for_a_scale_become_zeros(bits: int) -> None:
    codes, scales = quantise(np.full((2, 64), 1e-42, np.float32), bits)
    assert not dequantise(codes, scales, 64).any()


@pytest.mark.parametrize("bits", [4, 8])
def test_inputs_that_matter_are_kept_better(bits: int) -> None:
    matrix = normal(64, 96)
    important = np.where(np.arange(96) % 8 == 0, 100.0, 1.0)

    def errors(importance: np.ndarray | None) -> np.ndarray:
        return np.square(dequantise(*quantise(matrix, bits, importance), 96) - matrix).mean(axis=0)

    plain, found = errors(None), errors(important)
    assert (found * important).mean() < (0.95 if bits == 4 else 0.99) * (plain * important).mean()
    assert found[::8].mean() < plain[::8].mean()


@pytest.mark.parametrize(("bits", "kind"), [(4, "Q4_0"), (8, "Q8_0")])
def test_the_error_is_below_that_of_llama_cpp_at_the_same_bytes(bits: int, kind: str) -> None:
    from gguf import GGMLQuantizationType, quants

    matrix = normal(128, 512)
    theirs = quants.dequantize(quants.quantize(matrix, GGMLQuantizationType[kind]), GGMLQuantizationType[kind])
    codes, scales = quantise(matrix, bits)
    assert error(matrix, codes, scales) < 0.9 * np.mean(np.square(theirs - matrix))


def test_weights_are_packed_with_their_own_bits_and_importance_and_told() -> None:
    specs = Gemma.specs(CONFIG)
    weights = initialise(specs, 0)
    named = named_leaves(specs)
    bits = {name: 8 if "query" in name else 4 for name in named}
    important = {"embedding": np.arange(48, dtype=np.float32)}
    told: list[tuple[int, int]] = []
    packed = pack_weights(specs, weights, bits, important, lambda done, total: told.append((done, total)))
    found = named_weights(specs, packed)
    assert (found["layers.0.attention.query"].bits, found["layers.0.attention.key"].bits) == (8, 4)
    expected = pack_weight(weights.embedding, specs.embedding, 4, important["embedding"])
    np.testing.assert_array_equal(np.asarray(found["embedding"].codes), np.asarray(expected.codes))
    assert told[-1] == (count(specs), count(specs))
    with pytest.raises(ValueError, match="weight embedding: expected a dense one to quantise, found a Packed"):
        pack_weights(specs, packed, 4)


@pytest.mark.parametrize("tokens", [2, 8, 16])
def test_a_decode_step_is_the_same_however_many_texts_and_tokens_it_has(tokens: int) -> None:
    weight = pack_weight(jnp.asarray(normal(37, 83)), Spec((37, 83), ("out", "in")), 4)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((3, tokens, 83)), jnp.bfloat16)
    together = np.asarray(project(x, weight), np.float32)
    for row in range(3):
        for token in range(tokens):
            alone = project(x[row : row + 1, token : token + 1], weight)
            np.testing.assert_array_equal(together[row, token], np.asarray(alone, np.float32)[0, 0])
