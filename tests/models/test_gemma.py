"""What Gemma 1 and 2 promise beside parity: sizes, shapes, windows, bounded caches, paths that agree.

Weights and tokens follow from seeds; the paths are compared at a gain where float32 noise stays well under
the tolerance (see `sharp_weights`).
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.cache import SPARE, empty_cache
from gemwright.core.module import abstract, count, named_leaves
from gemwright.models import gemma
from gemwright.models.gemma import PRESETS, Config, Gemma, cache_slots
from tests.parity import ours
from tests.parity.cases import BY_NAME, MODERATE, PREFILL, ROWS, TOKENS, forced_tokens, weights_of
from tests.tolerances import SAME, UNDONE

PARAMETERS = {
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "codegemma-2b": 2_506_172_416,
    "codegemma-7b": 8_537_680_896,
    "gemma2-2b": 2_614_341_888,
    "gemma2-9b": 9_241_705_984,
    "gemma2-27b": 27_227_128_320,
}
LOCAL = BY_NAME["gemma2-gqa"]  # windows 5 and none, in turn


def assert_same(left: np.ndarray | jax.Array, right: np.ndarray | jax.Array) -> None:
    np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=0, atol=SAME)


# ------------------------------------------------------------------------------------------- sizes


def test_every_preset_has_a_known_count() -> None:
    assert set(PARAMETERS) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_specs_count_the_parameters_to_the_unit(preset: str) -> None:
    specs = Gemma.specs(PRESETS[preset])
    assert count(specs) == PARAMETERS[preset]
    leaves = jax.tree.leaves(abstract(specs, jnp.dtype(jnp.bfloat16)))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves), "counting must allocate nothing"
    assert sum(leaf.size for leaf in leaves) == PARAMETERS[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_runs_in_bfloat16_at_full_size_without_allocating(preset: str) -> None:
    config = PRESETS[preset]
    weights = abstract(Gemma.specs(config), jnp.dtype(jnp.bfloat16))
    tokens = jax.ShapeDtypeStruct((2, 8), jnp.int32)

    def call(weights: Gemma, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden, _ = weights(tokens, config)
        return hidden, weights.logits(hidden, config)

    hidden, logits = jax.eval_shape(call, weights, tokens)
    assert (hidden.shape, hidden.dtype) == ((2, 8, config.embed_dim), jnp.bfloat16)
    assert (logits.shape, logits.dtype) == ((2, 8, 256_000), jnp.float32)


def test_only_the_27b_scales_queries_by_the_width_a_head_would_have() -> None:
    assert PRESETS["gemma2-27b"].query_scale == 144**-0.5
    others = [config for name, config in PRESETS.items() if name != "gemma2-27b"]
    assert {config.query_scale for config in others} == {256**-0.5}


def test_gemma_1_has_no_weights_for_post_norms() -> None:
    names = named_leaves(Gemma.specs(BY_NAME["gemma1-mqa"].config))
    assert not [name for name in names if "post_norm" in name]


def test_sizes_that_do_not_divide_are_refused() -> None:
    sizes = {"vocab_size": 5, "embed_dim": 8, "num_layers": 1, "mlp_dim": 4}
    with pytest.raises(ValueError, match="num_heads 3 is no multiple of num_kv_heads 2"):
        gemma.gemma1(num_heads=3, num_kv_heads=2, head_dim=4, **sizes)
    with pytest.raises(ValueError, match="head_dim 7 is odd"):
        gemma.gemma1(num_heads=2, num_kv_heads=2, head_dim=7, **sizes)


# ------------------------------------------------------------------------------- windows and caches


def test_even_layers_of_gemma_2_see_a_window_and_odd_ones_everything() -> None:
    config = PRESETS["gemma2-9b"]
    assert [config.window(layer) for layer in range(config.num_layers)] == [4096, None] * 21


def cache_bytes(config: Config, layer: int, capacity: int) -> int:
    slots = cache_slots(config, layer, capacity)
    shapes = jax.eval_shape(lambda: empty_cache(1, slots, config.num_kv_heads, config.head_dim, jnp.bfloat16))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def test_the_memory_of_local_layers_stops_growing_at_the_window() -> None:
    config = PRESETS["gemma2-9b"]
    assert cache_bytes(config, 0, 2048) * 2 == cache_bytes(config, 0, 4096)
    assert cache_bytes(config, 0, 65_536) == cache_bytes(config, 0, 8192) < 1.004 * cache_bytes(config, 0, 4096)
    assert cache_bytes(config, 1, 65_536) == 16 * cache_bytes(config, 1, 4096)


def test_a_short_capacity_needs_no_full_ring() -> None:
    assert [cache_slots(LOCAL.config, layer, 4) for layer in range(3)] == [4, 4, 4]


def test_a_ring_that_ran_far_past_its_window_holds_only_the_last_positions() -> None:
    weights, config = weights_of(LOCAL, 0, MODERATE), LOCAL.config
    positions = jnp.broadcast_to(jnp.arange(TOKENS), (ROWS, TOKENS))
    tokens = jnp.asarray(forced_tokens(LOCAL, 0))
    _, cache = ours.run(weights, tokens, positions, ours.new_cache(config, ROWS, TOKENS), config)
    assert cache is not None
    assert [layer.keys.shape[1] for layer in cache] == [5 + SPARE, TOKENS, 5 + SPARE]
    assert sorted(cache[0].positions[0].tolist()) == list(range(TOKENS - 5 - SPARE, TOKENS))
    assert cache[1].positions[0].tolist() == list(range(TOKENS))


@pytest.mark.parametrize("sizes", [(TOKENS,), (PREFILL, 64), (64, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), (1,) * TOKENS])
def test_chunks_shorter_and_longer_than_the_window_equal_one_pass(sizes: tuple[int, ...]) -> None:
    weights, tokens = weights_of(LOCAL, 3, MODERATE), forced_tokens(LOCAL, 3)
    assert_same(ours.chunked(weights, LOCAL.config, tokens, sizes), ours.whole(weights, LOCAL.config, tokens))


# -------------------------------------------------------------------------------- padding and packing


@pytest.mark.parametrize("name", ["gemma1-mqa", "gemma2-gqa"])
@pytest.mark.parametrize("at", [range(3, 11), range(8), (0, 1, 3, 4, 5, 8, 9)], ids=["left", "right", "between"])
def test_padding_anywhere_changes_no_logits(name: str, at: Sequence[int]) -> None:
    family = BY_NAME[name]
    weights, tokens = weights_of(family, 5, MODERATE), forced_tokens(family, 5)
    padded, positions = np.full((ROWS, TOKENS), 7, np.int32), np.full((ROWS, TOKENS), -1, np.int32)
    padded[:, at], positions[:, at] = tokens[:, : len(at)], np.arange(len(at))
    logits, _ = ours.run(weights, jnp.asarray(padded), jnp.asarray(positions), None, family.config)
    assert_same(np.asarray(logits)[:, at], ours.whole(weights, family.config, tokens)[:, : len(at)])


def test_a_row_of_nothing_but_padding_is_finite_and_leaves_its_cache_empty() -> None:
    weights, config = weights_of(LOCAL, 6, MODERATE), LOCAL.config
    positions = jnp.stack([jnp.arange(PREFILL), jnp.full(PREFILL, -1)])
    tokens = jnp.zeros((ROWS, PREFILL), jnp.int32)
    logits, cache = ours.run(weights, tokens, positions, ours.new_cache(config, ROWS, TOKENS), config)
    assert cache is not None
    assert bool(jnp.isfinite(logits).all())
    assert all(bool((layer.positions[1] == -1).all()) and bool((layer.keys[1] == 0).all()) for layer in cache)


@partial(jax.jit, static_argnames="config")
def run_packed(
    weights: Gemma, tokens: jax.Array, positions: jax.Array, segments: jax.Array, config: Config
) -> jax.Array:
    hidden, _ = weights(tokens, config, positions=positions, segments=segments)
    return weights.logits(hidden, config)


@pytest.mark.parametrize("name", ["gemma1-mqa", "gemma2-gqa"])
def test_packed_documents_have_the_logits_of_each_alone(name: str) -> None:
    family, lengths = BY_NAME[name], (11, 4, TOKENS - 15)
    weights, tokens = weights_of(family, 7, MODERATE), forced_tokens(family, 7)
    segments = np.broadcast_to(np.repeat([1, 2, 3], lengths), tokens.shape)
    positions = np.broadcast_to(np.concatenate([np.arange(length) for length in lengths]), tokens.shape)
    packed = run_packed(weights, *map(jnp.asarray, (tokens, positions, segments)), family.config)
    for segment in (1, 2, 3):
        here = segments == segment
        only = jnp.asarray(np.where(here, positions, -1))
        alone, _ = ours.run(weights, jnp.asarray(tokens), only, None, family.config)
        assert_same(np.asarray(packed)[here], np.asarray(alone)[here])
    unpacked = ours.whole(weights, family.config, tokens)
    assert np.abs(np.asarray(packed) - unpacked).max() > UNDONE, "the documents must matter"
