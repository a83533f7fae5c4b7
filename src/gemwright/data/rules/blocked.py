"""Block lists, and machines that speak of themselves."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gemwright.data.rules.batch import Batch, Verdicts


@dataclass(frozen=True)
class BlockList:
    """Drop texts that have any of the given words or phrases, in any case, as whole words.

    Attributes:
      phrases: the words or phrases; the project ships none, the choice is the user's.
      most: how many occurrences are borne.
    """

    phrases: tuple[str, ...]
    most: int = 0
    name: str = "block_list"

    def __call__(self, batch: Batch) -> Verdicts:
        return Verdicts(["phrase" if self._count(text) > self.most else None for text in batch.texts])

    def _count(self, text: str) -> int:
        return sum(1 for _ in self._pattern.finditer(text.casefold()))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        words = sorted((phrase.casefold() for phrase in self.phrases), key=len, reverse=True)
        return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)" if words else r"(?!)")


def read_phrases(path: Path) -> tuple[str, ...]:
    """The words and phrases of a file, one a line.

    Raises:
      OSError: if there is no such file.
      ValueError: if it is no UTF-8 text, or has none.
    """
    try:
        found = tuple(filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines())))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, found another encoding at byte {error.start}") from None
    if not found:
        raise ValueError(f"{path}: expected words and phrases, one a line, found none")
    return found


_MAKERS = r"openai|anthropic|google|deepmind|meta(?: ai)?|microsoft|mistral(?: ai)?|alibaba(?: cloud)?|deepseek|xai"
_NAMES = r"chatgpt|gpt-?[345][\w.]*|claude|bard|gemini|llama(?:[ -]?\d)?|mistral|qwen|deepseek(?:-\w+)?|grok|copilot"
_SELF = re.compile(
    rf"""\b(?:as|i(?:\ am|'m|’m)(?:\ just|\ only)?)\ an?\ (?:\w+\ )?
           (?:ai|artificial\ intelligence|large\ language|language)\ (?:language\ )?(?:model|assistant|chatbot)\b
       | \bi(?:\ am|'m|’m|\ was)\ (?:\w+,?\ ){{0,6}}?(?:created|developed|trained|made|built)\ by\ (?:{_MAKERS})\b
       | \b(?:my\ name\ is|i(?:\ am|'m|’m))\ (?:{_NAMES})\b
       | \bmy\ (?:knowledge\ cut-?off|training\ data)\b""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class SelfIdentification:
    """Drop texts in which a language model says what it is or who made it: a model must not learn another's name.

    Attributes:
      allowed: phrases that are borne (the name the model is to have), in small letters.
    """

    allowed: tuple[str, ...] = ()
    name: str = "self_identification"

    def __call__(self, batch: Batch) -> Verdicts:
        return Verdicts([self._one(text) for text in batch.texts])

    def _one(self, text: str) -> str | None:
        for found in _SELF.finditer(text):
            said = found.group().lower()
            if not any(phrase in said for phrase in self.allowed):
                return "speaks of itself as a model"
        return None
