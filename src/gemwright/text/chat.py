"""Conversations as Gemma 1, 2 and 3 read them.

    <bos><start_of_turn>user
    question<end_of_turn>
    <start_of_turn>model
    answer<end_of_turn>

Source: the chat template published with the instruction-tuned models, which trims every content.
Two rules are this project's: system text is folded into the first user turn, before its text and
a blank line (as Gemma 3's template does; those of Gemma 1 and 2 refuse it), and text that spells a
control piece stays text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gemwright.text.control import END_OF_TURN, START_OF_TURN
from gemwright.text.prompt import FormattedPrompt, Part, PromptBuilder
from gemwright.text.tokenizer import Tokenizer

Role = Literal["system", "user", "model", "assistant"]

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "model": "model", "assistant": "model"}


class ChatError(ValueError):
    """A conversation that the format cannot express."""


@dataclass(frozen=True)
class Message:
    """One turn's worth of text.

    Attributes:
      role: `system`, `user` or `model`; `assistant` is taken for `model`.
      content: its text; white space at both ends is not kept in a prompt.
    """

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in _ROLES:
            raise ChatError(f"role must be system, user or model (or assistant), found {self.role!r}")
        if not isinstance(self.content, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # requests are not checked
            raise ChatError(f"content of a {self.role} message must be text, found {type(self.content).__name__}")
        object.__setattr__(self, "role", _ROLES[self.role])


def format_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = True
) -> FormattedPrompt:
    """Lay out a conversation, with exactly one BOS.

    Args:
      tokenizer: one with turn pieces.
      messages: at most one system message, which comes first; then user and model in turn,
        beginning with user.
      add_generation_prompt: end with the opening of a model turn, for the model to answer; the
        last message is then the user's.

    Raises:
      ChatError: if there are no messages or they are out of order; says which and what to do.
      ValueError: if the tokenizer has no turn pieces.
    """
    system, turns = _split_system(messages)
    _check_order(turns, add_generation_prompt)
    start, end = tokenizer.id(START_OF_TURN), tokenizer.id(END_OF_TURN)
    builder = PromptBuilder(tokenizer)
    for number, message in enumerate(turns):
        builder.control(start)
        builder.text(*_spans(message, system if number == 0 else ""))
        builder.control(end, answer=message.role == "model")
        builder.text(("\n", "template"))
    if add_generation_prompt:
        builder.control(start)
        builder.text(("model\n", "template"))
    return builder.build()


def _spans(message: Message, system: str) -> list[tuple[str, Part]]:
    role: Part = "model" if message.role == "model" else "user"
    folded: list[tuple[str, Part]] = [(system, "system"), ("\n\n", "template")] if system else []
    return [(f"{role}\n", "template"), *folded, (message.content.strip(), role)]


def _split_system(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    if messages and messages[0].role == "system":
        return messages[0].content.strip(), messages[1:]
    return "", messages


def _check_order(turns: Sequence[Message], add_generation_prompt: bool) -> None:
    if not turns:
        raise ChatError("a conversation needs a user message, found none")
    for number, message in enumerate(turns, 1):
        expected = "user" if number % 2 else "model"
        if message.role == "system":
            raise ChatError(f"turn {number} is system: expected {expected}; one system message may stand, first of all")
        if message.role != expected:
            raise ChatError(
                f"turn {number} is {message.role}: expected {expected}; user and model take turns, user first"
            )
    if add_generation_prompt and turns[-1].role == "model":
        raise ChatError("the last turn is the model's: expected a user's to answer; leave the generation prompt out")
