"""Interpolated modified Kneser-Ney over token ids, in NumPy: the classical model to beat.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1999),
section 3: highest-order n-grams by their counts, lower orders by the number of distinct tokens
that precede them, three discounts an order, interpolated down to the uniform distribution.
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Order:
    """The n-grams of one length. Keys hold a token in each `bits` bits, the oldest highest."""

    keys: Array
    discounted: Array  # count less its discount, beside each key
    contexts: Array  # keys without their last token, each once
    totals: Array  # counts by context
    backoff: Array  # share left to the lower order, by context


class KneserNey:
    """Trained on one stream of token ids in which every document begins with BOS."""

    def __init__(self, stream: Array, vocab_size: int, bos: int, order: int = 5) -> None:
        """Raises ValueError if an n-gram of `order` tokens does not fit 64 bits."""
        self.bits = max(1, (vocab_size - 1).bit_length())
        if self.bits * order > 63:
            raise ValueError(f"{order} tokens of {vocab_size} do not fit 63 bits: use a smaller vocabulary or order")
        self.vocab_size, self.bos, self.order = vocab_size, bos, order
        keys, counts = self._count(stream, order)
        orders = [self._make_order(keys, counts, order)]
        for length in range(order - 1, 0, -1):
            keys, counts = self._continuations(keys, stream, length)
            orders.append(self._make_order(keys, counts, length))
        self.orders = orders[::-1]

    def bits_of(self, stream: Array) -> float:
        """Bits that all tokens of a stream cost, but for each document's BOS."""
        share = np.full(len(stream), 1.0 / self.vocab_size)
        for length, order in enumerate(self.orders, 1):
            keys, valid = self._keys(stream, length)
            context, known = _find(order.contexts, keys >> self.bits)
            entry, counted = _find(order.keys, keys)
            gain = np.where(counted, order.discounted[entry], 0.0)
            better = gain / order.totals[context] + order.backoff[context] * share
            share = np.where(valid & known, better, share)
        return float(-np.log2(share[stream != self.bos]).sum())

    def _keys(self, stream: Array, length: int) -> tuple[Array, Array]:
        """The n-gram that ends at each token, and whether it lies in one document."""
        wide = stream.astype(np.int64)
        keys, valid = wide.copy(), wide != self.bos  # BOS is given, never predicted
        for back in range(1, length):
            earlier = np.concatenate([np.full(back, -1), wide])[: len(wide)]
            keys |= np.maximum(earlier, 0) << (self.bits * back)
            valid &= earlier >= 0
            if back < length - 1:  # BOS may only stand first
                valid &= earlier != self.bos
        return keys, valid

    def _count(self, stream: Array, length: int) -> tuple[Array, Array]:
        keys, valid = self._keys(stream, length)
        return np.unique(keys[valid], return_counts=True)

    def _continuations(self, longer: Array, stream: Array, length: int) -> tuple[Array, Array]:
        """Distinct tokens before each n-gram; an n-gram that opens a document has none and keeps its count."""
        inner = longer & ((1 << (self.bits * length)) - 1)
        keys, counts = np.unique(inner, return_counts=True)
        if length == 1:
            return keys, counts
        all_keys, all_counts = self._count(stream, length)
        opening = all_keys >> (self.bits * (length - 1)) == self.bos
        keys, counts = np.concatenate([keys, all_keys[opening]]), np.concatenate([counts, all_counts[opening]])
        sorting = np.argsort(keys)
        return keys[sorting], counts[sorting]

    def _make_order(self, keys: Array, counts: Array, length: int) -> Order:
        discounts = _discounts(counts)
        cut = discounts[np.minimum(counts, 3)]
        contexts = keys >> self.bits if length > 1 else np.zeros_like(keys)
        starts = np.flatnonzero(np.concatenate([[True], contexts[1:] != contexts[:-1]]))
        totals = np.add.reduceat(counts, starts).astype(float)
        return Order(keys, counts - cut, contexts[starts], totals, np.add.reduceat(cut, starts) / totals)


def _discounts(counts: Array) -> Array:
    """What to take from a count of 1, 2, and 3 or more (index 0 is unused)."""
    seen = [float((counts == number).sum()) for number in range(1, 5)]
    if min(seen) == 0:
        raise ValueError("too little text for Kneser-Ney: no n-gram occurs exactly once, twice, ... four times")
    y = seen[0] / (seen[0] + 2 * seen[1])
    return np.array([0.0] + [number - (number + 1) * y * seen[number] / seen[number - 1] for number in (1, 2, 3)])


def _find(table: Array, keys: Array) -> tuple[Array, Array]:
    """Where keys stand in a sorted table, and whether they do."""
    place = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return place, table[place] == keys
