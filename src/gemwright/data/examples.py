"""Examples of conversations to learn from: from rows of the usual shapes to token ids, each row checked.

Three shapes are known by their keys:

    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}       (ShareGPT)
    {"prompt": "Hi", "completion": "Hello!"}                                  (texts, or lists of messages)

and {"text": "Once upon a time"} is a document that is learned whole, beside them or alone.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gemwright.data.rows import Row, read_rows
from gemwright.text.chat import Message, format_chat, message_of
from gemwright.text.tokenizer import Tokenizer

T = TypeVar("T")

_SHARE_GPT_ROLES = {"human": "user", "user": "user", "gpt": "model", "model": "model", "assistant": "model"}
_CONVERSATIONS = {"messages", "conversations", "prompt", "completion"}
_SHOWN = 10  # faults in a message


class ExamplesError(ValueError):
    """Rows that cannot be learned from; says which, why, and what to do."""


@dataclass(frozen=True)
class Example:
    """A conversation as a model reads it.

    Attributes:
      ids: begin with BOS.
      learned: for each token, whether it is learned: `FormattedPrompt.answer`.
      file, row: where it came from.
    """

    ids: list[int]
    learned: list[bool]
    file: Path
    row: int

    @property
    def place(self) -> str:
        return f"{self.file}, row {self.row}"


@dataclass(frozen=True)
class Fault:
    """A row that no example was made of, and why."""

    row: Row
    reason: str

    def __str__(self) -> str:
        return f"{self.row.file}, row {self.row.number}: {self.reason}"


def read_examples(path: Path, tokenizer: Tokenizer, longest: int) -> tuple[list[Example], list[Fault]]:
    """All rows of a file or a folder, as examples or as faults.

    Args:
      longest: most tokens of an example.

    Raises:
      ValueError: as `read_rows` does, or if there are no rows.
    """
    return read_made(path, lambda row: example_of(row, tokenizer, longest))


def read_made(path: Path, make: Callable[[Row], T]) -> tuple[list[T], list[Fault]]:
    """What is made of the rows of a file or a folder; those of which `make` raises ValueError are faults.

    Raises:
      ValueError: as `read_rows` does, or if there are no rows.
    """
    good: list[T] = []
    bad: list[Fault] = []
    for row in read_rows(path):
        try:
            good.append(make(row))
        except ValueError as error:
            bad.append(Fault(row, str(error)))
    if not good and not bad:
        raise ExamplesError(f"{path}: expected examples, found no rows")
    return good, bad


def check_faults(faults: list[Fault], count: int, remedy: str) -> None:
    """Raises ExamplesError if there are faults, with the first of them.

    Args:
      count: of rows in all.
      remedy: what to do.
    """
    if not faults:
        return
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    listed = "\n  ".join([*map(str, faults[:_SHOWN]), *more])
    raise ExamplesError(f"{len(faults)} of {count} rows cannot be learned from; {remedy}:\n  {listed}")


def write_faults(faults: Iterable[Fault], path: Path) -> None:
    """A line of JSON for each, with the row as it stood."""
    with path.open("w", encoding="utf-8") as lines:
        for fault in faults:
            row = fault.row
            text = row.raw.decode("utf-8", "backslashreplace") or json.dumps(row.value, default=str)
            record = {"file": str(row.file), "row": row.number, "reason": fault.reason, "text": text}
            lines.write(json.dumps(record) + "\n")


# ------------------------------------------------------------------------------------------ one row


def example_of(row: Row, tokenizer: Tokenizer, longest: int) -> Example:
    """Check a row and lay out its conversation, or its document.

    Raises:
      ValueError: if it is nothing that a model can learn from; says what was expected and found.
    """
    if row.fault:
        raise ExamplesError(row.fault)
    if isinstance(row.value, Mapping) and "text" in row.value and not _CONVERSATIONS & row.value.keys():
        return _document(row, row.value["text"], tokenizer, longest)
    return example_of_messages(row, messages_of(row.value), tokenizer, longest)


def example_of_messages(row: Row, messages: list[Message], tokenizer: Tokenizer, longest: int) -> Example:
    """`example_of` of turns that are known.

    Raises:
      ValueError: as `example_of` does.
    """
    _check_turns(messages)
    prompt = format_chat(tokenizer, messages, add_generation_prompt=False)
    _check_size(prompt.ids, longest, "conversation")
    return Example(prompt.ids, prompt.answer, row.file, row.number)


def _document(row: Row, text: Any, tokenizer: Tokenizer, longest: int) -> Example:
    """A text between BOS and EOS, all of it learned."""
    if not isinstance(text, str) or not text.strip():
        raise ExamplesError(f"text: expected a document, found {text!r}")
    _check_characters("text", text)
    ids = [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]
    _check_size(ids, longest, "document")
    return Example(ids, [False, *[True] * (len(ids) - 1)], row.file, row.number)


def _check_size(ids: list[int], longest: int, what: str) -> None:
    if len(ids) > longest:
        raise ExamplesError(f"expected at most {longest} tokens, found {len(ids)}; shorten or divide the {what}")


def _check_characters(place: str, text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ExamplesError(f"{place}: half a surrogate pair is no character; mend the escape \\u in it")


def messages_of(value: Any) -> list[Message]:
    """The conversation of a row, by its keys.

    Raises:
      ValueError: if it has none, or one of its messages is of another shape; names the turn.
    """
    if not isinstance(value, Mapping):
        raise ExamplesError(f"expected an object with messages, found {type(value).__name__}")
    row: Mapping[str, Any] = value
    if "messages" in row:
        return _messages(row["messages"], "messages", _message_of_chat)
    if "conversations" in row:
        return _messages(row["conversations"], "conversations", _message_of_share_gpt)
    if {"prompt", "completion"} <= row.keys():
        return [*messages_at(row, "prompt", "user"), *messages_at(row, "completion", "model")]
    keys = sorted(map(str, row))
    raise ExamplesError(f"expected messages, conversations, prompt and completion, or text, found the keys {keys}")


def _messages(found: Any, key: str, message: Any) -> list[Message]:
    if not isinstance(found, list):
        raise ExamplesError(f"{key}: expected a list of turns, found {type(found).__name__}")
    return [_turn(number, turn, message) for number, turn in enumerate(found, 1)]


def _turn(number: int, turn: Any, message: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise ExamplesError(f"turn {number}: expected an object, found {type(turn).__name__}")
    try:
        return message(turn)
    except ValueError as error:
        raise ExamplesError(f"turn {number}: {error}") from None


def _message_of_chat(turn: Mapping[str, Any]) -> Message:
    """A turn with role and content.

    Raises:
      ValueError: if it is of another shape, or is to be weighted.
    """
    if not isinstance(turn.get("role", ""), str):
        raise ValueError(f"role must be a text, found {turn['role']!r}")
    if turn.get("weight", 1) not in (1, None):
        raise ValueError(f"weight {turn['weight']}: every turn of the model is learned; leave it out, or cut the row")
    message = message_of({key: part for key, part in turn.items() if part is not None})
    if not all(isinstance(part, str) for part in message.parts):
        raise ValueError("expected text, found a picture or another thing; give texts alone")
    return message


def _message_of_share_gpt(turn: Mapping[str, Any]) -> Message:
    if not {"from", "value"} <= turn.keys():
        raise ValueError(f"a turn needs from and value, found {sorted(map(str, turn))}")
    role: Any = {"system": "system", **_SHARE_GPT_ROLES}.get(turn["from"]) if isinstance(turn["from"], str) else None
    if role is None:
        raise ValueError(f"from must be system, human or gpt, found {turn['from']!r}")
    return Message(role, turn["value"])


def messages_at(row: Mapping[str, Any], key: str, role: Any) -> list[Message]:
    """A prompt or a completion: a text of this role's, or messages.

    Raises:
      ValueError: if it is neither, or a message is of another shape; names the turn.
    """
    if isinstance(row[key], str):
        return [Message(role, row[key])]
    return _messages(row[key], key, _message_of_chat)


def _check_turns(messages: list[Message]) -> None:
    for number, message in enumerate(messages, 1):
        text = "".join(message.parts)
        if not text.strip() and message.role != "system":  # many data sets have an empty system turn
            raise ExamplesError(f"turn {number}: the {message.role}'s text is empty; write it or remove the row")
        _check_characters(f"turn {number}", text)
    if messages and messages[-1].role != "model":
        raise ExamplesError(f"turn {len(messages)} is {messages[-1].role}, and the last: expected the model's answer")
