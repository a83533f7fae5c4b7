"""Steps by name, with the settings that the reports used: what the command line offers."""

from collections.abc import Callable, Iterable, Sequence

from gemwright.data.personal.redact import Personal
from gemwright.data.repeats.exact import Exact
from gemwright.data.repeats.near import Near
from gemwright.data.repeats.passages import Passages
from gemwright.data.rules.batch import Rule
from gemwright.data.rules.blocked import SelfIdentification
from gemwright.data.rules.c4 import C4
from gemwright.data.rules.fineweb import FineWeb
from gemwright.data.rules.gopher import GopherQuality
from gemwright.data.rules.language import Language, known_languages
from gemwright.data.rules.learned import Learned, quality
from gemwright.data.rules.repetition import GopherRepetition
from gemwright.data.step import Step

RULES: dict[str, Callable[[], Rule]] = {
    "gopher_repetition": GopherRepetition,
    "gopher_quality": GopherQuality,
    "c4": lambda: C4(terminal_punctuation=False),
    "c4_strict": C4,
    "fineweb": FineWeb,
    "self_identification": SelfIdentification,
    "quality": quality,
    "toxicity": Learned,
    "personal": Personal,
}

# FineWeb's own order, and the model after it; FineWeb's language test, which comes first, is asked for by --language.
USUAL = ("gopher_repetition", "gopher_quality", "c4", "fineweb", "quality")

REPEATS: dict[str, Callable[[], Step]] = {
    "exact": Exact,
    "near": Near,
    "passages": Passages,
    "recitation": lambda: Passages(words=25, copies=10, name="recitation"),
}


def rules_of(names: Sequence[str], languages: Sequence[str]) -> tuple[Rule, ...]:
    """Rules in the order named, after the one that keeps some languages, if any.

    Raises:
      ValueError: if there is no rule of a name, or no language of a code.
    """
    _check(names, RULES, "rule")
    if languages:
        _check(languages, known_languages(), "language")
    return (*([Language(tuple(languages))] if languages else []), *(RULES[name]() for name in names))


def repeats_of(names: Sequence[str]) -> tuple[Step, ...]:
    """
    Raises:
      ValueError: if there is no kind of repeat of a name, or no name.
    """
    if not names:
        raise ValueError(f"expected kinds of repeats, found none; there are {', '.join(REPEATS)}")
    _check(names, REPEATS, "kind of repeat")
    return tuple(REPEATS[name]() for name in names)


def _check(names: Sequence[str], known: Iterable[str], what: str) -> None:
    choices = list(known)
    for name in names:
        if name not in choices:
            raise ValueError(f"{name!r}: no such {what}; there are {', '.join(choices)}")
