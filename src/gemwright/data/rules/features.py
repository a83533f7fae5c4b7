"""Texts as sets of numbered features, for linear models: words, runs of four letters, and forms of three words.

The runs know a word by its parts: with few labelled examples most words of a new text were never seen. A form is
three words or signs in a row, in which all but the commonest words are put down by their looks alone: what is left
is how sentences are made, which lists and shuffled words do not have.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gemwright.data.plain import Array, window_hashes, word_hashes

_BITS = 16  # of the number of a word or a run
_FORM_BITS = 15  # of a form's, after those
COUNT = (1 << _BITS) + (1 << _FORM_BITS)

_RUN = 4  # letters
_FORM = 3  # words and signs
_WORDS = (
    "a about after again all also am an and any are as at be because been before being but by can could "
    "did do does down each even every for from had has have he her here him his how i if in into is it "
    "its just like made may me might more most much must my no nor not now of off on once one only or "
    "other our out over own said same see she should so some such than that the their them then there "
    "these they this those through to too two under until up upon us very was we well were what when "
    "where which while who whom whose why will with would you your "
)
_COMMON = frozenset(_WORDS.split())
_TOKEN = re.compile(r"[^\W\d_]+|\d+|\n|[^\w\s]")
_GAPS = re.compile(r"[\W_]+")
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_OWNER = np.uint64(17)  # bits of a feature's number below its text's
_REMEMBERED = 200_000  # tokens
_TOGETHER = 1 << 17  # characters


@dataclass(frozen=True)
class Features:
    """Features of several texts, one text after the other.

    Attributes:
      numbers: (features,) below COUNT, each once in a text, in order.
      starts: (texts + 1,) where each text's features begin and the last one's end.
    """

    numbers: Array
    starts: Array


def features(texts: Sequence[str]) -> Features:
    """What the texts have, found for some of them together: for all at once it would take 70 bytes a character."""
    found = [_together(group) for group in _groups(texts)]
    starts, before = [np.zeros(1, np.int64)], 0
    for one in found:
        starts.append(one.starts[1:] + before)
        before += len(one.numbers)
    numbers = [np.zeros(0, np.int64), *(one.numbers for one in found)]
    return Features(np.concatenate(numbers), np.concatenate(starts))


def _groups(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    begin = size = 0
    for end, text in enumerate(texts, 1):
        size += len(text)
        if size >= _TOGETHER or end == len(texts):
            yield texts[begin:end]
            begin, size = end, 0


def _together(texts: Sequence[str]) -> Features:
    words = [word_hashes(text) for text in texts]
    forms = [
        window_hashes(np.array([_looks[token] for token in _TOKEN.findall(text)], np.uint64), _FORM) for text in texts
    ]
    runs, run_owners = _runs(texts)
    low = np.concatenate([*words, runs]) >> np.uint64(64 - _BITS)
    high = (np.concatenate([*forms, runs[:0]]) * _SPREAD >> np.uint64(64 - _FORM_BITS)) + np.uint64(1 << _BITS)
    owners = np.concatenate([_owners(words), run_owners, _owners(forms)]).astype(np.uint64)
    keys = np.sort(owners << _OWNER | np.concatenate([low, high]))
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]]
    starts = np.searchsorted(keys, np.arange(len(texts) + 1, dtype=np.uint64) << _OWNER)
    return Features((keys & np.uint64((1 << int(_OWNER)) - 1)).astype(np.int64), starts)


def _owners(parts: Sequence[Array]) -> Array:
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])


class _Looks(dict[str, int]):
    """Words and signs to 64-bit numbers: the commonest words and signs each to their own, others to one by looks."""

    def __missing__(self, token: str) -> int:
        looks = _shape(token) if token.isalpha() and token.lower() not in _COMMON else "0" if token.isdigit() else token
        value = int.from_bytes(hashlib.blake2b(looks.lower().encode("utf-8", "surrogatepass"), digest_size=8).digest())
        if len(self) < _REMEMBERED:
            self[token] = value
        return value


def _shape(word: str) -> str:
    """How a word is written and whether it is short; `-` keeps it apart from words."""
    case = "low" if word.islower() else "high" if word.isupper() else "title" if word.istitle() else "mixed"
    return f"{case}-{min(len(word), 12) // 4}"


_looks = _Looks()


def _runs(texts: Sequence[str]) -> tuple[Array, Array]:
    """(runs,) hashes of the runs of letters, and the number of the text that each stands in."""
    plain = [_GAPS.sub(" ", f" {text.casefold()} ") for text in texts]
    letters = np.frombuffer("".join(plain).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    hashes = window_hashes(letters * _SPREAD, _RUN) * _SPREAD
    owners = np.repeat(np.arange(len(texts)), [len(one) for one in plain])
    first, last = owners[: len(hashes)], owners[_RUN - 1 :]
    inside = first == last[: len(hashes)]  # a run that goes over into the next text is none
    return hashes[inside], first[inside]
