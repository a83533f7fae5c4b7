"""A batch of texts, and what a rule says about it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

from gemwright.data.rules.words import Words, english_words

Found = TypeVar("Found")


class Batch:
    """Texts that are judged together, with their words, which are found once for all rules that ask."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self._found: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def words(self) -> Words:
        """English words of the texts, as spaCy cuts them."""
        return english_words(self.texts)

    def shared(self, find: Callable[[Sequence[str], int], Found], size: int) -> Found:
        """What is found in the texts; found once for all rules that ask for the same."""
        key = (find, size)
        if key not in self._found:
            self._found[key] = find(self.texts, size)
        return self._found[key]

    def take(self, kept: Sequence[int]) -> "Batch":
        """Some of the texts, in order; words that were found come along."""
        if len(kept) == len(self):
            return self
        part = Batch([self.texts[i] for i in kept])
        if "words" in self.__dict__:
            part.__dict__["words"] = self.words.take(kept)
        return part


@dataclass(frozen=True)
class Verdicts:
    """What a rule says, a text each.

    Attributes:
      reasons: why a text is dropped; None where it stays.
      texts: the texts after the rule, or None if it changes none.
      counts: what else the rule did, by name (things redacted, words cut).
    """

    reasons: list[str | None]
    texts: list[str] | None = None
    counts: Counter[str] = field(default_factory=Counter[str])


class Rule(Protocol):
    """One filter. Its fields are its parameters; `name` comes before its reasons."""

    @property
    def name(self) -> str: ...

    def __call__(self, batch: Batch) -> Verdicts: ...


def judge(rules: Sequence[Rule], texts: Sequence[str]) -> Verdicts:
    """Ask rules one after the other; a text goes on to the next while none has dropped it.

    Reasons read `rule:reason`. An empty text is dropped before any rule is asked.
    """
    reasons: list[str | None] = [None if text.strip() else "empty" for text in texts]
    result, counts = list(texts), Counter[str]()
    open_ = [i for i, reason in enumerate(reasons) if reason is None]
    batch = Batch([texts[i] for i in open_])
    for rule in rules:
        said = rule(batch)
        counts.update(said.counts)
        for i, reason in zip(open_, said.reasons, strict=True):
            reasons[i] = f"{rule.name}:{reason}" if reason else None
        kept = [j for j, reason in enumerate(said.reasons) if reason is None]
        open_ = [open_[j] for j in kept]
        if said.texts is None or all(said.texts[j] is batch.texts[j] for j in kept):
            batch = batch.take(kept)
        else:
            batch = Batch([said.texts[j] for j in kept])
            result = [*result]
            for i, text in zip(open_, batch.texts, strict=True):
                result[i] = text
    return Verdicts(reasons, result, counts)
