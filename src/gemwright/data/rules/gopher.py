"""The quality rules of Gopher (Rae et al. 2021, table A1 and its text), as datatrove reads them."""

from dataclasses import dataclass

import numpy as np

from gemwright.data.rules.batch import Batch, Verdicts
from gemwright.data.rules.words import LETTER, WORDLIKE, Array, Words

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


@dataclass(frozen=True)
class GopherQuality:
    """Too few or many words, words too short or long, too many symbols, bullets or ellipses, too few stop words.

    Words of symbols alone count for the ratios and not for the number and length of words.
    """

    min_words: int = 50
    max_words: int = 100_000
    min_mean_length: float = 3
    max_mean_length: float = 10
    max_symbol_ratio: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_letter_words: float = 0.8
    min_stop_words: int = 2
    name: str = "gopher_quality"

    def __call__(self, batch: Batch) -> Verdicts:
        words = batch.words
        counted = self._by_count(words)
        stops = _distinct_stop_words(words)
        letters = words.sums(words.flags & LETTER != 0)
        reasons: list[str | None] = []
        for text, reason, stop, count, letter in zip(batch.texts, counted, stops, words.counts, letters, strict=True):
            if reason is None:
                reason = self._by_symbols(text, int(count)) or self._by_lines(text)
            if reason is None and letter / count < self.min_letter_words:
                reason = "few words with letters"
            if reason is None and stop < self.min_stop_words:
                reason = "few stop words"
            reasons.append(reason)
        return Verdicts(reasons)

    def _by_count(self, words: Words) -> list[str | None]:
        wordlike = words.flags & WORDLIKE != 0
        counts = words.sums(wordlike)
        with np.errstate(invalid="ignore"):
            means = words.sums(np.where(wordlike, words.lengths, 0)) / counts
        tests = [
            (counts < self.min_words, "few words"),
            (counts > self.max_words, "many words"),
            (means < self.min_mean_length, "short words"),
            (means > self.max_mean_length, "long words"),
            (counts == 0, "few words"),
        ]
        reasons: list[str | None] = [None] * len(counts)
        for failed, reason in reversed(tests):
            for i in np.flatnonzero(failed):
                reasons[i] = reason
        return reasons

    def _by_symbols(self, text: str, words: int) -> str | None:
        if text.count("#") / words > self.max_symbol_ratio:
            return "many hashes"
        if (text.count("...") + text.count("…")) / words > self.max_symbol_ratio:
            return "many ellipses"
        return None

    def _by_lines(self, text: str) -> str | None:
        bullets, ellipses = "•" in text or "-" in text, "..." in text or "…" in text
        if not bullets and not ellipses:
            return None
        lines = text.splitlines()
        if bullets and sum(s.lstrip().startswith(("•", "-")) for s in lines) / len(lines) > self.max_bullet_lines:
            return "bullet lines"
        if ellipses and sum(s.rstrip().endswith(("...", "…")) for s in lines) / len(lines) > self.max_ellipsis_lines:
            return "lines ending in ellipses"
        return None


def _distinct_stop_words(words: Words) -> Array:
    """(texts,) how many of the stop words each text has."""
    found = np.zeros(len(words.counts), np.int64)
    for stop in STOP_WORDS:
        id = words.vocabulary.ids.get(stop)
        if id is not None:
            found += words.sums(words.ids == id) > 0
    return found
