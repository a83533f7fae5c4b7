"""The rules of C4 (Raffel et al. 2020, section 2.2), as datatrove reads them: lines are judged, and lines go."""

import re
from dataclasses import dataclass

from gemwright.data.rules.batch import Batch, Verdicts
from gemwright.data.rules.words import PUNCTUATION, STOPS, Vocabulary, english_words

_CITATIONS = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_ENDS = (".", "?", "!", '"', "'")
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


@dataclass(frozen=True)
class C4:
    """Keep the lines that are sentences; drop a text with too few of them, with code or with filler text.

    FineWeb asks for `terminal_punctuation=False`.
    """

    terminal_punctuation: bool = True
    min_sentences: int = 5
    min_words: int = 3
    longest_word: int = 1000
    name: str = "c4"

    def __call__(self, batch: Batch) -> Verdicts:
        vocabulary = english_words([]).vocabulary
        results = [self._one(text, vocabulary) for text in batch.texts]
        return Verdicts([reason for reason, _ in results], [text for _, text in results])

    def _one(self, text: str, vocabulary: Vocabulary) -> tuple[str | None, str]:
        kept: list[str] = []
        sentences = 0
        for line in text.splitlines():
            line = self._kept(line.strip())
            if line is None:
                continue
            lower = line.lower()
            if "lorem ipsum" in lower:
                return "lorem ipsum", text
            if "javascript" in lower:
                continue
            if "{" in line:
                return "curly bracket", text
            if any(policy in lower for policy in _POLICIES):
                continue
            if sentences < self.min_sentences:
                sentences += sentences_of(line, vocabulary)
            kept.append(line)
        return ("few sentences" if sentences < self.min_sentences else None), "\n".join(kept).strip()

    def _kept(self, line: str) -> str | None:
        """A line without citations, or nothing if it is no sentence."""
        words = line.split()
        if len(line) > self.longest_word and any(len(word) > self.longest_word for word in words):
            return None
        if "[" in line:
            line = _CITATIONS.sub("", line)
        if self.terminal_punctuation and (not line.endswith(_ENDS) or line.endswith("...")):
            return None
        return line if len(words) >= self.min_words else None


def sentences_of(line: str, vocabulary: Vocabulary) -> int:
    """Sentences of a line, as spaCy's sentencizer counts them: each begins at the first word after an end."""
    count, ended = 0, True
    flags = vocabulary.flags
    for run, gap in _runs(line):
        if gap and ended and count:  # white space that is a token of its own begins a sentence
            count, ended = count + 1, False
        for id in vocabulary[run]:
            flag = flags[id] if id < len(flags) else vocabulary.flags[id]
            if not count or (ended and not flag & (STOPS | PUNCTUATION)):
                count, ended = count + 1, bool(flag & STOPS)
            elif flag & STOPS:
                ended = True
    return count


def _runs(line: str) -> list[tuple[str, bool]]:
    """Runs between white space, and whether more than one plain space stood before each."""
    runs = line.split()
    if len(runs) - 1 == line.count(" ") and len(line) == sum(map(len, runs)) + len(runs) - 1:
        return [(run, False) for run in runs]
    spaced = re.findall(r"(\s*)(\S+)", line)
    return [(run, gap not in ("", " ")) for gap, run in spaced]
