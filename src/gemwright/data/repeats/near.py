"""Nearly equal texts, by MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al., chapter 3).

A text is the set of its windows of a few words. Where two sets have a share J of their union in
common, each of many random orders puts the same window first with a chance of J. The first windows,
in bands of a few, are what texts are looked up by; pairs found are then compared in all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gemwright.data.documents import Document
from gemwright.data.plain import Array, windows_of
from gemwright.data.repeats.exact import among
from gemwright.data.rules.batch import Verdicts
from gemwright.data.step import Arrays, Sketch

_CHUNK = 4096  # windows hashed at a time
_PAIRS = 1 << 20  # compared at a time


@dataclass(frozen=True)
class Near:
    """Keep the first of each group of nearly equal texts.

    A tenth of all words changed leaves 0.73 of the windows of 3 words, so J = 0.57: that is found with a chance of
    0.9998, and above the threshold with one of 0.997. Texts that share a subject have J below 0.1.

    Attributes:
      words: in a window.
      bands, rows: so many bands of so many orders each.
      threshold: the share of orders in agreement from which on two texts count as nearly equal.
      seed: of the orders.
    """

    words: int = 3
    bands: int = 42
    rows: int = 3
    threshold: float = 0.45
    seed: int = 1
    name: str = "near"

    def sketch(self, documents: Sequence[Document], first: int) -> Arrays:
        orders = self._orders()
        found = [self._signature(w, orders) for w in windows_of([d.text for d in documents], self.words)]
        return {"signatures": np.stack(found) if found else np.zeros((0, self.bands * self.rows), np.uint32)}

    def decide(self, sketches: Sequence[Sketch]) -> Arrays:
        signatures = np.concatenate([sketch()["signatures"] for sketch in sketches])
        return {"again": _later_of_groups(len(signatures), self._pairs(signatures))}

    def judge(self, documents: Sequence[Document], first: int, decision: Arrays) -> Verdicts:
        return Verdicts(["near duplicate" if a else None for a in among(decision["again"], first, len(documents))])

    def _orders(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(self.seed)
        count = self.bands * self.rows
        factors = rng.integers(1 << 62, size=count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        return factors, rng.integers(1 << 62, size=count, dtype=np.uint64)

    def _signature(self, windows: Array, orders: tuple[Array, Array]) -> Array:
        """(orders,) uint32, the smallest value of a window in each order; all ones for a text without windows."""
        factors, terms = orders
        smallest = np.full(len(factors), np.iinfo(np.uint32).max, np.uint32)
        windows = np.unique(windows)
        for begin in range(0, len(windows), _CHUNK):
            part = windows[begin : begin + _CHUNK, None] * factors + terms
            smallest = np.minimum(smallest, (part >> np.uint64(32)).astype(np.uint32).min(axis=0))
        return smallest

    def _pairs(self, signatures: Array) -> Array:
        """(pairs, 2) documents that agree in a band and in enough orders; each with the first of its bucket."""
        whole = np.flatnonzero((signatures != np.iinfo(np.uint32).max).any(axis=1))
        found: list[Array] = [np.zeros((0, 2), np.int64)]
        for band in range(self.bands):
            rows = signatures[whole, band * self.rows : (band + 1) * self.rows]
            pairs = whole[_bucket_pairs(rows)]
            for begin in range(0, len(pairs), _PAIRS):
                part = pairs[begin : begin + _PAIRS]
                agree = (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(axis=1)
                found.append(part[agree >= self.threshold])
        return np.unique(np.concatenate(found), axis=0)


def _bucket_pairs(rows: Array) -> Array:
    """(pairs, 2) positions with equal rows: each with the one before it and with the first one."""
    order = np.lexsort(rows.T[::-1])
    same = (rows[order[1:]] == rows[order[:-1]]).all(axis=1)
    begins = np.maximum.accumulate(np.where(np.concatenate([[True], ~same]), np.arange(len(order)), 0))[1:]
    later, before = order[1:][same], order[:-1][same]
    pairs = np.concatenate([np.stack([before, later], 1), np.stack([order[begins[same]], later], 1)])
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _later_of_groups(count: int, pairs: Array) -> Array:
    """Numbers of all documents but the first of each connected group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, groups = connected_components(graph, directed=False)
    first = np.full(groups.max(initial=-1) + 1, count)
    np.minimum.at(first, groups, np.arange(count))
    return np.flatnonzero(first[groups] != np.arange(count))
