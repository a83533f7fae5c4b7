"""Finding a benchmark's passages in texts, also where some words were changed, left out or put in.

Words are compared without case, punctuation, white space and accents. A passage is suspected where
five of its words stand in a row, and found where enough of its words stand in order near there
(longest common subsequence, by rapidfuzz).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gemwright.data.documents import Document
from gemwright.data.leaks.contamination import count_name
from gemwright.data.leaks.items import Benchmark, Passage, read_benchmarks
from gemwright.data.plain import Array, window_hashes, word_hashes
from gemwright.data.rules.batch import Verdicts
from gemwright.data.step import Arrays

_SEED = 5  # words in a row that raise a suspicion
_COMMON = 50  # a seed of more passages than this is a phrase of the benchmark's form, and says nothing


@dataclass(frozen=True)
class Found:
    """A passage in a text: which one, and the share of its words that stand there in order."""

    passage: Passage
    share: float


@dataclass(frozen=True)
class Decontaminate:
    """Drop texts that hold a benchmark's passage.

    Attributes:
      against: files and folders of benchmarks; a file is named after its folder among them, or itself.
      min_words: shorter passages are not looked for: they occur by chance.
      may_change: the share of a passage's words that may be missing or changed. Short ones are borne less:
        below 9 words all must be there.
    """

    against: tuple[str, ...]
    min_words: int = 8
    may_change: float = 0.15
    name: str = "decontaminate"

    def judge(self, documents: Sequence[Document], first: int, decision: Arrays) -> Verdicts:
        reasons: list[str | None] = []
        counts: Counter[str] = Counter()
        for document in documents:
            found = self.find(document.text)
            names = sorted({one.passage.benchmark for one in found})
            for one in {(one.passage.benchmark, one.passage.item) for one in found}:
                counts[count_name(*one)] += 1
            reasons.append("+".join(names) if names else None)
        return Verdicts(reasons, None, counts)

    def find(self, text: str) -> list[Found]:
        """All passages that a text holds, each once."""
        words = word_hashes(text)
        suspects: dict[int, list[int]] = {}
        for place in self._seeded(words):
            for passage, offset in self._index.get(int(window_hashes(words[place : place + _SEED], _SEED)[0]), ()):
                suspects.setdefault(passage, []).append(int(place) - offset)
        found: list[Found] = []
        for number, begins in suspects.items():
            passage = self._passages[number]
            share = self._best(words, passage.words, begins)
            if (1 - share) * len(passage.words) <= self._may_miss(len(passage.words)):
                found.append(Found(passage, share))
        return found

    def _may_miss(self, words: int) -> float:
        return 0.5 if words < 9 else int(self.may_change * words) + 0.5 + (words >= 16)

    def _seeded(self, words: Array) -> Array:
        """Places at which a seed of some passage stands."""
        windows = window_hashes(words, _SEED)
        known = self._keys
        if not len(known) or not len(windows):
            return np.zeros(0, np.int64)
        return np.flatnonzero(known[np.minimum(np.searchsorted(known, windows), len(known) - 1)] == windows)

    def _best(self, words: Array, passage: Array, begins: list[int]) -> float:
        """The largest share of a passage's words in order, near the places where it seems to begin."""
        from rapidfuzz.distance import LCSseq

        slack = max(4, len(passage) // 4)
        best, seen = 0.0, -1
        for begin in sorted(begins):
            if begin <= seen:
                continue
            seen = begin + slack // 2
            part = words[max(begin - slack, 0) : begin + len(passage) + slack]
            common = LCSseq.similarity(passage.tolist(), part.tolist())
            best = max(best, common / len(passage))
        return best

    @cached_property
    def benchmarks(self) -> list[Benchmark]:
        """What is looked for, read from the files."""
        return read_benchmarks(self.against, self.min_words)

    @cached_property
    def _passages(self) -> list[Passage]:
        return [passage for benchmark in self.benchmarks for passage in benchmark.passages]

    @cached_property
    def _index(self) -> dict[int, list[tuple[int, int]]]:
        """Seeds to the passages they stand in, and where; without the seeds of very many."""
        index: dict[int, list[tuple[int, int]]] = {}
        for number, passage in enumerate(self._passages):
            for offset, key in enumerate(window_hashes(passage.words, _SEED).tolist()):
                index.setdefault(key, []).append((number, offset))
        return {key: places for key, places in index.items() if len(places) <= _COMMON}

    @cached_property
    def _keys(self) -> Array:
        return np.array(sorted(self._index), np.uint64)
