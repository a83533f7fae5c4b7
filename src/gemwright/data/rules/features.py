"""Texts as sets of numbered features, for linear models: their words and their runs of four letters.

The runs know a word by its parts: with few labelled examples most words of a new text were never seen.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gemwright.data.plain import Array, window_hashes, word_hashes

BITS = 16  # of a feature's number

_RUN = 4  # letters
_GAPS = re.compile(r"[\W_]+")
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_TOP = np.uint64(64 - BITS)


@dataclass(frozen=True)
class Features:
    """Features of several texts, one text after the other.

    Attributes:
      numbers: (features,) below 2**BITS, each once in a text, in order.
      starts: (texts + 1,) where each text's features begin and the last one's end.
    """

    numbers: Array
    starts: Array


def features(texts: Sequence[str]) -> Features:
    """What the texts have, found for all of them together."""
    words = [word_hashes(text) for text in texts]
    runs, run_owners = _runs(texts)
    word_owners = np.repeat(np.arange(len(texts)), [len(found) for found in words])
    hashes = np.concatenate([*words, runs]) >> _TOP
    owners = np.concatenate([word_owners, run_owners]).astype(np.uint64)
    keys = np.sort(owners << np.uint64(BITS) | hashes)
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]]
    starts = np.searchsorted(keys, np.arange(len(texts) + 1, dtype=np.uint64) << np.uint64(BITS))
    return Features((keys & np.uint64((1 << BITS) - 1)).astype(np.int64), starts)


def _runs(texts: Sequence[str]) -> tuple[Array, Array]:
    """(runs,) hashes of the runs of letters, and the number of the text that each stands in."""
    plain = [_GAPS.sub(" ", f" {text.casefold()} ") for text in texts]
    letters = np.frombuffer("".join(plain).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    hashes = window_hashes(letters * _SPREAD, _RUN) * _SPREAD
    owners = np.repeat(np.arange(len(texts)), [len(one) for one in plain])
    first, last = owners[: len(hashes)], owners[_RUN - 1 :]
    inside = first == last[: len(hashes)]  # a run that goes over into the next text is none
    return hashes[inside], first[inside]
