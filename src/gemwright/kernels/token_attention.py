"""Attention of one new token a row on a GPU: turned by its position, written into the cache, mixed, in one kernel.

Letters: R rows, H query heads, G key/value heads, K head size, S slots of the cache. Written with Pallas for Triton,
which is imported where the kernel is traced.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gemwright.kernels.gpu import MOST_ROWS, power_in

_FAR = -1e30  # below any score


class Slots(NamedTuple):
    """Keys and values, (R, S, G, K), and positions, (R, S) int32, -1 where a slot is empty."""

    keys: jax.Array
    values: jax.Array
    positions: jax.Array


class Token(NamedTuple):
    """One a row, not yet turned.

    Attributes:
      queries: (R, H, K).
      keys, values: (R, G, K).
      sines, cosines: (R, K / 2) float32.
      positions: (R,) int32; position p stands in slot p mod S, -1 is no token and is not kept.
    """

    queries: jax.Array
    keys: jax.Array
    values: jax.Array
    sines: jax.Array
    cosines: jax.Array
    positions: jax.Array


class How(NamedTuple):
    """What does not change between tokens: factor of the queries, slots seen (None for all), cap of the scores."""

    scale: float
    window: int | None
    cap: float | None


class Cut(NamedTuple):
    """Slots of a block, which a program takes one after the other; programs to a head; warps to a program."""

    block: int
    parts: int
    warps: int


def cut_for(slots: int) -> Cut:
    """A head's slots are taken by several programs where there are many; what they found is merged after them."""
    return Cut(64, 1 if slots <= 512 else min(32, slots // 256), 8)


def serves(queries: jax.Array, slots: Slots) -> bool:
    """Whether the kernel takes such arrays."""
    half = queries.shape[-1] // 2
    types = {jnp.dtype(part.dtype) for part in (queries, slots.keys, slots.values)}
    few = queries.shape[0] == slots.keys.shape[0] <= MOST_ROWS
    return few and power_in(half, half) == half >= 16 and types == {jnp.dtype(jnp.bfloat16)}


def token_attention(token: Token, slots: Slots, how: How) -> tuple[jax.Array, Slots]:
    """Attend over the cache and the token itself.

    Returns:
      (R, H, K), and the cache with the token in it, in place where the old one is not needed afterwards.
    """
    return jax.lax.platform_dependent(
        token, slots, cuda=partial(attention_on_gpu, how=how), default=partial(token_attention_reference, how=how)
    )


def token_attention_reference(token: Token, slots: Slots, how: How) -> tuple[jax.Array, Slots]:
    """The same in plain JAX."""
    turns = token.sines[:, None], token.cosines[:, None]
    queries = _turned(token.queries, turns) * how.scale
    rows, size = jnp.arange(len(queries)), slots.positions.shape[1]
    at = jnp.where(token.positions >= 0, token.positions % size, size)
    new = _turned(token.keys, turns), token.values, token.positions
    slots = Slots(*(old.at[rows, at].set(part, mode="drop") for old, part in zip(slots, new, strict=True)))
    grouped = queries.reshape(len(queries), slots.keys.shape[2], -1, queries.shape[-1])
    scores = jnp.einsum("bgrk,bsgk->bgrs", grouped, slots.keys, preferred_element_type=jnp.float32)
    scores = scores if how.cap is None else jnp.tanh(scores / how.cap) * how.cap
    seen = _seen(slots.positions, token.positions[:, None], how.window)
    shares = jax.nn.softmax(jnp.where(seen[:, None, None], scores, _FAR), axis=-1).astype(queries.dtype)
    mixed = jnp.einsum("bgrs,bsgk->bgrk", shares, slots.values, preferred_element_type=jnp.float32)
    return mixed.reshape(queries.shape).astype(queries.dtype), slots


def _turned(x: jax.Array, turns: tuple[jax.Array, jax.Array]) -> jax.Array:
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    sines, cosines = turns
    both = first * cosines - second * sines, second * cosines + first * sines
    return jnp.concatenate(both, axis=-1).astype(x.dtype)


def _seen(keys: jax.Array, query: jax.Array, window: int | None) -> jax.Array:
    seen = (keys >= 0) & (keys <= query)
    return seen if window is None else seen & (keys > query - window)


# --------------------------------------------------------------------------------------- kernel


def attention_on_gpu(
    token: Token, slots: Slots, how: How, cut: Cut | None = None, interpret: bool = False
) -> tuple[jax.Array, Slots]:
    """The kernel, cut as given or as is best known."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    rows, heads, size = token.queries.shape
    cut = cut or cut_for(slots.keys.shape[1])
    shape, kind = (cut.parts, rows, heads, size), token.queries.dtype if cut.parts == 1 else jnp.float32
    weighed = jax.ShapeDtypeStruct((cut.parts, rows, heads), jnp.float32)
    found = [jax.ShapeDtypeStruct(shape, kind), weighed, weighed]
    kept = [jax.ShapeDtypeStruct(part.shape, part.dtype) for part in slots]
    mixed, largest, totals, *written = pl.pallas_call(
        partial(_kernel, how=how, cut=cut),
        out_shape=[*found, *kept],
        grid=(rows, heads, cut.parts),
        input_output_aliases={len(token) + index: len(found) + index for index in range(len(slots))},
        compiler_params=triton.CompilerParams(num_warps=cut.warps, num_stages=1),
        interpret=interpret,
        name="token_attention",
    )(*token, *slots)
    return _merged(mixed, largest, totals).astype(token.queries.dtype), Slots(*written)


def _merged(mixed: jax.Array, largest: jax.Array, totals: jax.Array) -> jax.Array:
    """What the parts of a head found, each with e^(score - its largest) as weights."""
    if len(mixed) == 1:
        return mixed[0]
    weights = jnp.exp(largest - jnp.max(largest, axis=0))
    return jnp.sum(mixed * weights[..., None], axis=0) / jnp.sum(totals * weights, axis=0)[..., None]


def _kernel(*refs: Any, how: How, cut: Cut) -> None:
    from jax.experimental import pallas as pl

    token, slots = Token(*refs[:6]), Slots(*refs[6:9])
    mixed, largest, totals, *written = refs[9:]
    row, head, part = pl.program_id(0), pl.program_id(1), pl.program_id(2)
    each = token.queries.shape[1] // token.keys.shape[1]
    group, position = head // each, token.positions[row]
    slot = jnp.maximum(position, 0) % slots.positions.shape[1]
    queries, keys = _turned_halves(token, row, head, group, how.scale)
    value = token.values[row, group, :]

    @pl.when((part == 0) & (head % each == 0) & (position >= 0))
    def _() -> None:
        _put(Slots(*written), (row, slot, group), keys, value, position)

    own = _capped(sum(jnp.sum(_wide(q) * _wide(k)) for q, k in zip(queries, keys, strict=True)), how.cap)
    first = part == 0  # which takes the token itself
    begun = (
        jnp.where(first, own, _FAR),
        jnp.where(first, jnp.float32(1), jnp.float32(0)),
        jnp.where(first, _wide(value), jnp.zeros(value.shape, jnp.float32)),
    )
    filled = (jnp.minimum(position + 1, slots.positions.shape[1]) + cut.block - 1) // cut.block
    take = partial(_take, [_wide(half) for half in queries], slots, (row, group, position, slot), how, cut, part)
    most, total, sums = jax.lax.fori_loop(0, (filled - part + cut.parts - 1) // cut.parts, take, begun)
    mixed[part, row, head, :] = (sums / total if cut.parts == 1 else sums).astype(mixed.dtype)
    largest[part, row, head], totals[part, row, head] = most, total


def _take(
    queries: Sequence[jax.Array], slots: Slots, where: Any, how: How, cut: Cut, part: Any, index: Any, kept: Any
) -> Any:
    """The largest score, the sum of weights and the weighed values, with a block of slots more."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    row, group, position, slot = where
    most, total, sums = kept
    half, size = len(queries[0]), slots.positions.shape[1]
    start = (part + index * cut.parts) * cut.block
    numbers = start + jnp.arange(cut.block, dtype=jnp.int32)
    inside, block = numbers < size, pl.ds(start, cut.block)
    positions: Any = slots.positions
    found = triton.load(positions.at[row, block], mask=inside, other=-1)
    seen = _seen(found, position, how.window) & (numbers != slot)  # the token's own slot is being written

    def read(ref: Any, columns: Any) -> jax.Array:
        return triton.load(ref.at[row, block, group, columns], mask=inside[:, None], other=0.0)

    halves = [read(slots.keys, pl.ds(first, half)) for first in (0, half)]
    values = read(slots.values, pl.ds(0, 2 * half))
    scores = sum(jnp.sum(_wide(keys) * query[None], axis=1) for keys, query in zip(halves, queries, strict=True))
    scores = jnp.where(seen, _capped(scores, how.cap), _FAR)
    larger = jnp.maximum(most, jnp.max(scores))
    weights, before = jnp.where(seen, jnp.exp(scores - larger), 0.0), jnp.exp(most - larger)
    values = jnp.where(seen[:, None], _wide(values), 0.0)  # what nobody has seen may be no number
    return larger, total * before + jnp.sum(weights), sums * before + jnp.sum(weights[:, None] * values, axis=0)


def _turned_halves(token: Token, row: Any, head: Any, group: Any, scale: float) -> tuple[Any, Any]:
    """Halves of the query and of the key, turned, each rounded as the reference rounds it."""
    from jax.experimental import pallas as pl

    half = token.sines.shape[1]
    sines, cosines = token.sines[row, :], token.cosines[row, :]

    def turned(ref: Any, place: Any) -> tuple[jax.Array, jax.Array]:
        first, second = (_wide(ref[row, place, pl.ds(begin, half)]) for begin in (0, half))
        both = first * cosines - second * sines, second * cosines + first * sines
        return both[0].astype(ref.dtype), both[1].astype(ref.dtype)

    queries = [(_wide(part) * scale).astype(part.dtype) for part in turned(token.queries, head)]
    return queries, turned(token.keys, group)


def _put(written: Slots, place: Any, keys: Any, value: jax.Array, position: Any) -> None:
    from jax.experimental import pallas as pl

    row, slot, group = place
    half = len(keys[0])
    for begin, part in ((0, keys[0]), (half, keys[1])):
        written.keys[row, slot, group, pl.ds(begin, half)] = part
    written.values[row, slot, group, :] = value

    @pl.when(group == 0)
    def _() -> None:
        written.positions[row, slot] = position


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32)


def _capped(scores: Any, cap: float | None) -> Any:
    """Bent into (-cap, cap) by the hyperbolic tangent, as 2 / (1 + e^(-2x)) - 1."""
    return scores if cap is None else cap * (2 / (1 + jnp.exp(-2 / cap * scores)) - 1)
