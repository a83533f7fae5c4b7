"""Equal texts: the first stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from gemwright.data.columns import Columns
from gemwright.data.documents import Document
from gemwright.data.plain import Array, word_hashes
from gemwright.data.rules.batch import Verdicts
from gemwright.data.step import Arrays


@dataclass(frozen=True)
class Exact:
    """Drop texts that came before, character for character, or, if `loosely`, in all their words and their order."""

    loosely: bool = False
    name: str = "exact"

    def sketch(self, documents: Sequence[Document], first: int) -> Arrays:
        """128-bit digests: that two different texts among a billion share one is a chance of 1 in 10^20."""
        digests = b"".join(self._digest(document.text) for document in documents)
        return {"digests": np.frombuffer(digests, np.uint64).reshape(-1, 2)}

    def decide(self, sketches: Columns, scratch: Path) -> Arrays:
        pairs = np.concatenate([np.zeros((0, 2), np.uint64), *sketches.read("digests")])
        order = np.lexsort((np.arange(len(pairs)), pairs[:, 1], pairs[:, 0]))
        again = np.zeros(len(pairs), bool)
        again[order[1:]] = (pairs[order[1:]] == pairs[order[:-1]]).all(axis=1)
        return {"again": np.flatnonzero(again)}

    def judge(self, documents: Sequence[Document], first: int, decision: Arrays) -> Verdicts:
        return Verdicts(["duplicate" if again else None for again in among(decision["again"], first, len(documents))])

    def _digest(self, text: str) -> bytes:
        data = word_hashes(text).tobytes() if self.loosely else text.encode("utf-8")
        return blake2b(data, digest_size=16).digest()


def among(numbers: Array, first: int, count: int) -> Array:
    """(count,) whether each document from `first` on is one of the numbered, which are in order."""
    found = np.zeros(count, bool)
    begin, end = np.searchsorted(numbers, [first, first + count])
    found[numbers[begin:end] - first] = True
    return found
