"""Nearly equal texts, by MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al., chapter 3).

A text is the set of its windows of a few words. Where two sets have a share J of their union in
common, each of many random orders puts the same window first with a chance of J. The first windows,
in bands of a few, are what texts are looked up by; pairs found are then compared in all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemwright.data.columns import Columns
from gemwright.data.documents import Document
from gemwright.data.plain import Array, windows_of
from gemwright.data.repeats.exact import among
from gemwright.data.rules.batch import Verdicts
from gemwright.data.step import Arrays

_CHUNK = 512  # windows hashed at a time: their products stay in the cache
_PAIRS = 1 << 13  # compared at a time
_KEYS = 12 << 20  # of bands, held at a time
_ODD = np.uint64(0x9E3779B97F4A7C15)


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

    def decide(self, sketches: Columns, scratch: Path) -> Arrays:
        """Groups grow band by band, so that pairs within a group already known are not compared again."""
        groups = np.arange(sketches.rows("signatures"))
        for keys in self._bands(sketches):
            pairs = _bucket_pairs(keys)
            pairs = pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]]
            groups = _merged(groups, self._near(sketches, pairs))
        return {"again": np.flatnonzero(groups != np.arange(len(groups)))}

    def judge(self, documents: Sequence[Document], first: int, decision: Arrays) -> Verdicts:
        return Verdicts(["near duplicate" if a else None for a in among(decision["again"], first, len(documents))])

    def _orders(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(self.seed)
        count = self.bands * self.rows
        factors = rng.integers(1 << 62, size=count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        return factors, rng.integers(1 << 62, size=count, dtype=np.uint64)

    def _signature(self, windows: Array, orders: tuple[Array, Array]) -> Array:
        """(orders,) uint32, the smallest value of a window in each order; all ones for a text without windows."""
        factors, terms = (array[:, None] for array in orders)
        smallest = np.full(len(factors), np.iinfo(np.uint64).max, np.uint64)
        for begin in range(0, len(windows), _CHUNK):
            part = windows[begin : begin + _CHUNK] * factors
            part += terms
            np.minimum(smallest, part.min(axis=1), out=smallest)
        return (smallest >> np.uint64(32)).astype(np.uint32)

    def _bands(self, sketches: Columns) -> Iterator[tuple[Array, Array]]:
        """Of each band: the documents that have windows, and a hash of the band's orders in each."""
        documents = sketches.rows("signatures")
        at_once = max(1, _KEYS // max(documents, 1))
        for first in range(0, self.bands, at_once):
            bands = range(first, min(first + at_once, self.bands))
            keys, whole, begin = np.zeros((len(bands), documents), np.uint64), np.zeros(documents, bool), 0
            for part in sketches.read("signatures"):
                end = begin + len(part)
                whole[begin:end] = (part != np.iinfo(np.uint32).max).any(axis=1)
                for band, row in zip(bands, keys, strict=True):
                    row[begin:end] = _folded(part[:, band * self.rows : (band + 1) * self.rows])
                begin = end
            numbers = np.flatnonzero(whole)
            yield from ((numbers, row[numbers]) for row in keys)

    def _near(self, sketches: Columns, pairs: Array) -> Array:
        """Those pairs that agree in enough orders."""
        found = [pairs[:0]]
        for begin in range(0, len(pairs), _PAIRS):
            part = pairs[begin : begin + _PAIRS]
            first, second = (sketches.take("signatures", part[:, k]) for k in (0, 1))
            found.append(part[(first == second).mean(axis=1) >= self.threshold])
        return np.concatenate(found)


def _folded(rows: Array) -> Array:
    """(documents,) 64-bit hashes of rows; equal hashes of different rows only cost a comparison."""
    keys = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        keys = (keys ^ (keys >> np.uint64(29))) * _ODD + column
    return keys


def _bucket_pairs(band: tuple[Array, Array]) -> Array:
    """(pairs, 2) documents with equal keys: each with the one before it and with the first one."""
    numbers, keys = band
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    begins = np.maximum.accumulate(np.where(np.concatenate([[True], ~same]), np.arange(len(order)), 0))[1:]
    later, before = order[1:][same], order[:-1][same]
    pairs = np.concatenate([np.stack([before, later], 1), np.stack([order[begins[same]], later], 1)])
    return numbers[pairs[pairs[:, 0] != pairs[:, 1]]]


def _merged(groups: Array, pairs: Array) -> Array:
    """(documents,) the first document of each one's group, after the groups of some pairs have become one."""
    if not len(pairs):
        return groups
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(groups)
    edges = groups[pairs]
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, parts = connected_components(graph, directed=False)
    first = np.full(int(parts.max()) + 1, count)
    np.minimum.at(first, parts, np.arange(count))
    return first[parts[groups]]
