"""A conversation with a model: its turns, and the cache that grows with them."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax

from gemwright.inference.interleaved import Pixels, Row
from gemwright.inference.sampling import Sampling
from gemwright.inference.session import ContextFull, Session
from gemwright.looking import Eyes, advance, check_converses, pixels_of
from gemwright.text.chat import Message, format_chat, message_of
from gemwright.text.prompt import FormattedPrompt
from gemwright.writer import Writer

if TYPE_CHECKING:
    from gemwright.model import Model


class Conversation:
    """Turns of one chat. The cache of the turns so far is reused; the oldest make room when the context is full.

    Attributes:
      messages: the turns so far, answers included.
      dropped: turns left out so far because the context was full.
      reused: tokens of the last prompt that were in the cache already.
      eyes: what reads the pictures of messages.
    """

    def __init__(
        self,
        model: "Model",
        messages: Sequence[Message | dict[str, Any]] = (),
        system: str = "",
        pan_and_scan: bool = False,
    ) -> None:
        """Begin with turns that there are already.

        Args:
          messages: a message's content is text, or a list of texts and pictures in their order, as `Message` says; in
            dicts also of the parts that others write (`{"type": "image", "path": ...}`).
          system: text that is folded into the first user turn.
          pan_and_scan: as `Model.complete` has it.
        """
        check_converses(model.config, model.folder.name)
        self.model = model
        self.eyes = Eyes(model.config, model.folder.name, pan_and_scan)
        self.messages = [self._looked(message_of(message)) for message in messages]
        if system:
            self.messages.insert(0, Message("system", system))
        self.dropped = 0
        self.reused = 0
        self._session: Session | None = None
        self._looked_at: dict[int, jax.Array] = {}

    def clear(self) -> None:
        """Forget all turns but the system text."""
        self._looked_at.clear()
        self.messages = [message for message in self.messages if message.role == "system"]

    def send(self, content: str | Sequence[Any], max_new_tokens: int = 512, **options: Any) -> Generator[str]:
        """Add a user turn and stream the answer to it. `options` are those of `stream_answer`."""
        answer = self.stream_answer(max_new_tokens, **options)  # checks the options before the turn is added
        self.messages.append(self._looked(Message("user", content)))
        return answer

    def answer(self, max_new_tokens: int = 512, **options: Any) -> str:
        """The answer to the last user turn."""
        return "".join(self.stream_answer(max_new_tokens, **options))

    def stream_answer(self, max_new_tokens: int = 512, *, stop: Sequence[str] = (), **sampling: Any) -> Generator[str]:
        """Stream the answer to the last user turn and add it to the messages.

        An answer that is interrupted, by closing the iterator or by Ctrl-C, is kept as far as it went.

        Raises:
          ContextFull: if the last turn alone does not fit the context.
        """
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, found {max_new_tokens}")
        Writer(self.model.tokenizer, stop)  # refuses what is no stop string
        return self._stream(max_new_tokens, stop, Sampling(**sampling))

    def _stream(self, max_new_tokens: int, stop: Sequence[str], sampling: Sampling) -> Generator[str]:
        prompt = self.prompt(max_new_tokens)
        session = self._session or self.model.session(capacity=len(prompt.ids))
        self._session = None  # an interrupted step may leave it unusable; it is kept after a whole answer
        parts: list[str] = []
        try:
            self.reused = advance(session, Row(prompt.ids, self._pictures()), self._looked_at)
            for part in self.model.stream_session(session, max_new_tokens, stop, sampling):
                parts.append(part)
                yield part
            self._session = session
        except GeneratorExit:  # closed between two tokens: the cache is whole
            self._session = session
            raise
        finally:
            self.messages.append(Message("model", "".join(parts)))

    def prompt(self, max_new_tokens: int = 512) -> FormattedPrompt:
        """The ids that the next answer goes on from; drops the oldest turns that do not fit beside the answer.

        Raises:
          ContextFull: if the last turn alone does not fit the context; no turn is dropped then.
        """
        limit = self.model.config.max_positions
        room = limit - min(max_new_tokens, limit // 2)
        kept = list(self.messages)
        prompt = format_chat(self.model.tokenizer, kept)
        first = 1 if kept[0].role == "system" else 0
        while len(prompt.ids) > room and len(kept) - first >= 3:
            del kept[first : first + 2]
            prompt = format_chat(self.model.tokenizer, kept)
        if len(prompt.ids) > room and len(prompt.ids) >= limit:
            raise ContextFull(f"{len(prompt.ids)} tokens do not fit the context of {limit}: shorten the message")
        self.dropped += len(self.messages) - len(kept)
        self.messages = kept
        return prompt

    def _looked(self, message: Message) -> Message:
        """The message with its pictures read, once for all turns that follow."""
        if isinstance(message.content, str):
            return message
        return replace(message, content=self.eyes.look(message.parts))

    def _pictures(self) -> dict[int, Pixels]:
        return pixels_of([part for message in self.messages for part in message.parts])
