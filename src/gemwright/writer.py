"""A row's tokens as text while they are chosen, and what the whole of it is called in the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gemwright.text.stream import StopStrings, StreamDecoder
from gemwright.text.tokenizer import Tokenizer

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Completion:
    """What a model wrote.

    Attributes:
      text: without stop tokens and stop strings.
      ids: every token chosen, a stop token included.
      log_probabilities: of those tokens under the model, in nats, before temperature and filters.
      finish: `stop` at a stop token or string, `length` at `max_new_tokens` or the context's end.
    """

    text: str
    ids: list[int]
    log_probabilities: list[float]
    finish: Finish


class Writer:
    """Collects one row's tokens as text and notices its end."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._decoder, self._stops = StreamDecoder(tokenizer), StopStrings([stop] if isinstance(stop, str) else stop)
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._scores: list[float] = []
        self._ended = False

    @property
    def finished(self) -> bool:
        return self._ended or self._stops.found is not None

    def push(self, token: int | None, score: float) -> str:
        """The text that can be shown after this token."""
        if token is None:
            return ""
        self._ids.append(token)
        self._scores.append(score)
        self._ended = token in self._tokenizer.stop_ids
        if self._ended:
            return self.flush()
        return self._keep(self._stops.push(self._decoder.push(token)))

    def flush(self) -> str:
        """The text held back, once nothing more comes."""
        return self._keep(self._stops.push(self._decoder.flush()) + self._stops.flush())

    def completion(self) -> Completion:
        if not self.finished:
            self.flush()
        return Completion("".join(self._texts), self._ids, self._scores, "stop" if self.finished else "length")

    def _keep(self, text: str) -> str:
        self._texts.append(text)
        return text
