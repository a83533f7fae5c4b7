"""Personal data in texts: redacted, or the text dropped, by how much harm it can do."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gemwright.data.personal.recognisers import NAMES, SENSITIVE, analyser
from gemwright.data.rules.batch import Batch, Verdicts

Action = Literal["redact", "drop", "keep"]

# What every kind has somewhere. A text without any of it, as most are, is not looked at further.
_TRACES = re.compile(
    r"""@\w                                          # e-mail
      | \d[\d\ ().\-/]{6,}\d                         # numbers of phones, cards, people
      | \b\d{1,3}\.\d{1,3}\.\d | [0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{0,4}:   # network addresses
      | \b[A-Z]{2}\ ?\d{2}\ ?[0-9A-Z]                # bank accounts, some national ids
      | \b[A-Za-z]{1,6}\d{4,}[A-Za-z0-9]?            # national ids with letters
      | \b\d{6,8}-?[A-Za-z]\b | \b\d{6}[-+A-Ya-y]\d{3}
      | \b[A-Z]{6}\d\d[A-Z]
      | -----BEGIN | \bA[KS]IA | \bgh[pousr]_ | \bgithub_pat_ | \bAIza
      | \bxox[abprs]- | \b[sr]k_live_ | \bsk- | \bhf_ | \beyJ
      | \b(?:bc1|[13])[a-km-zA-HJ-NP-Z1-9]{25}       # wallets
    """,
    re.VERBOSE,
)
# Without one of these a line has no trace (none goes over the end of a line): quicker to look for.
_DIGIT_OR_MAIL = re.compile(r"[\d@]")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_BEGINNINGS = ("-----BEGIN", "AKIA", "ASIA", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_", "AIza", "xoxa-",
               "xoxb-", "xoxp-", "xoxr-", "xoxs-", "k_live_", "sk-", "hf_", "eyJ", "bc1")  # fmt: skip
_AROUND = 80  # characters read on either side of a trace: words nearby count
_LONGEST = 4200  # a private key has its end far from its beginning


@dataclass(frozen=True)
class Span:
    """Personal data in a text: which kind, and where."""

    kind: str
    begin: int
    end: int


@dataclass(frozen=True)
class Personal:
    """Redact or drop texts with personal data.

    Attributes:
      sensitive: what to do about cards, accounts, national ids and keys.
      personal: what to do about e-mail, phone numbers and network addresses.
      min_score: presidio's certainty from which on a find counts; check digits give 1.
    """

    sensitive: Action = "redact"
    personal: Action = "redact"
    min_score: float = 0.4
    name: str = "personal"

    def __call__(self, batch: Batch) -> Verdicts:
        reasons, texts, counts = list[str | None](), list[str](), Counter[str]()
        for text in batch.texts:
            spans = list(find_personal(text, self.min_score))
            dropping = [span.kind for span in spans if self._action(span) == "drop"]
            redacting = [span for span in spans if self._action(span) == "redact"]
            if not dropping:
                counts.update(f"redacted {span.kind}" for span in redacting)
            reasons.append(min(dropping, default=None))
            texts.append(redacted(text, redacting))
        return Verdicts(reasons, texts, counts)

    def _action(self, span: Span) -> Action:
        return self.sensitive if span.kind in SENSITIVE.values() else self.personal


def redacted(text: str, spans: list[Span]) -> str:
    """A text with the names of the kinds in place of the data."""
    parts, at = list[str](), 0
    for span in spans:
        parts += [text[at : span.begin], f"<{span.kind}>"]
        at = span.end
    return "".join([*parts, text[at:]])


def find_personal(text: str, min_score: float = 0.4) -> Iterator[Span]:
    """The personal data of a text, in order, none inside another."""
    at = 0
    for begin, end in _windows(text):
        found = analyser().analyze(text[begin:end], language="en", score_threshold=min_score, entities=list(NAMES))
        for span in _spans(found, begin):
            if span.begin >= at:
                yield span
                at = span.end


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """The parts of a text around traces, those that touch made one."""
    begin = end = -1
    for trace in _traces(text):
        low = max(trace.start() - _AROUND, 0)
        far = _LONGEST if trace.group().startswith("-----") else _AROUND
        if low > end:
            if end >= 0:
                yield begin, end
            begin = low
        end = max(end, min(trace.end() + far, len(text)))
    if end >= 0:
        yield begin, end


def _traces(text: str) -> Iterator[re.Match[str]]:
    rare = [beginning for beginning in _BEGINNINGS if beginning in text]
    begin = 0
    for line in text.split("\n"):
        end = begin + len(line)
        if _DIGIT_OR_MAIL.search(line) or _COLONS.search(line) or any(beginning in line for beginning in rare):
            yield from _TRACES.finditer(text, begin, end)
        begin = end + 1


def _spans(found: list[Any], begin: int) -> list[Span]:
    """Presidio's finds as spans, the surer and then the longer of two that overlap."""
    chosen: list[Any] = []
    for one in sorted(found, key=lambda one: (-one.score, one.start - one.end, one.start)):
        if all(one.end <= other.start or one.start >= other.end for other in chosen):
            chosen.append(one)
    return [
        Span(NAMES[one.entity_type], begin + one.start, begin + one.end)
        for one in sorted(chosen, key=lambda o: o.start)
    ]
