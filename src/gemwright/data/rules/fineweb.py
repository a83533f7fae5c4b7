"""The rules of FineWeb (Penedo et al. 2024), as datatrove reads them."""

from dataclasses import dataclass

from gemwright.data.rules.batch import Batch, Verdicts
from gemwright.data.rules.words import line_ends


@dataclass(frozen=True)
class FineWeb:
    """Lines without an end of a sentence, short lines, repeated lines, lists."""

    min_ended_lines: float = 0.12
    max_short_lines: float = 0.67
    short_line: int = 30
    max_repeated_characters: float = 0.01
    max_lines_a_word: float = 0.3
    name: str = "fineweb"

    def __call__(self, batch: Batch) -> Verdicts:
        counts = batch.words.counts
        return Verdicts([self._one(text, int(n)) for text, n in zip(batch.texts, counts, strict=True)])

    def _one(self, text: str, words: int) -> str | None:
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return "empty"
        ends = line_ends()
        if sum(line[-1] in ends for line in lines) / len(lines) < self.min_ended_lines:
            return "lines without an end"
        if sum(len(line) <= self.short_line for line in lines) / len(lines) > self.max_short_lines:
            return "short lines"
        feeds = text.count("\n")
        if _repeated_characters(lines) / (len(text) - feeds) > self.max_repeated_characters:
            return "repeated lines"
        return "list" if feeds / words > self.max_lines_a_word else None


def _repeated_characters(lines: list[str]) -> int:
    unique = set(lines)
    return sum(map(len, lines)) - sum(map(len, unique)) if len(unique) < len(lines) else 0
