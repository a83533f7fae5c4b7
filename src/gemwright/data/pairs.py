"""Pairs of answers, one preferred to the other: from rows of the usual shapes to token ids, each row checked.

Three shapes are known by their keys:

    {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}                  (texts, or lists of messages)
    {"chosen": [messages], "rejected": [messages]}                            (what they begin with alike is the prompt)
    {"chosen": "\\n\\nHuman: Hi\\n\\nAssistant: Hello!", "rejected": ...}         (Anthropic's HH)

Each may have `margin`, by how much the first is better, and `tie`, true where neither was preferred.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from gemwright.data.examples import Example, ExamplesError, example_of_messages, messages_at
from gemwright.data.rows import Row
from gemwright.text.chat import Message, format_chat
from gemwright.text.tokenizer import Tokenizer

_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class Pair:
    """Two conversations that begin alike.

    Attributes:
      chosen, rejected: only what follows the prompt is learned.
      prompt: tokens that both begin with.
      margin: 0 if the row has none.
      mismatched: the prompt with another's answer, as KTO wants it.
    """

    chosen: Example
    rejected: Example
    prompt: int
    margin: float = 0.0
    tie: bool = False
    mismatched: Example | None = None

    @property
    def place(self) -> str:
        return self.chosen.place

    @property
    def sides(self) -> tuple[Example, ...]:
        """What is read of it."""
        return (self.chosen, self.rejected, *([self.mismatched] if self.mismatched else []))


def pair_of(row: Row, tokenizer: Tokenizer, longest: int) -> Pair:
    """Check a row and lay out its two conversations.

    Args:
      longest: most tokens of each.

    Raises:
      ValueError: if a model cannot learn from it; says which side, what was expected and found.
    """
    if row.fault:
        raise ExamplesError(row.fault)
    value = row.value
    if not isinstance(value, Mapping) or not set(_SIDES) <= value.keys():
        keys = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise ExamplesError(f"expected an object with chosen and rejected, found {keys}")
    found: Mapping[str, Any] = value
    chosen, rejected = (_conversation(found, side) for side in _SIDES)
    shared = _shared(found, chosen, rejected)
    if not shared:
        raise ExamplesError("chosen and rejected begin with different turns: expected the same prompt in both")
    sides = [
        _side(row, name, messages, shared, tokenizer, longest)
        for name, messages in zip(_SIDES, (chosen, rejected), strict=True)
    ]
    if sides[0].ids == sides[1].ids:
        raise ExamplesError("chosen and rejected are equal: there is nothing to prefer; remove the row")
    prompt = len(format_chat(tokenizer, chosen[:shared], add_generation_prompt=False).ids)
    return Pair(sides[0], sides[1], prompt, _margin(found), _tie(found))


def _conversation(row: Mapping[str, Any], side: str) -> list[Message]:
    if "prompt" in row:
        return [*messages_at(row, "prompt", "user"), *messages_at(row, side, "model")]
    if isinstance(row[side], str):
        return _hh(row[side], side)
    return messages_at(row, side, "model")


def _hh(text: str, side: str) -> list[Message]:
    parts = _HH_TURN.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise ExamplesError(f"{side}: expected messages, or a text beginning with 'Human:' where there is no prompt")
    roles = {"Human": "user", "Assistant": "model"}
    return [Message(roles[who], said) for who, said in zip(parts[1::2], parts[2::2], strict=True)]  # type: ignore[arg-type]


def _shared(row: Mapping[str, Any], chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """Turns of the prompt."""
    if "prompt" in row:
        return len(messages_at(row, "prompt", "user"))
    alike = takewhile(lambda both: both[0] == both[1], zip(chosen, rejected, strict=False))
    return min(sum(1 for _ in alike), len(chosen) - 1, len(rejected) - 1)


def _side(row: Row, name: str, messages: list[Message], shared: int, tokenizer: Tokenizer, longest: int) -> Example:
    try:
        example = example_of_messages(row, messages, tokenizer, longest)
    except ValueError as error:
        raise ExamplesError(f"{name}: {error}") from None
    begun = len(format_chat(tokenizer, messages[:shared], add_generation_prompt=False).ids)
    return replace(example, learned=[False] * begun + example.learned[begun:])


def _margin(row: Mapping[str, Any]) -> float:
    value = row.get("margin")
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ExamplesError(f"margin: expected a number of 0 or more, found {value!r}")
    return float(value)


def _tie(row: Mapping[str, Any]) -> bool:
    value = row.get("tie")
    if value not in (None, True, False):
        raise ExamplesError(f"tie: expected true or false, found {value!r}")
    return bool(value)


def mismatch(pairs: Sequence[Pair], longest: int) -> list[Pair]:
    """Pairs with the answer chosen in the next one of another prompt; cut to the most tokens that a model reads."""
    found: list[Pair] = []
    for number, pair in enumerate(pairs):
        prompt = pair.chosen.ids[: pair.prompt]
        later = (pairs[(number + step) % len(pairs)] for step in range(1, len(pairs) + 1))
        other = next((one for one in later if one.chosen.ids[: one.prompt] != prompt), pairs[number - 1])
        ids = [*prompt, *other.chosen.ids[other.prompt :]][:longest]
        learned = [*pair.chosen.learned[: pair.prompt], *other.chosen.learned[other.prompt :]][:longest]
        found.append(replace(pair, mismatched=replace(pair.chosen, ids=ids, learned=learned)))
    return found
