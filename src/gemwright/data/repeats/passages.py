"""Long passages that occur again and again, in one text or in many, are cut but for the first times.

Lee et al. 2021 look for equal substrings in a suffix array of the whole corpus. Here every window of
so many words has a hash, and hashes are sorted a range at a time, so that memory stays bounded. The
result is the same: each passage of at least a window's length that occurs too often is found whole.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gemwright.data.documents import Document
from gemwright.data.plain import Array, windows_of, word_spans
from gemwright.data.rules.batch import Verdicts
from gemwright.data.step import Arrays, Sketch

_HELD = 16 << 20  # hashes sorted at a time


@dataclass(frozen=True)
class Passages:
    """Cut passages of at least `words` words after their first `copies` occurrences.

    `Passages(50)` removes repeated text; `Passages(25, copies=10, name="recitation")` caps what a model would
    otherwise learn by heart. Case, punctuation and white space make no difference.

    Attributes:
      words: in the shortest passage cut.
      copies: occurrences that stay.
      min_left: a text of which fewer words are left is dropped.
    """

    words: int = 50
    copies: int = 1
    min_left: int = 5
    name: str = "passages"

    def sketch(self, documents: Sequence[Document], first: int) -> Arrays:
        """(windows,) hashes of all windows in order, and (documents,) how many each has."""
        found = windows_of([d.text for d in documents], self.words)
        hashes = np.concatenate(found) if found else np.zeros(0, np.uint64)
        return {"hashes": hashes, "counts": np.array([len(part) for part in found], np.int64)}

    def decide(self, sketches: Sequence[Sketch]) -> Arrays:
        """The hashes that occur too often, and for each the window, counted through all texts, of its last copy."""
        total = sum(int(sketch()["counts"].sum()) for sketch in sketches)
        ranges = total // _HELD + 1
        parts = [self._decide_range(sketches, part, ranges) for part in range(ranges)]
        firsts = np.concatenate([[0], *(sketch()["counts"] for sketch in sketches)]).cumsum()
        hashes, last = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        return {"hashes": hashes, "last": last, "firsts": firsts}

    def _decide_range(self, sketches: Sequence[Sketch], part: int, ranges: int) -> tuple[Array, Array]:
        low, high = (part << 64) // ranges, ((part + 1) << 64) // ranges - 1
        found, places, begin = list[Array](), list[Array](), 0
        for sketch in sketches:
            hashes = sketch()["hashes"]
            inside = np.flatnonzero((hashes >= np.uint64(low)) & (hashes <= np.uint64(high)))
            found.append(hashes[inside])
            places.append(inside + begin)
            begin += len(hashes)
        hashes = np.concatenate(found)
        order = np.argsort(hashes, kind="stable")  # equal ones stay in the texts' order
        hashes, where = hashes[order], np.concatenate(places)[order]
        begins = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]])) if len(hashes) else order
        often = begins[np.diff(np.append(begins, len(hashes))) > self.copies]
        return hashes[often], where[often + self.copies - 1]

    def judge(self, documents: Sequence[Document], first: int, decision: Arrays) -> Verdicts:
        reasons, texts, counts = list[str | None](), list[str](), Counter[str]()
        windows = windows_of([d.text for d in documents], self.words)
        for number, (document, hashes) in enumerate(zip(documents, windows, strict=True), first):
            extra = self._extra(hashes, int(decision["firsts"][number]), decision)
            text, cut, left = document.text, 0, self.min_left
            if extra.any():
                text, cut, left = self._cut(document.text, extra)
                counts["words cut"] += cut
                counts["texts cut"] += 1
            reasons.append("repeated passages" if cut and left < self.min_left else None)
            texts.append(text)
        return Verdicts(reasons, texts, counts)

    def _extra(self, hashes: Array, begin: int, decision: Arrays) -> Array:
        """(windows,) whether a window is one copy too many."""
        known = decision["hashes"]
        if not len(known) or not len(hashes):
            return np.zeros(len(hashes), bool)
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        return (known[at] == hashes) & (begin + np.arange(len(hashes)) > decision["last"][at])

    def _cut(self, text: str, extra: Array) -> tuple[str, int, int]:
        """The text without those windows, the words cut and the words left."""
        spans = word_spans(text)
        marks = np.zeros(len(spans.begins) + 1, np.int64)
        np.add.at(marks, np.flatnonzero(extra), 1)
        np.add.at(marks, np.flatnonzero(extra) + self.words, -1)
        inside = np.cumsum(marks)[:-1] > 0
        edges = np.flatnonzero(np.diff(inside, prepend=False, append=False)).reshape(-1, 2)
        kept, at = list[str](), 0
        for begin, end in edges:
            kept.append(text[at : spans.begins[begin]])
            at = int(spans.begins[end]) if end < len(spans.begins) else len(text)
        cut = int(inside.sum())
        return "".join([*kept, text[at:]]), cut, len(inside) - cut
