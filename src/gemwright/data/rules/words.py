"""English words exactly as spaCy's tokenizer cuts them, and fast: a run of letters is cut once and remembered.

spaCy cuts each run between white space by itself, so that the words of a text are the words of its
runs. Natural text repeats its runs (nineteen of twenty are known after a few megabytes); each new
one is spaCy's to cut. Nothing is guessed: every word is spaCy's.
"""

import functools
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gemwright.data.rules.light import without_networks

Array = npt.NDArray[Any]

# Flags of a word.
LETTER, WORDLIKE, STOPS, PUNCTUATION = 1, 2, 4, 8

_MOST = 250_000  # runs remembered, some 190 MB; then all are forgotten, so that memory stays bounded
_MASK = (1 << 64) - 1
_BASE = 0x9E3779B97F4A7C15 | 1  # of the polynomial hash; any odd number of many bits

# Ends of sentences that spaCy's list lacks.
_MORE_ENDS = [0x61D, 0x61E, 0x964, 0x837, 0x839, 0x83D, 0x83E, 0x17D4, 0x17D5, 0x17D6, 0x17D9, 0x17DA, 0x1B7D, 0x1B7E,
              0x2E53, 0x2E54, 0x10F55, 0x10F56, 0x10F57, 0x10F58, 0x10F59, 0x10F86, 0x10F87, 0x10F88, 0x10F89, 0x11944,
              0x11946, 0x11EF7, 0x11EF8, 0x11F43, 0x11F44, 0x16E98]  # fmt: skip
_SYMBOLS = set(string.punctuation) | set("„“”«»’´…–—∶━►、，；：～％１（）《》〈〉「」【】")
_CONTROLS = {chr(c) for c in (*range(9), *range(11, 32), *range(127, 160))}


@dataclass(frozen=True)
class Words:
    """The words of several texts as ids into a vocabulary, one text after the other.

    Attributes:
      ids: (words,) of all texts.
      starts: (texts + 1,) where each text's words begin and the last one's end.
      vocabulary: what an id stands for.
    """

    ids: Array
    starts: Array
    vocabulary: "Vocabulary"

    def take(self, kept: Sequence[int]) -> "Words":
        """The words of some of the texts."""
        parts = [self.ids[self.starts[i] : self.starts[i + 1]] for i in kept]
        sizes = [len(part) for part in parts]
        ids = np.concatenate(parts) if parts else self.ids[:0]
        return Words(ids, np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64), self.vocabulary)

    def sums(self, values: Array) -> Array:
        """(texts,) sums of a value of each word."""
        total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return total[self.starts[1:]] - total[self.starts[:-1]]

    @property
    def counts(self) -> Array:
        """(texts,) words each."""
        return np.diff(self.starts)

    @property
    def lengths(self) -> Array:
        """(words,) characters each."""
        return self.vocabulary.lengths[self.ids]

    @property
    def flags(self) -> Array:
        """(words,) LETTER, WORDLIKE, STOPS, PUNCTUATION together."""
        return self.vocabulary.flags[self.ids]


class Vocabulary(dict[str, tuple[int, ...]]):
    """Runs between white space to the ids of their words; an unknown run is cut when first asked for."""

    @without_networks()
    def __init__(self) -> None:
        import spacy

        self._cut: Any = spacy.blank("en").tokenizer
        self._ends = sentence_ends()
        self.ids: dict[str, int] = {}
        self.lengths, self.flags = np.zeros(1024, np.int64), np.zeros(1024, np.uint8)
        self.hashes, self.powers = np.zeros(1024, np.uint64), np.zeros(1024, np.uint64)

    def __missing__(self, run: str) -> tuple[int, ...]:
        found = tuple(self._id(token) for token in self._cut(run) if token.text.strip())
        self[run] = found
        return found

    def _id(self, token: Any) -> int:
        text = token.text.strip()
        known = self.ids.get(text)
        if known is None:
            known = self.ids[text] = len(self.ids)
            self._describe(known, text, token.is_punct)
        return known

    def _describe(self, id: int, text: str, is_punctuation: bool) -> None:
        if id == len(self.lengths):
            for name in ("lengths", "flags", "hashes", "powers"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        flags = LETTER * any(c.isalpha() for c in text) | WORDLIKE * any(c not in symbols() for c in text)
        self.flags[id] = flags | STOPS * (text in self._ends) | PUNCTUATION * is_punctuation
        self.lengths[id] = len(text)
        self.hashes[id], self.powers[id] = polynomial(text)


def polynomial(text: str) -> tuple[int, int]:
    """Hash of a text and the factor that shifts what stands before it: hash(ab) = hash(a) * factor(b) + hash(b)."""
    value, factor = 0, 1
    for character in text:
        value = (value * _BASE + ord(character) + 1) & _MASK
        factor = factor * _BASE & _MASK
    return value, factor


def english_words(texts: Sequence[str]) -> Words:
    """The words of texts. White space is no word."""
    vocabulary = _vocabulary()
    if len(vocabulary) > _MOST:
        forget_words()
        vocabulary = _vocabulary()
    ids: list[int] = []
    starts = [0]
    for text in texts:
        for run in map(vocabulary.__getitem__, text.split()):
            ids += run
        starts.append(len(ids))
    return Words(np.array(ids, np.int64), np.array(starts, np.int64), vocabulary)


def forget_words() -> None:
    """Give back the memory of all runs seen so far; they are cut anew."""
    _vocabulary.cache_clear()


@functools.lru_cache(maxsize=1)
def _vocabulary() -> Vocabulary:
    return Vocabulary()


@functools.lru_cache(maxsize=1)
@without_networks()
def sentence_ends() -> frozenset[str]:
    """Characters that spaCy's sentencizer ends a sentence at."""
    from spacy.pipeline import Sentencizer

    return frozenset(Sentencizer.default_punct_chars)


@functools.lru_cache(maxsize=1)
def line_ends() -> frozenset[str]:
    """Characters that end a line which is a sentence, in any script."""
    return sentence_ends() | frozenset(map(chr, _MORE_ENDS))


@functools.lru_cache(maxsize=1)
def symbols() -> frozenset[str]:
    """Characters of which no word can consist alone: punctuation, ends of sentences, control characters."""
    return line_ends() | _SYMBOLS | _CONTROLS
