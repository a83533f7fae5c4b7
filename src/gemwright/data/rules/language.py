"""Which language a text is in, by py3langid, whose model is in its package."""

import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any

from gemwright.data.rules.batch import Batch, Verdicts

_READ = 1000  # characters; more change no verdict worth the time


@dataclass(frozen=True)
class Language:
    """Keep texts in some languages.

    Attributes:
      keep: ISO 639-1 codes.
      min_probability: a text less certainly in one of them is dropped.
    """

    keep: tuple[str, ...] = ("en",)
    min_probability: float = 0.65
    name: str = "language"

    def __call__(self, batch: Batch) -> Verdicts:
        found = [language_of(text) for text in batch.texts]
        counts = Counter(count_name(language) for language, _ in found)
        return Verdicts([self._verdict(*one) for one in found], None, counts)

    def _verdict(self, language: str, probability: float) -> str | None:
        if language not in self.keep:
            return language
        return None if probability >= self.min_probability else "uncertain"


def count_name(language: str) -> str:
    """What texts in a language are counted under, kept or not."""
    return f"texts in {language}"


def language_of(text: str) -> tuple[str, float]:
    """The likeliest language of a text's first 1,000 characters, as an ISO 639-1 code, and its probability."""
    language, probability = _identifier().classify(text[:_READ])
    return str(language), float(probability)


def known_languages() -> list[str]:
    """The codes that `language_of` can give."""
    return [str(code) for code in _identifier().nb_classes]


@functools.lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
