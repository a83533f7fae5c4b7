"""What RecurrentGemma promises beside parity: padding, packing and chunks against float64, and memory that stays.

transformers is no oracle for these: it pads, packs and cuts wrong. Weights and tokens follow from seeds, at a gain
where float32 noise stays well under the tolerance.
"""

from collections.abc import Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.cache import SPARE, KVCache, LayerCache, RecurrentState
from gemwright.core.module import abstract, count, initialise
from gemwright.models.griffin import PRESETS, Config, Griffin, goes_back_from, new_cache
from gemwright.training.step import token_losses
from tests.models import griffin_reference
from tests.models.test_gemma import assert_same, run_packed
from tests.parity import ours
from tests.parity.cases import BY_NAME, MODERATE, PREFILL, ROWS, TOKENS, forced_tokens, weights_of
from tests.tolerances import UNDONE

PARAMETERS = {"recurrentgemma-2b": 2_682_862_080, "recurrentgemma-9b": 8_579_977_216}
FAMILY = BY_NAME["griffin-mqa"]  # a window of 6, 4 taps
OTHER = BY_NAME["griffin-mha"]  # a window of 9, 3 taps

each = pytest.mark.parametrize("family", [FAMILY, OTHER], ids=lambda family: family.name)


@cache
def reference(name: str, seed: int, row: int, start: int, length: int) -> np.ndarray:
    """(T, V): a part of a row's tokens as a document of its own."""
    family = BY_NAME[name]
    tokens = forced_tokens(family, seed)[row, start : start + length]
    return griffin_reference.logits(weights_of(family, seed, MODERATE), family.config, tokens)


# ------------------------------------------------------------------------------------------- sizes


def test_every_preset_has_a_known_count() -> None:
    assert set(PARAMETERS) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_specs_count_the_parameters_to_the_unit(preset: str) -> None:
    assert count(Griffin.specs(PRESETS[preset])) == PARAMETERS[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_reads_and_decodes_in_bfloat16_at_full_size_without_allocating(preset: str) -> None:
    config = PRESETS[preset]
    weights = abstract(Griffin.specs(config), jnp.dtype(jnp.bfloat16))

    def call(weights: Griffin, tokens: jax.Array) -> tuple[jax.Array, jax.Array, object]:
        kept = empty(config)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        hidden, kept = weights(tokens, config, positions=positions, cache=kept)
        return hidden, weights.logits(hidden, config), kept

    for length in (1, 8):
        tokens = jax.ShapeDtypeStruct((2, length), jnp.int32)
        hidden, logits, kept = jax.eval_shape(call, weights, tokens)
        assert (hidden.shape, hidden.dtype) == ((2, length, config.embed_dim), jnp.bfloat16)
        assert (logits.shape, logits.dtype) == ((2, length, 256_000), jnp.float32)
        assert jax.tree.map(shape, kept) == jax.tree.map(shape, jax.eval_shape(lambda: empty(config)))


def shape(leaf: jax.ShapeDtypeStruct) -> tuple[object, ...]:
    return leaf.shape, leaf.dtype


def empty(config: Config) -> tuple[LayerCache, ...]:
    return new_cache(config, 2, 8192, jnp.dtype(jnp.bfloat16))


def test_two_recurrences_go_before_each_attention() -> None:
    kinds = [PRESETS["recurrentgemma-9b"].kind(layer) for layer in range(38)]
    assert kinds[:6] == ["recurrent", "recurrent", "attention"] * 2
    assert (kinds.count("recurrent"), kinds.count("attention")) == (26, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_kv_heads": 2}, "num_heads 3 is no multiple of num_kv_heads 2"),
        ({"recurrent_dim": 31}, "recurrent_dim 31 is no multiple of num_heads 3"),
        ({"head_dim": 10}, "head_dim 10 is no multiple of 4"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(change: dict[str, int], message: str) -> None:
    sizes = {"vocab_size": 5, "embed_dim": 36, "num_layers": 1, "num_heads": 3, "num_kv_heads": 1, "head_dim": 12}
    with pytest.raises(ValueError, match=message):
        Config(**{**sizes, "mlp_dim": 4, "recurrent_dim": 30, **change})


# ------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize("preset", PRESETS)
def test_memory_is_the_same_at_2k_16k_and_64k_tokens(preset: str) -> None:
    def size(capacity: int) -> int:
        shapes = jax.eval_shape(lambda: new_cache(PRESETS[preset], 1, capacity, jnp.dtype(jnp.bfloat16)))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))

    full = PRESETS[preset].window + SPARE
    assert size(2048) < size(full) == size(16_384) == size(65_536) < 1.01 * size(2048)


def test_no_row_can_be_cut() -> None:
    assert goes_back_from(FAMILY.config) == 0


# ------------------------------------------------------------------- one pass, chunks, steps, padding


@each
def test_one_pass_is_the_float64_reference(family) -> None:
    logits = ours.whole(weights_of(family, 5, MODERATE), family.config, forced_tokens(family, 5))
    for row in range(ROWS):
        assert_same(logits[row], reference(family.name, 5, row, 0, TOKENS))


@each
@pytest.mark.parametrize("sizes", [(1,) * 24, (11, 2, 11), (3, 16, 5), (1, 22, 1)])
def test_chunks_of_any_length_are_the_float64_reference(family, sizes: tuple[int, ...]) -> None:
    """Shorter than the taps, and longer than the window and its spare slots."""
    tokens = forced_tokens(family, 5)[:, : sum(sizes)]
    logits = ours.chunked(weights_of(family, 5, MODERATE), family.config, tokens, sizes)
    for row in range(ROWS):
        assert_same(logits[row], reference(family.name, 5, row, 0, TOKENS)[: sum(sizes)])


@each
@pytest.mark.parametrize("at", [range(3, 11), range(8), (0, 1, 3, 4, 5, 8, 9)], ids=["left", "right", "between"])
def test_padding_anywhere_changes_no_logits(family, at: Sequence[int]) -> None:
    tokens = forced_tokens(family, 5)
    padded, positions = np.full((ROWS, 24), 7, np.int32), np.full((ROWS, 24), -1, np.int32)
    padded[:, at], positions[:, at] = tokens[:, : len(at)], np.arange(len(at))
    weights = weights_of(family, 5, MODERATE)
    logits, _ = ours.run(weights, jnp.asarray(padded), jnp.asarray(positions), None, family.config)
    for row in range(ROWS):
        assert_same(np.asarray(logits)[row, at], reference(family.name, 5, row, 0, TOKENS)[: len(at)])


@each
def test_padding_leaves_the_state_as_it_is_whatever_it_holds(family) -> None:
    """After 5 tokens of both rows, a chunk of one row alone: the other row's state must not move by a bit."""
    weights, config, tokens = weights_of(family, 6, MODERATE), family.config, jnp.asarray(forced_tokens(family, 6))
    both = jnp.broadcast_to(jnp.arange(5), (ROWS, 5))
    _, before = ours.run(weights, tokens[:, :5], both, ours.new_cache(config, ROWS, TOKENS), config)
    kept = jax.tree.map(np.asarray, before)
    one = jnp.stack([jnp.arange(5, 5 + PREFILL), jnp.full(PREFILL, -1)])
    logits, after = ours.run(weights, tokens[:, 5 : 5 + PREFILL], one, before, config)
    assert bool(jnp.isfinite(logits).all())
    for old, new in zip(jax.tree.leaves(kept), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(old[1], np.asarray(new)[1])
        assert (old[0] != np.asarray(new)[0]).any()


@each
def test_packed_documents_have_the_logits_of_each_alone(family) -> None:
    lengths = (11, 2, 1, TOKENS - 14)
    starts = np.cumsum([0, *lengths])
    tokens, weights = forced_tokens(family, 7), weights_of(family, 7, MODERATE)
    segments = np.broadcast_to(np.repeat([1, 2, 3, 4], lengths), tokens.shape)
    positions = np.broadcast_to(np.concatenate([np.arange(length) for length in lengths]), tokens.shape)
    packed = np.asarray(run_packed(weights, *map(jnp.asarray, (tokens, positions, segments)), family.config))
    for start, length in zip(starts, lengths, strict=False):
        for row in range(ROWS):
            assert_same(packed[row, start : start + length], reference(family.name, 7, row, int(start), length))
    assert np.abs(packed - ours.whole(weights, family.config, tokens)).max() > UNDONE, "the documents must matter"


def test_a_part_of_a_document_sees_no_other_segment_either() -> None:
    """A row may go on with a document that began elsewhere: its positions do not start at 0, and it is alone still."""
    tokens, weights, config = forced_tokens(FAMILY, 7), weights_of(FAMILY, 7, MODERATE), FAMILY.config
    positions = np.broadcast_to(np.concatenate([np.arange(10), np.arange(20, 34)]), (ROWS, 24))
    segments = np.broadcast_to(np.repeat([1, 2], (10, 14)), (ROWS, 24))
    logits = [
        np.asarray(run_packed(weights, *map(jnp.asarray, (changed, positions, segments)), config))[:, 10:]
        for changed in (tokens[:, :24], np.concatenate([tokens[:, 30:40], tokens[:, 10:24]], axis=1))
    ]
    np.testing.assert_array_equal(*logits)


def test_a_new_text_in_an_old_row_is_as_in_a_new_one() -> None:
    """Position 0 looks at nothing before it, not even at what is not a number."""
    weights, config, tokens = weights_of(FAMILY, 8, MODERATE), FAMILY.config, jnp.asarray(forced_tokens(FAMILY, 8))
    used = [
        RecurrentState(jnp.full_like(layer.hidden, jnp.nan), jnp.full_like(layer.tail, jnp.nan))
        if isinstance(layer, RecurrentState)
        else layer
        for layer in ours.new_cache(config, ROWS, TOKENS)
    ]
    positions = jnp.broadcast_to(jnp.arange(PREFILL), (ROWS, PREFILL))
    logits, _ = ours.run(weights, tokens[:, :PREFILL], positions, tuple(used), config)
    for row in range(ROWS):
        assert_same(np.asarray(logits)[row], reference("griffin-mqa", 8, row, 0, PREFILL))


def test_a_long_text_holds_the_window_and_a_state_alone() -> None:
    weights, config, tokens = weights_of(FAMILY, 0, MODERATE), FAMILY.config, jnp.asarray(forced_tokens(FAMILY, 0))
    positions = jnp.broadcast_to(jnp.arange(TOKENS), (ROWS, TOKENS))
    _, kept = ours.run(weights, tokens, positions, ours.new_cache(config, ROWS, TOKENS), config)
    assert kept is not None
    assert [type(layer) for layer in kept] == [RecurrentState, RecurrentState, KVCache, RecurrentState]
    ring = kept[2]
    assert isinstance(ring, KVCache)
    assert sorted(ring.positions[0].tolist()) == list(range(TOKENS - 6 - SPARE, TOKENS))


# ---------------------------------------------------------------------------------------- training


def test_decays_begin_between_radius_0_9_and_0_999() -> None:
    decay = initialise(Griffin.specs(FAMILY.config), 0).layers[0].recurrence.decay
    radius = np.exp(-np.log1p(np.exp(np.asarray(decay, np.float64))))
    assert radius.min() >= 0.9 - 1e-6
    assert radius.max() <= 0.999 + 1e-6
    assert radius.std() > 0.02


@partial(jax.jit, static_argnames="config")
def loss_and_gradient(weights: Griffin, config: Config, tokens: jax.Array) -> tuple[jax.Array, Griffin]:
    return jax.value_and_grad(lambda w: token_losses(w, tokens[:, :-1], tokens[:, 1:], config).mean())(weights)


def test_a_gradient_is_finite_where_a_gate_is_shut() -> None:
    """There a = 1, and the derivative of sqrt(1 - a^2) has no bound of its own."""
    weights = weights_of(FAMILY, 0)
    shut = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full_like(leaf, -200.0) if "decay_gate_bias" in str(path) else leaf, weights
    )
    _, gradient = loss_and_gradient(shut, FAMILY.config, jnp.asarray(forced_tokens(FAMILY, 0)[:, :12]))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


def test_a_gradient_is_that_of_finite_differences() -> None:
    weights, tokens = weights_of(FAMILY, 1, MODERATE), jnp.asarray(forced_tokens(FAMILY, 1)[:, :12])
    _, gradient = loss_and_gradient(weights, FAMILY.config, tokens)
    length = float(np.sqrt(sum(float(jnp.vdot(leaf, leaf)) for leaf in jax.tree.leaves(gradient))))

    def moved(by: float) -> float:
        changed = jax.tree.map(lambda w, g: w + by / length * g, weights, gradient)
        return float(loss_and_gradient(changed, FAMILY.config, tokens)[0])

    assert (moved(2e-3) - moved(-2e-3)) / 4e-3 == pytest.approx(length, rel=2e-3)
