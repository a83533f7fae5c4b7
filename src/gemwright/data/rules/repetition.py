"""The repetition rules of Gopher (Rae et al. 2021, table A1), as datatrove reads them, for a batch at once.

Bounds settle most texts: how often a passage occurs is counted for a whole batch by sorting hashes.
Where a bound comes near a threshold the text is read passage by passage, as datatrove does, with a
64-bit hash for a passage's characters: that two which differ share one is a chance of 1 in 10^19 a pair.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gemwright.data.rules.batch import Batch, Verdicts
from gemwright.data.rules.words import Array, Words

_PARAGRAPHS = re.compile(r"\n{2,}")
_LINES = re.compile(r"\n+")
_ODD = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class GopherRepetition:
    """Lines, paragraphs or passages of 2 to 10 words that come again and again.

    Attributes:
      lines, paragraphs: largest share of them that are repeats.
      line_characters, paragraph_characters: largest share of a text's characters in such repeats.
      top: for n words, the largest share of characters in the most frequent passage of n words.
      repeated: for n words, the largest share of characters in passages of n words seen before.
    """

    lines: float = 0.3
    paragraphs: float = 0.3
    line_characters: float = 0.2
    paragraph_characters: float = 0.2
    top: tuple[tuple[int, float], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    repeated: tuple[tuple[int, float], ...] = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    name: str = "gopher_repetition"

    def __call__(self, batch: Batch) -> Verdicts:
        reasons = [self._by_lines(text) for text in batch.texts]
        open_ = [i for i, reason in enumerate(reasons) if reason is None]
        if open_:
            sizes = np.array([len(batch.texts[i]) for i in open_])
            words = batch.words.take(open_) if len(open_) < len(batch) else batch.words
            for i, reason in zip(open_, self._by_words(words, sizes), strict=True):
                reasons[i] = reason
        return Verdicts(reasons)

    def _by_lines(self, text: str) -> str | None:
        if not text:
            return "empty"
        repeats, characters, share = _repeats(_PARAGRAPHS.split(text.strip()))
        if share > self.paragraphs:
            return "repeated paragraphs"
        if characters / len(text) > self.paragraph_characters:
            return "characters in repeated paragraphs"
        repeats, characters, share = _repeats(_LINES.split(text))
        if share > self.lines:
            return "repeated lines"
        if repeats and characters / len(text) > self.line_characters:
            return "characters in repeated lines"
        return None

    def _by_words(self, words: Words, sizes: Array) -> list[str | None]:
        """Bounds from counts settle most texts; of the rest the passages are counted one by one."""
        reasons: list[str | None] = [None] * len(sizes)
        for n, most in self.top:
            bound = _most_frequent(words, n) * (_longest(words, n) + n - 1)
            for i in _suspects(bound, sizes, most, reasons):
                if _top_characters(words.take([i]), n) / sizes[i] > most:
                    reasons[i] = f"top {n} words"
        for n, hashes in _passages(words, max((n for n, _ in self.repeated), default=0)):
            most = dict(self.repeated).get(n)
            if most is None:
                continue
            bound = _repeats_of(words, hashes, n) * _longest(words, n)
            for i in _suspects(bound, sizes, most, reasons):
                if _repeated_characters(words.take([i]), n) / sizes[i] > most:
                    reasons[i] = f"repeated {n} words"
        return reasons


def _suspects(bound: Array, sizes: Array, most: float, reasons: list[str | None]) -> list[int]:
    """Texts without a reason yet whose bound, in characters, does not settle that they stay."""
    return [int(i) for i in np.flatnonzero(bound > most * sizes * (1 - 1e-9)) if reasons[i] is None]


def _repeats(parts: Sequence[str]) -> tuple[int, int, float]:
    """How many parts were there before, their characters, and their share of all parts."""
    if len(set(parts)) == len(parts):
        return 0, 0, 0.0
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count, characters = count + 1, characters + len(part)
        seen.add(part)
    return count, characters, count / len(parts)


def _places(words: Words, n: int) -> tuple[Array, Array]:
    """Positions at which n words of one text begin, and the texts they are in."""
    texts = np.repeat(np.arange(len(words.counts)), words.counts)
    last = max(len(texts) - n + 1, 0)
    places = np.flatnonzero(texts[:last] == texts[len(texts) - last :])
    return places, texts[places]


def _longest(words: Words, n: int) -> Array:
    """(texts,) characters in the longest passage of n words."""
    places, texts = _places(words, n)
    total = np.concatenate([[0], np.cumsum(words.lengths)])
    return _most(texts, total[places + n] - total[places], len(words.counts))


def _most(texts: Array, values: Array, count: int) -> Array:
    """(texts,) the largest of a text's values, 0 where it has none; texts come in order."""
    result = np.zeros(count, np.int64)
    begins = np.flatnonzero(np.diff(texts, prepend=-1))
    if len(begins):
        result[texts[begins]] = np.maximum.reduceat(values, begins)
    return result


def _sorted_keys(keys: Array, texts: Array) -> Array:
    """Keys with the text's number in front, so that sorting keeps texts together and repeats side by side.

    Half of a 64-bit hash is left: what differs may look the same and raise a bound, never lower it.
    """
    mixed = (keys ^ (keys >> np.uint64(29))) * _ODD >> np.uint64(32)
    return np.sort(texts.astype(np.uint64) << np.uint64(32) | mixed)


def _most_frequent(words: Words, n: int) -> Array:
    """(texts,) at least how often the most frequent passage of n words occurs."""
    places, texts = _places(words, n)
    keys = np.zeros(len(places), np.uint64)
    for k in range(n):
        keys = (keys + words.ids[places + k].astype(np.uint64) + np.uint64(1)) * _ODD
    keys = _sorted_keys(keys, texts)
    begins = np.flatnonzero(np.diff(keys, prepend=np.uint64(1 << 63)))
    counts = np.diff(np.append(begins, len(keys)))
    return _most((keys[begins] >> np.uint64(32)).astype(np.int64), counts, len(words.counts))


def _repeats_of(words: Words, hashes: Array, n: int) -> Array:
    """(texts,) at least how many passages of n words were there before."""
    places, texts = _places(words, n)
    keys = _sorted_keys(hashes[places], texts)
    again = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
    return np.bincount(again.astype(np.int64), minlength=len(words.counts))


def _top_characters(words: Words, n: int) -> int:
    """Characters, spaces included, in the most frequent passage of n words of one text; of several the first."""
    ids = words.ids.tolist()
    passages = Counter(zip(*(ids[k:] for k in range(n)), strict=False))
    if not passages:
        return 0
    passage, count = passages.most_common(1)[0]
    return (int(words.vocabulary.lengths[list(passage)].sum()) + n - 1) * count


def _passages(words: Words, longest: int) -> Iterator[tuple[int, Array]]:
    """For n from 1 to `longest`, the hash of the characters of the n words that begin at each word."""
    hashes, powers = words.vocabulary.hashes[words.ids], words.vocabulary.powers[words.ids]
    joined = hashes
    for n in range(1, longest + 1):
        if n > 1:
            joined = joined[:-1] * powers[n - 1 :] + hashes[n - 1 :]
        yield n, joined


def _repeated_characters(words: Words, n: int) -> int:
    """Characters in passages of n words of one text that were there before, as a greedy reader counts them.

    The reader goes on from a repeated passage's end, from any other place at the next word.
    """
    *_, (_, hashes) = _passages(words, n)
    total = np.concatenate([[0], np.cumsum(words.lengths)])
    seen: set[int] = set()
    repeated, free = 0, 0
    for place, (key, length) in enumerate(zip(hashes.tolist(), (total[n:] - total[:-n]).tolist(), strict=True)):
        if place < free:
            continue
        if key in seen:
            repeated, free = repeated + length, place + n
        seen.add(key)
    return repeated
