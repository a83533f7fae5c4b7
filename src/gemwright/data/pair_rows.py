"""Pairs in rows: the sides of a pair stand in one row, unseen by each other and by other pairs."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gemwright.core.module import module
from gemwright.data.example_rows import Layout
from gemwright.data.examples import Example
from gemwright.data.pairs import Pair


@module
class PairBatch:
    """Rows of pairs. B rows, T tokens, P pairs a row at most, S sides of each: chosen, rejected, maybe one mismatched.

    Attributes:
      inputs: (B, T) all tokens of the sides, one after the other.
      targets: (B, T) the token that follows each.
      positions: (B, T) from 0 in each side.
      segments: (B, T) S k + s + 1 for side s of a row's k-th pair; then 0.
      weights: (B, T) 1 where the target is learned.
      ends: (B, P, S) where the last learned token of each side stands.
      pairs: (B, P) 1 where there is a pair.
      margins: (B, P) float32.
      ties: (B, P).
      numbers: (B, P) which pair it is, as the layout was told.
    """

    inputs: jax.Array
    targets: jax.Array
    positions: jax.Array
    segments: jax.Array
    weights: jax.Array
    ends: jax.Array
    pairs: jax.Array
    margins: jax.Array
    ties: jax.Array
    numbers: jax.Array


def pair_size(pair: Pair) -> int:
    """Tokens of a row that a pair takes; the last of a side is read too, since its reward is read there."""
    return sum(len(example.ids) for example in pair.sides)


def pair_layout(pairs: Sequence[Pair]) -> Layout[Pair]:
    """How these pairs are read, and no others: their places among them are kept in the batches."""
    numbers = {id(pair): number for number, pair in enumerate(pairs)}
    smallest, sides = min(map(pair_size, pairs)), len(pairs[0].sides)

    def lay(groups: Sequence[Sequence[Pair]], rows: int, length: int) -> PairBatch:
        fields = _empty(rows, length, max(1, length // smallest), sides)
        for row, group in enumerate(groups):
            begin = 0
            for place, pair in enumerate(group):
                fields["pairs"][row, place], fields["numbers"][row, place] = 1, numbers[id(pair)]
                fields["margins"][row, place], fields["ties"][row, place] = pair.margin, pair.tie
                for side, example in enumerate(pair.sides):
                    _write(fields, row, begin, sides * place + side + 1, example)
                    fields["ends"][row, place, side] = begin + _last(example)
                    begin += len(example.ids)
            fields["positions"][row, begin:] = np.arange(length - begin)
        batch: Any = PairBatch(**fields)
        return batch

    return Layout(pair_size, lay)


def _empty(rows: int, length: int, pairs: int, sides: int) -> dict[str, Any]:
    tokens = {name: np.zeros((rows, length), np.int32) for name in ("inputs", "targets", "segments", "weights")}
    kept = {name: np.zeros((rows, pairs), np.int32) for name in ("pairs", "ties", "numbers")}
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length)).copy()
    margins, ends = np.zeros((rows, pairs), np.float32), np.zeros((rows, pairs, sides), np.int32)
    return {**tokens, **kept, "positions": positions, "margins": margins, "ends": ends}


def _write(fields: dict[str, Any], row: int, begin: int, segment: int, example: Example) -> None:
    size = len(example.ids)
    part, before = slice(begin, begin + size), slice(begin, begin + size - 1)
    fields["inputs"][row, part], fields["targets"][row, before] = example.ids, example.ids[1:]
    fields["positions"][row, part], fields["segments"][row, part] = np.arange(size), segment
    fields["weights"][row, before] = example.learned[1:]


def _last(example: Example) -> int:
    """By the mask: no id says where a text ends."""
    return max(place for place, learned in enumerate(example.learned) if learned)
