"""Filters for examples and pairs that were written by models: personal data, unsafe words, a wrong self, repeats.

A row goes or stays whole, as it stands. Answers are judged by the rules of documents; personal data are looked for in
prompts too.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gemwright.data.columns import Columns
from gemwright.data.documents import Document
from gemwright.data.examples import ExamplesError, Fault, messages_at, messages_of
from gemwright.data.repeats.exact import Exact
from gemwright.data.repeats.near import Near
from gemwright.data.rows import Row
from gemwright.data.rules.batch import Rule, judge

Repeats = Literal["near", "exact", "none"]


@dataclass(frozen=True)
class Wanted:
    """What is filtered.

    Attributes:
      everywhere: rules for all texts of a row, such as personal data.
      answers: rules for what a model said: who it says it is, unsafe words.
      repeats: `near` keeps the first of nearly equal rows, prompt and answers together.
    """

    everywhere: Sequence[Rule] = ()
    answers: Sequence[Rule] = ()
    repeats: Repeats = "near"


def filter_rows(rows: Sequence[Row], wanted: Wanted) -> tuple[list[Row], list[Fault]]:
    """The rows that stay, and those that go with the reason: `rule:reason`, `duplicate`, `near duplicate`, or none."""
    kept: list[Row] = []
    gone: list[Fault] = []
    texts: list[tuple[str, str]] = []
    for row in rows:
        try:
            found = _texts(row)
            line_of(row)
            texts.append(found)
            kept.append(row)
        except ValueError as error:
            gone.append(Fault(row, str(error)))
    for rules, part in ((wanted.everywhere, "\n".join), (wanted.answers, lambda both: both[1])):
        kept, texts, more = _judged(kept, texts, judge(rules, [part(both) for both in texts]).reasons)
        gone += more
    if wanted.repeats != "none":
        kept, _, more = _judged(kept, texts, _repeated(["\n".join(both) for both in texts], wanted.repeats))
        gone += more
    return kept, gone


def line_of(row: Row) -> str:
    """The row as a line of JSON lines; dates and the like, of Parquet files, as text.

    Raises:
      ExamplesError: if it holds what a file of UTF-8 text cannot.
    """
    try:
        line = json.dumps(row.value, ensure_ascii=False, default=_as_text) + "\n"
        line.encode()
    except UnicodeEncodeError:
        raise ExamplesError("half a surrogate pair is no character; mend the escape \\u in it") from None
    return line


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        raise ExamplesError("bytes have no form in JSON lines; leave their column out")
    return str(value)


def _judged(
    rows: list[Row], texts: list[tuple[str, str]], reasons: Sequence[str | None]
) -> tuple[list[Row], list[tuple[str, str]], list[Fault]]:
    gone = [Fault(row, reason) for row, reason in zip(rows, reasons, strict=True) if reason]
    stays = [number for number, reason in enumerate(reasons) if not reason]
    return [rows[number] for number in stays], [texts[number] for number in stays], gone


def _repeated(texts: Sequence[str], kind: Repeats) -> list[str | None]:
    step: Any = Near() if kind == "near" else Exact()
    documents = [Document(str(number), "rows", text, "train") for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as scratch:
        decision = step.decide(Columns([step.sketch(documents, 0)]), Path(scratch))
    return step.judge(documents, 0, decision).reasons


def _texts(row: Row) -> tuple[str, str]:
    """What others said, and what the model said, of a conversation or of both sides of a pair.

    Raises:
      ValueError: if the row is neither.
    """
    if row.fault:
        raise ExamplesError(row.fault)
    value = row.value
    if isinstance(value, dict) and {"chosen", "rejected"} <= value.keys():
        prompt = messages_at(value, "prompt", "user") if "prompt" in value else []
        messages = [*prompt, *messages_at(value, "chosen", "model"), *messages_at(value, "rejected", "model")]
    else:
        messages = messages_of(value)
    said = [("".join(map(str, one.parts)), one.role == "model") for one in messages]
    return "\n".join(text for text, own in said if not own), "\n".join(text for text, own in said if own)
