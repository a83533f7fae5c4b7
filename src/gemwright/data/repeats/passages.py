"""Long passages that occur again and again, in one text or in many, are cut but for the first times.

Lee et al. 2021 look for equal substrings in a suffix array of the whole corpus. Here every window of
so many words has a hash, and hashes are put into files by ranges and sorted a file at a time, so that
memory stays bounded. The result is the same: each passage of at least a window's length that occurs
too often is found whole.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemwright.data.columns import Columns
from gemwright.data.documents import Document
from gemwright.data.plain import Array, windows_of, word_spans
from gemwright.data.rules.batch import Verdicts
from gemwright.data.step import Arrays

_HELD = 1 << 20  # hashes sorted at a time, about
_FILES = 512  # open at a time; very large inputs have larger ranges


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

    def decide(self, sketches: Columns, scratch: Path) -> Arrays:
        """A bit for each window, counted through all texts, that is one copy too many; each text's first window."""
        firsts = np.concatenate([[0], *sketches.read("counts")]).cumsum()
        extra = np.zeros(int(firsts[-1]) // 8 + 1, np.uint8)
        ranges = min(int(firsts[-1]) // _HELD + 1, _FILES)
        for file in _by_range(sketches.read("hashes"), ranges, scratch):
            hashes, places = np.fromfile(file, np.uint64).reshape(-1, 2).T
            again = places[_copies_before(hashes) >= self.copies]
            np.add.at(extra, again >> 3, np.left_shift(1, again & 7).astype(np.uint8))  # each place comes once
        return {"extra": extra, "firsts": firsts}

    def judge(self, documents: Sequence[Document], first: int, decision: Arrays) -> Verdicts:
        reasons, texts, counts = list[str | None](), list[str](), Counter[str]()
        for number, document in enumerate(documents, first):
            extra = _bits(decision["extra"], *map(int, decision["firsts"][number : number + 2]))
            text, cut, left = document.text, 0, self.min_left
            if extra.any():
                text, cut, left = self._cut(document.text, extra)
                counts["words cut"] += cut
                counts["texts cut"] += 1
            reasons.append("repeated passages" if cut and left < self.min_left else None)
            texts.append(text)
        return Verdicts(reasons, texts, counts)

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


def _by_range(parts: Iterable[Array], ranges: int, scratch: Path) -> list[Path]:
    """Hashes in files by their ranges, each with its place among all; the places in a file rise."""
    paths = [scratch / f"{number}.pairs" for number in range(ranges)]
    width, begin = np.uint64(((1 << 64) - 1) // ranges), 0
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for hashes in parts:
            owner = np.minimum(hashes // width, ranges - 1).astype(np.uint16)
            order = np.argsort(owner, kind="stable")
            pairs = np.stack([hashes, np.arange(begin, begin + len(hashes), dtype=np.uint64)], 1)[order]
            ends = np.bincount(owner, minlength=ranges).cumsum()
            for file, part in zip(files, np.split(pairs, ends[:-1]), strict=True):
                file.write(part.tobytes())
            begin += len(hashes)
    return paths


def _copies_before(hashes: Array) -> Array:
    """(hashes,) how many equal ones stand before each."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(order)]
    number = np.arange(len(order))
    result = np.zeros(len(order), np.int64)
    result[order] = number - np.maximum.accumulate(np.where(begins, number, 0))
    return result


def _bits(bits: Array, begin: int, end: int) -> Array:
    part = np.unpackbits(bits[begin >> 3 : (end + 7) >> 3], bitorder="little")
    return part[begin & 7 :][: end - begin].astype(bool)
