"""A weight with a low-rank change beside it: LoRA (arXiv 2106.09685), DoRA (2402.09353), and several on one base.

The base may be dense or quantised: `Lora(IntWeight(...), a, b)` is QLoRA (2305.14314). Parts have the shapes in
which PEFT's files hold them.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.int_weights import IntWeight, to_dense
from gemwright.core.module import Spec, path_name
from gemwright.core.packed import Packed
from gemwright.kernels.packed_product import unpack

T = TypeVar("T")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["base", "a", "b", "magnitude", "norms", "key"],
    meta_fields=["alpha", "root", "dropout"],
)
@dataclass(frozen=True)
class Lora:
    """The weight `base + scale * b a`; with a magnitude, its rows brought to these lengths.

    Attributes:
      base: (*out, *in), dense or quantised; not trained.
      a: (rank, in), inputs flattened.
      b: (out, rank), outputs flattened; zeros at the start, so that nothing is changed.
      alpha: `scale` is alpha / rank,
      root: or alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732).
      magnitude: (out,), DoRA's.
      norms: (out,) float32 lengths of the rows that `magnitude` replaces; None computes them at every call, as
        training must.
      key: of the dropout of one step; None drops nothing.
      dropout: share of the inputs of `a` that a step in training leaves out.
    """

    base: Any
    a: jax.Array
    b: jax.Array
    alpha: float
    root: bool = False
    magnitude: jax.Array | None = None
    norms: jax.Array | None = None
    dropout: float = 0.0
    key: jax.Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.base.dtype

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.root else self.rank)

    @staticmethod
    def specs(
        base: Any,
        spec: Spec,
        rank: int,
        alpha: float,
        *,
        root: bool = False,
        dora: bool = False,
        dropout: float = 0.0,
    ) -> Any:
        """The declarations of the parts; `base` is that of the weight, dense or quantised."""
        outs = spec.size // spec.fan_in
        out_axis, in_axis = spec.axes[0], spec.axes[len(spec.axes) - spec.inputs]
        a = Spec((rank, spec.fan_in), ("rank", in_axis), init=_uniform, product=False)
        b = Spec((outs, rank), (out_axis, "rank"), init="zeros", product=False)
        magnitude = Spec((outs,), (out_axis,), init="ones") if dora else None
        return Lora(base, a, b, alpha, root, magnitude, dropout=dropout)  # pyright: ignore[reportArgumentType]


@partial(jax.tree_util.register_dataclass, data_fields=["base", "a", "b", "gain", "chosen"], meta_fields=[])
@dataclass(frozen=True)
class LoraSet:
    """One base with N changes; each row of a call takes the one that is chosen for it. Number 0 changes nothing.

    Attributes:
      base: as of `Lora`.
      a: (N, rank, in), filled up with zeros to the largest rank.
      b: (N, out, rank), scales multiplied in.
      gain: (N, out) by which whole rows are multiplied, where any of them is DoRA's.
      chosen: (R,) int32, one a row of the call; None takes 0 for all.
    """

    base: Any
    a: jax.Array
    b: jax.Array
    gain: jax.Array | None = None
    chosen: jax.Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.base.dtype


def _uniform(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """PEFT's beginning: within 1/sqrt(in)."""
    return generator.uniform(-1, 1, shape) / np.sqrt(shape[-1])


# ---------------------------------------------------------------------------------------- products


def adapted_product(
    rows: jax.Array, weight: Lora | LoraSet, base: jax.Array, again: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """(n, out) by an adapted weight.

    Args:
      rows: (n, in).
      base: (n, out), the rows times the base.
      again: that product for other rows.
    """
    if isinstance(weight, LoraSet):
        return _set_product(rows, weight, base).astype(base.dtype)
    wide, dropped = base.astype(jnp.float32), _dropped(rows, weight)
    change = _low_rank(dropped, weight.a, weight.b) * weight.scale
    if weight.magnitude is None:
        return (wide + change).astype(base.dtype)
    gain = gain_of(weight)
    if dropped is not rows:  # PEFT's dropout reaches the base too, where its length is changed
        return (wide + (gain - 1) * again(dropped).astype(jnp.float32) + gain * change).astype(base.dtype)
    return (gain * (wide + change)).astype(base.dtype)


def adapted_rows(index: jax.Array, weight: Lora | LoraSet, base: jax.Array) -> jax.Array:
    """(..., in): rows of an adapted (out, in) weight at each of the (...) indices, where `base` are the base's."""
    if isinstance(weight, LoraSet):
        if weight.chosen is None:
            return base
        chosen = weight.chosen.reshape(-1, *(1,) * (index.ndim - 1))
        change = jnp.einsum("...r,...ri->...i", weight.b[chosen, index], weight.a[chosen])
        return (base.astype(jnp.float32) + change).astype(base.dtype)
    change = weight.b[index].astype(jnp.float32) @ weight.a.astype(jnp.float32) * weight.scale
    return (base.astype(jnp.float32) + change).astype(base.dtype)


def _low_rank(rows: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """(n, out) float32."""
    inner = jnp.einsum("ni,ri->nr", rows.astype(a.dtype), a, preferred_element_type=jnp.float32)
    return jnp.einsum("nr,or->no", inner.astype(b.dtype), b, preferred_element_type=jnp.float32)


def _set_product(rows: jax.Array, weight: LoraSet, base: jax.Array) -> jax.Array:
    """Each row of the call, of one or more tokens, by what is chosen for it."""
    if weight.chosen is None:
        return base
    apart = rows.reshape(len(weight.chosen), -1, rows.shape[-1]).astype(weight.a.dtype)
    inner = jnp.einsum("bti,bri->btr", apart, weight.a[weight.chosen], preferred_element_type=jnp.float32)
    change = jnp.einsum("btr,bor->bto", inner, weight.b[weight.chosen], preferred_element_type=jnp.float32)
    wide = base.astype(jnp.float32).reshape(change.shape)
    if weight.gain is not None:
        wide, change = (part * weight.gain[weight.chosen][:, None] for part in (wide, change))
    return (wide + change).reshape(base.shape)


def _dropped(rows: jax.Array, weight: Lora) -> jax.Array:
    if weight.key is None or not weight.dropout:
        return rows
    kept = jax.random.bernoulli(weight.key, 1 - weight.dropout, rows.shape)
    return jnp.where(kept, rows / jnp.asarray(1 - weight.dropout, rows.dtype), jnp.zeros((), rows.dtype))


# ------------------------------------------------------------------------------------------- lengths


def gain_of(weight: Lora) -> jax.Array:
    """(out,) float32: what DoRA multiplies rows by. The lengths are constants of a step, as its authors have it."""
    assert weight.magnitude is not None
    norms = row_norms(weight) if weight.norms is None else weight.norms
    return weight.magnitude.astype(jnp.float32) / jax.lax.stop_gradient(norms)


def row_norms(weight: Lora) -> jax.Array:
    """(out,) float32: the lengths of the rows of base + scale * b a, without the sum as a matrix."""
    a, b = weight.a.astype(jnp.float32), weight.b.astype(jnp.float32) * weight.scale
    matrix = dense_rows(weight.base, a.shape[1])
    squares = jnp.sum(jnp.square(matrix), axis=1)
    squares = squares + jnp.sum(b * (2 * (matrix @ a.T) + b @ (a @ a.T)), axis=1)
    return jnp.sqrt(jnp.maximum(squares, 0))


def dense_rows(base: Any, ins: int) -> jax.Array:
    """(out, in) float32: the values of a weight of any form."""
    if isinstance(base, Packed):
        return unpack(base.codes, base.scales, math.prod(base.shape) // ins, ins)
    return (to_dense(base) if isinstance(base, IntWeight) else base).reshape(-1, ins).astype(jnp.float32)


def settled(weight: Lora) -> Lora:
    """The same for use alone: DoRA's lengths computed once."""
    return weight if weight.magnitude is None else replace(weight, norms=_row_norms(weight))


def merged(weight: Lora) -> jax.Array:
    """The dense weight that an adapted one stands for, in the base's shape and dtype.

    Raises:
      ValueError: if the base is packed: its 4 or 8 bits would round the change away.
    """
    if isinstance(weight.base, Packed):
        raise ValueError(
            f"its base is packed with {weight.base.bits} bits, which would round the change away: merge into the model "
            "that it was quantised from, and quantise that"
        )
    return _merged(weight)


_row_norms = jax.jit(row_norms)


@jax.jit
def _merged(weight: Lora) -> jax.Array:
    whole = dense_rows(weight.base, weight.a.shape[1])
    whole = whole + weight.scale * (weight.b.astype(jnp.float32) @ weight.a.astype(jnp.float32))
    if weight.magnitude is not None:
        whole = whole * gain_of(weight)[:, None]
    return whole.reshape(weight.shape).astype(weight.dtype)


# ----------------------------------------------------------------------------------- in a whole model


def map_lora(function: Callable[[str, Lora], Any], tree: T) -> T:
    """The tree with `function(name, weight)` in place of each adapted weight."""

    def apply(path: Any, leaf: Any) -> Any:
        return function(path_name(path), leaf) if isinstance(leaf, Lora) else leaf

    return jax.tree_util.tree_map_with_path(apply, tree, is_leaf=lambda leaf: isinstance(leaf, Lora))


def lora_weights(tree: Any) -> dict[str, Lora]:
    """The adapted weights of a model by name."""
    found: dict[str, Lora] = {}
    map_lora(found.setdefault, tree)
    return found


def with_dropout(tree: T, key: jax.Array) -> T:
    """A model for one step of training: each adapted weight drops inputs of its own."""

    def wake(name: str, weight: Lora) -> Lora:
        return replace(weight, key=jax.random.fold_in(key, zlib.crc32(name.encode()))) if weight.dropout else weight

    return map_lora(wake, tree)


def chosen_for(tree: T, chosen: jax.Array) -> T:
    """A model whose sets take a number for each row of the next call."""

    def choose(leaf: Any) -> Any:
        return replace(leaf, chosen=chosen) if isinstance(leaf, LoraSet) else leaf

    return jax.tree.map(choose, tree, is_leaf=lambda leaf: isinstance(leaf, LoraSet))


def count_changes(tree: Any) -> int:
    """How many adapters the sets of a model hold; 0 if it has no sets."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, LoraSet))
    return max((len(leaf.a) - 1 for leaf in leaves if isinstance(leaf, LoraSet)), default=0)


def lora_set(base: Any, changes: Sequence[Lora | None]) -> LoraSet:
    """One base with several changes, numbered from 1 on; None changes nothing.

    Args:
      changes: weights adapted from this base.
    """
    found = [change for change in changes if change is not None]
    rank, ins = max(change.rank for change in found), found[0].a.shape[1]
    outs = found[0].b.shape[0]

    def filled(part: jax.Array, rows: int, columns: int) -> jax.Array:
        wide = part.astype(jnp.float32)
        return jnp.pad(wide, ((0, rows - wide.shape[0]), (0, columns - wide.shape[1])))

    nothing = jnp.zeros((rank, ins)), jnp.zeros((outs, rank)), jnp.ones(outs)
    parts = [nothing]
    for change in changes:
        if change is None:
            parts.append(nothing)
            continue
        gain = jnp.ones(outs) if change.magnitude is None else gain_of(change)
        parts.append((filled(change.a, rank, ins), filled(change.b, outs, rank) * change.scale, gain))
    a, b, gain = (jnp.stack(part) for part in zip(*parts, strict=True))
    return LoraSet(base, a, b, gain if any(change.magnitude is not None for change in found) else None)
