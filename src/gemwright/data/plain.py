"""Texts as plain words, for comparing: case, punctuation, white space and accents left out."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_WORD = re.compile(r"[^\W_]+")
_MASK = (1 << 64) - 1
_ODD = np.uint64(0x9E3779B97F4A7C15)
_REMEMBERED = 500_000  # words, some 80 MB


class _Hashes(dict[str, int]):
    """Words to 64-bit hashes that are the same in every process; only so many are remembered."""

    def __missing__(self, word: str) -> int:
        from hashlib import blake2b

        if len(self) > _REMEMBERED:
            self.clear()
        plain = "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c))
        value = self[word] = int.from_bytes(
            blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
        )
        return value


_hashes = _Hashes()


def word_hashes(text: str) -> Array:
    """(words,) uint64. East Asian text without spaces gives a word for each of its characters."""
    return np.array([_hashes[word] for word in _words(text)], np.uint64)


def _words(text: str) -> list[str]:
    return _WORD.findall(text) if not _EAST_ASIAN.search(text) else _PIECE.findall(text)


_EAST_ASIAN = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
_PIECE = re.compile(f"{_EAST_ASIAN.pattern}|(?:(?!{_EAST_ASIAN.pattern})[^\\W_])+")


@dataclass(frozen=True)
class Spans:
    """Where the words of a text stand: (words,) first and one past the last character."""

    begins: Array
    ends: Array


def word_spans(text: str) -> Spans:
    """The places of the words that `word_hashes` gives."""
    pattern = _PIECE if _EAST_ASIAN.search(text) else _WORD
    found = [match.span() for match in pattern.finditer(text)]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return Spans(pairs[:, 0], pairs[:, 1])


def window_hashes(words: Array, n: int) -> Array:
    """(words - n + 1,) hashes of each n words in a row, independent of where they stand; empty for fewer words."""
    if len(words) < n:
        return np.zeros(0, np.uint64)
    last = len(words) - n + 1
    result = np.zeros(last, np.uint64)
    for k in range(n):
        result = result * _ODD + words[k : last + k]
    return result ^ (result >> np.uint64(31))


def windows_of(texts: Sequence[str], n: int) -> list[Array]:
    return [window_hashes(word_hashes(text), n) for text in texts]
