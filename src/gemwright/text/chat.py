"""Conversations as Gemma 1, 2 and 3 read them.

    <bos><start_of_turn>user
    question<end_of_turn>
    <start_of_turn>model
    answer<end_of_turn>

Source: the chat template published with the instruction-tuned models, which trims every content; of one with
pictures, every text between them.
Two rules are this project's: system text is folded into the first user turn, before its text and
a blank line (as Gemma 3's template does; those of Gemma 1 and 2 refuse it), and text that spells a
control piece stays text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gemwright.text.control import END_OF_TURN, START_OF_TURN
from gemwright.text.interleaved import Piece, lay_out
from gemwright.text.prompt import FormattedPrompt, Part, Picture, PromptBuilder
from gemwright.text.tokenizer import Tokenizer

Role = Literal["system", "user", "model", "assistant"]

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "model": "model", "assistant": "model"}


class ChatError(ValueError):
    """A conversation that the format cannot express."""


@dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
      role: `system`, `user` or `model`; `assistant` is taken for `model`.
      content: its text; white space at both ends is not kept in a prompt. Or a list of texts and pictures in their
        order, for a user's turn: a picture is a `Path`, the bytes of a file, or one of Pillow's.
    """

    role: Role
    content: str | Sequence[Any]

    def __post_init__(self) -> None:
        if self.role not in _ROLES:
            raise ChatError(f"role must be system, user or model (or assistant), found {self.role!r}")
        object.__setattr__(self, "role", _ROLES[self.role])
        if isinstance(self.content, list | tuple) and self.content and self.role == "user":
            object.__setattr__(self, "content", tuple(self.content))
        elif not isinstance(self.content, str):
            kinds = "text, or a list of texts and pictures" if self.role == "user" else "text"
            found = "an empty list" if self.content in ([], ()) else type(self.content).__name__
            raise ChatError(f"content of a {self.role} message must be {kinds}, found {found}")

    @property
    def parts(self) -> tuple[Any, ...]:
        """Texts and pictures in their order."""
        return (self.content,) if isinstance(self.content, str) else tuple(self.content)


def message_of(message: Message | Mapping[str, Any]) -> Message:
    """A message from the dict that other libraries use.

    Its content is text, or a list of texts, pictures, and dicts: `{"type": "text", "text": ...}` and
    `{"type": "image", "image": picture}`, or `"path": ...` in place of `image`.

    Raises:
      ValueError: if a key is missing, or a part is of another kind.
    """
    if isinstance(message, Message):
        return message
    if not {"role", "content"} <= message.keys():
        raise ValueError(f"a message needs role and content, found {sorted(message)}")
    role, content = message["role"], message["content"]
    if isinstance(content, list | tuple):
        content = [_part_of(part) for part in content]
        if role != "user" and all(isinstance(part, str) for part in content):
            content = "".join(content)
    return Message(role, content)


def _part_of(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    kind: Any = part.get("type")
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    picture: Any = part.get("image", part.get("path"))
    if kind != "image" or picture is None:
        raise ChatError(f"expected a part of type text with text, or image with image or path, found {sorted(part)}")
    return Path(picture) if isinstance(picture, str) else picture


def format_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = True
) -> FormattedPrompt:
    """Lay out a conversation, with exactly one BOS.

    Args:
      tokenizer: one with turn pieces.
      messages: at most one system message, which comes first; then user and model in turn,
        beginning with user. Pictures are `Picture`s, already looked at.
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
        lay_out(builder, tokenizer, _pieces(message, system if number == 0 else ""))
        builder.control(end, answer=message.role == "model")
        builder.text(("\n", "template"), answer=message.role == "model")
    if add_generation_prompt:
        builder.control(start)
        builder.text(("model\n", "template"))
    return builder.build()


def _pieces(message: Message, system: str) -> list[Piece]:
    role: Part = "model" if message.role == "model" else "user"
    folded: list[Piece] = [(system, "system"), ("\n\n", "template")] if system else []
    return [(f"{role}\n", "template"), *folded, *(_piece(part, role) for part in message.parts)]


def _piece(part: Any, role: Part) -> Piece:
    if isinstance(part, Picture):
        return part
    if not isinstance(part, str):
        raise ChatError(f"expected texts, and pictures that are looked at already, found {type(part).__name__}")
    return part.strip(), role


def _split_system(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    if messages and messages[0].role == "system":
        return "".join(messages[0].parts).strip(), messages[1:]
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
