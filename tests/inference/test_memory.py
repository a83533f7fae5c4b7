"""Temporaries of the compiled programs at published sizes, found without allocating a weight.

Two and four layers are compiled, whole models take minutes. Layers are alike, so what a layer adds is
taken from the two; XLA once copied every cache of a whole model at once and showed nothing of it at four
layers, so the copies it may make are also counted in the program itself.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from gemwright.core.cache import KVCache
from gemwright.core.module import abstract
from gemwright.inference.generate import choose_after
from gemwright.inference.rows import choose_next
from gemwright.inference.sampling import GREEDY, Filters, Knobs
from gemwright.inference.session import Sequences, _read
from gemwright.models.gemma import PRESETS, Config, Gemma, cache_slots

LIMIT = 200e6
CAPACITY = 8192


def shape(*sizes: int, dtype: Any = jnp.bfloat16) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def sequences(config: Config) -> Any:
    def cache(layer: int) -> Any:
        slots = cache_slots(config, layer, CAPACITY)
        heads = shape(1, slots, config.num_kv_heads, config.head_dim)
        return KVCache(heads, heads, shape(1, slots, dtype=jnp.int32))  # pyright: ignore[reportArgumentType]

    return Sequences(tuple(map(cache, range(config.num_layers))), shape(1, config.embed_dim))  # pyright: ignore


def weights_of(config: Config) -> Gemma:
    return abstract(Gemma.specs(config), jnp.dtype(jnp.bfloat16))


def knobs() -> Any:
    number = shape(1, dtype=jnp.float32)
    return Knobs(number, shape(1, dtype=jnp.int32), number, number, number, shape(1, dtype=jnp.uint32))  # pyright: ignore


def compiled(config: Config, tokens: int) -> jax.stages.Compiled:
    """A chunk of a prompt; or one token and the choice of the next, the decode step."""
    ids, state = shape(1, tokens, dtype=jnp.int32), sequences(config)
    if tokens == 1:
        count = shape(1, dtype=jnp.int32)
        return choose_next.lower(
            weights_of(config), state.caches, None, ids, ids, None, count, knobs(), config, GREEDY.filters
        ).compile()
    return _read.lower(weights_of(config), state, ids, ids, config).compile()


@pytest.mark.parametrize(("preset", "tokens"), [("gemma-2b", 1), ("gemma-2b", 256), ("gemma2-2b", 1)])
def test_reading_tokens_needs_under_200_mb_of_temporaries(preset: str, tokens: int) -> None:
    config = PRESETS[preset]
    two, four = (compiled(replace(config, num_layers=layers), tokens) for layers in (2, 4))
    small, large = two.memory_analysis().temp_size_in_bytes, four.memory_analysis().temp_size_in_bytes
    a_layer = max(0, large - small) / 2
    assert large + a_layer * (config.num_layers - 4) < LIMIT
    caches = f"f32[1,{CAPACITY},{config.num_kv_heads},{config.head_dim}]"
    assert caches not in _top_level(four.as_text()), "a float32 copy of a whole cache; the scheduler may hold all"
    assert four.memory_analysis().alias_size_in_bytes > 4 * 2 * 2 * CAPACITY // 2, "the cache is written in place"


def _top_level(program: str) -> str:
    """The instructions that have buffers: those of the entry, not those inside fusions."""
    return program[program.index("\nENTRY") :]


@pytest.mark.parametrize("preset", ["gemma-2b", "gemma2-2b"])
def test_choosing_a_token_needs_under_200_mb_of_temporaries(preset: str) -> None:
    config = PRESETS[preset]
    all_filters = Filters(True, True, True, True, True)
    seen, count = shape(1, config.vocab_size, dtype=jnp.bool_), shape(dtype=jnp.int32)
    lowered = choose_after.lower(
        weights_of(replace(config, num_layers=1)), shape(1, config.embed_dim), seen, count, knobs(), config, all_filters
    )
    assert lowered.compile().memory_analysis().temp_size_in_bytes < LIMIT
