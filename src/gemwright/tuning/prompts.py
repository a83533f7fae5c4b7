"""Prompts that a policy learns on: rows of files, each checked before the first answer is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemwright.data.examples import ExamplesError, check_faults, messages_at, read_made
from gemwright.data.rows import Row
from gemwright.text.chat import Message, format_chat
from gemwright.text.tokenizer import Tokenizer
from gemwright.tuning.rewards.reward import Reward, Task


@dataclass(frozen=True)
class Prompt:
    """A task as a model reads it; `ids` end with the opening of the model's turn."""

    task: Task
    ids: list[int]


def read_prompts(path: Path, tokenizer: Tokenizer, longest: int, rewards: Sequence[Reward]) -> list[Prompt]:
    """The rows of a file or a folder: `prompt` (a text or messages) or `messages`, and what rewards need beside it.

    Args:
      longest: most tokens of a prompt.
      rewards: each is asked whether it has what it needs.

    Raises:
      ValueError: if a row cannot be answered or rewarded; names the first of them.
    """

    def make(row: Row) -> Prompt:
        return prompt_of(row, tokenizer, longest, rewards)

    found, faults = read_made(path, make)
    check_faults(faults, len(found) + len(faults), "mend them, or leave them out")
    return found


def prompt_of(row: Row, tokenizer: Tokenizer, longest: int, rewards: Sequence[Reward]) -> Prompt:
    """One row.

    Raises:
      ValueError: as `read_prompts` does.
    """
    if row.fault:
        raise ExamplesError(row.fault)
    messages = _messages(row.value)
    empty = [number for number, one in enumerate(messages, 1) if not "".join(map(str, one.parts)).strip()]
    if empty:
        raise ExamplesError(f"turn {empty[0]}: the {messages[empty[0] - 1].role}'s text is empty; write it")
    task = Task(messages, row.value, f"{row.file}, row {row.number}")
    for reward in rewards:
        _check(reward, task)
    ids = format_chat(tokenizer, messages).ids
    if len(ids) > longest:
        raise ExamplesError(
            f"expected at most {longest} tokens beside the answer, found {len(ids)}; shorten the prompt"
        )
    return Prompt(task, ids)


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, Mapping) or not {"prompt", "messages"} & value.keys():
        found = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise ExamplesError(f"expected an object with prompt or messages, found {found}")
    key = "prompt" if "prompt" in value else "messages"
    return messages_at(value, key, "user")


def _check(reward: Reward, task: Task) -> None:
    """The place is in the fault's message already."""
    try:
        reward.needs(task)
    except ValueError as error:
        raise ExamplesError(str(error).removeprefix(f"{task.place}: ")) from None
