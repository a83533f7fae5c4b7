"""Prompts as ids, with the origin of every token."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from gemwright.text.tokenizer import Tokenizer

Part = Literal["template", "system", "user", "model", "code", "picture"]
"""Who wrote a token: `template` is the format's own, the others are what was handed in."""

Span = tuple[str, Part]
"""A text and who wrote it."""


@dataclass(frozen=True)
class Picture:
    """A picture in the place where a text shows it.

    Attributes:
      marks: a negative number that stands for it, and one for each of its crops.
      tokens: that each of them takes.
    """

    marks: tuple[int, ...]
    tokens: int


@dataclass(frozen=True)
class FormattedPrompt:
    """Ids that begin with the one BOS, ready for a model.

    Attributes:
      ids: token ids, and the mark of a picture in the place of each of its soft tokens.
      parts: who wrote each token; as long as `ids`.
      answer: for each token, whether it is learned: the model's own texts, the turn ends after them and the newline
        behind those, as in TRL's mask for Gemma. As long as `ids`; the label mask of supervised fine-tuning.
    """

    ids: list[int]
    parts: list[Part]
    answer: list[bool]


class PromptBuilder:
    """Lays out control tokens by id and text by `Tokenizer.encode`, after one BOS."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._prompt = FormattedPrompt([], [], [])
        self.control(tokenizer.bos_id)

    def control(self, i: int, *, answer: bool = False) -> None:
        """Append one control token."""
        self._append(i, "template", answer)

    def picture(self, mark: int, tokens: int) -> None:
        """Append the soft tokens of one picture."""
        for _ in range(tokens):
            self._append(mark, "picture", answer=False)

    def text(self, *spans: Span, answer: bool = False) -> None:
        """Append spans of text, encoded as the one text they make together.

        A token over the border of two spans counts as the one its first byte is in. The model's are learned, with
        `answer` all.
        """
        ids = self._tokenizer.encode("".join(text for text, _ in spans))
        starts = _starts([len(self._tokenizer.spell(i)) for i in ids])
        borders = _starts([len(text.encode()) for text, _ in spans])
        for i, start in zip(ids, starts, strict=True):
            span = max(n for n, border in enumerate(borders) if border <= start)
            part = spans[span][1]
            self._append(i, part, answer or part == "model")

    def build(self) -> FormattedPrompt:
        """The prompt laid out so far."""
        return self._prompt

    def _append(self, i: int, part: Part, answer: bool) -> None:
        self._prompt.ids.append(i)
        self._prompt.parts.append(part)
        self._prompt.answer.append(answer)


def _starts(lengths: Sequence[int]) -> list[int]:
    return list(accumulate(lengths, initial=0))[:-1]
