"""A request to the engine, as its sender holds it: tokens that arrive, and how they end."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gemwright.inference.interleaved import Row
from gemwright.inference.sampling import Sampling

Finish = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Token:
    """A chosen token, and its log-probability under the model, in nats, before any filter."""

    id: int
    log_probability: float


class Request:
    """Made by `Engine.submit`. All methods may be called from any thread.

    Attributes:
      prompt: ids, and the marks of pictures.
      pictures: by mark.
      whole: tokens that are read in one call, from the first: all of a prompt, or 0 where its parts may be read apart.
      finish: how it ended: `stop` at a stop id, `length` at `max_new_tokens` or the row's end, `cancelled`,
        `error`; None until then.
      error: what went wrong, where `finish` is `error`.
      shared: tokens of the prompt that were taken from another request's cache instead of computed.
    """

    def __init__(
        self,
        prompt: Row,
        max_new_tokens: int,
        sampling: Sampling,
        stop_ids: frozenset[int],
        adapter: int = 0,
        whole: int = 0,
    ) -> None:
        self.prompt, self.pictures = tuple(int(token) for token in prompt.tokens), prompt.pictures
        self.max_new_tokens, self.adapter, self.whole = max_new_tokens, adapter, whole
        self.sampling, self.stop_ids = sampling, stop_ids
        self.finish: Finish | None = None
        self.error: Exception | None = None
        self.shared = 0
        self._tokens: list[Token] = []
        self._changed = threading.Condition()

    def check(self, vocab_size: int) -> None:
        """Raises ValueError if an argument is out of range."""
        wrong = [token for token in self.prompt if not 0 <= token < vocab_size and token not in self.pictures]
        if not self.prompt:
            raise ValueError("a prompt needs at least one token; begin it with BOS")
        if wrong:
            raise ValueError(f"token {wrong[0]} is not in the vocabulary of {vocab_size}")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, found {self.max_new_tokens}")
        if not isinstance(self.sampling.seed, int):
            raise ValueError(f"seed: expected one number for a request, found {self.sampling.seed}")

    def __iter__(self) -> Iterator[Token]:
        """The tokens as they come; waits for them, so the engine must run in another thread.

        Raises:
          RuntimeError: at the end, if the request failed.
        """
        count = 0
        while True:
            new = self._after(count)
            if not new:
                return self._raise_error()
            count += len(new)
            yield from new

    def result(self, timeout: float | None = None) -> list[Token]:
        """All tokens, once the request has ended.

        Raises:
          TimeoutError: if it has not after this many seconds.
          RuntimeError: if the request failed.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.finish is not None, timeout):
                raise TimeoutError(f"the request has not ended within {timeout} seconds")
        self._raise_error()
        return list(self._tokens)

    def cancel(self) -> None:
        """End the request now; the engine frees its row at its next turn. Does nothing to one that has ended."""
        self.end("cancelled")

    def push(self, token: Token) -> None:
        """For the engine: hand out a token, unless the request has ended."""
        with self._changed:
            if self.finish is None:
                self._tokens.append(token)
                self._changed.notify_all()

    def end(self, finish: Finish, error: Exception | None = None) -> None:
        """For the engine: the first end counts."""
        with self._changed:
            if self.finish is None:
                self.finish, self.error = finish, error
                self._changed.notify_all()

    def _after(self, count: int) -> list[Token]:
        """Wait for more tokens than these; none come after the end."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._tokens) > count or self.finish is not None)
            return self._tokens[count:]

    def _raise_error(self) -> None:
        if self.error is not None:
            raise RuntimeError(f"the request failed in the engine: {self.error}") from self.error
