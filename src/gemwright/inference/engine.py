"""Many requests served by one model: they join and leave between steps, and share the passes over its weights.

Token ids only. A turn takes waiting requests into free rows, reads one chunk of one prompt, and
chooses one token for every row that holds its whole text.
"""

import math
import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.inference.generate import choose_after
from gemwright.inference.request import Finish, Request, Token
from gemwright.inference.rows import copy_prefix, read_row
from gemwright.inference.sampling import GREEDY, Filters, Sampling, knobs_of
from gemwright.inference.session import CHUNKS, ContextFull, Session, chunk_length, padded, shared_prefix
from gemwright.models.gemma import Config, Gemma

_WORTH_COPYING = CHUNKS[0]  # tokens: fewer are computed as soon as copied


@dataclass
class _Slot:
    """A row of the batch and whom it serves.

    Attributes:
      wanted: what the row is to hold: the prompt and the tokens chosen so far.
      taken: number of the admission that took it last; the least is the longest unused.
      searched: whether other rows were searched for the beginning of the prompt.
    """

    row: int
    request: Request | None = None
    wanted: list[int] = field(default_factory=list[int])
    taken: int = 0
    searched: bool = False


class Engine:
    """Serves requests; `with Engine(...) as engine` does so in a thread of its own.

    Attributes:
      prefilled: tokens computed for prompts so far; those shared with another request are not among them.
    """

    def __init__(
        self, weights: Gemma, config: Config, slots: int = 8, capacity: int = 2048, prefill_chunk: int = 64
    ) -> None:
        """Take the memory for all rows.

        Args:
          slots: requests served at once; more wait.
          capacity: tokens of prompt and answer that a row holds.
          prefill_chunk: tokens of a prompt read between two decode steps, one of `CHUNKS`: more begin answers
            sooner, fewer hold up the answers that run less.
        """
        if slots < 1 or capacity < 1 or prefill_chunk not in CHUNKS:
            raise ValueError(
                f"expected slots and capacity of 1 or more and a prefill_chunk of {CHUNKS}, "
                f"found {slots}, {capacity} and {prefill_chunk}"
            )
        self.limit = min(capacity, config.max_positions)
        self.prefilled = 0
        self._session = Session(weights, config, slots, self.limit)
        self._chunk = prefill_chunk
        self._slots = [_Slot(row) for row in range(slots)]
        self._seen = np.zeros((slots, config.vocab_size), bool)
        self._admissions = 0
        self._waiting: deque[Request] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(
        self, tokens: Sequence[int], max_new_tokens: int, sampling: Sampling = GREEDY, stop_ids: Collection[int] = ()
    ) -> Request:
        """Put a request in the queue, from any thread.

        Raises:
          ContextFull: if the prompt can never fit a row; a long answer ends at the row's end instead.
          ValueError: if an argument is out of range.
          RuntimeError: if the engine is closed.
        """
        request = Request([int(token) for token in tokens], max_new_tokens, sampling, frozenset(stop_ids))
        self._check(request)
        with self._wake:
            if self._closed:
                raise RuntimeError("the engine is closed and takes no more requests: make another")
            self._waiting.append(request)
            self._wake.notify_all()
        return request

    def step(self) -> bool:
        """One turn, from one thread only; returns whether anything is left to do."""
        self._release()
        self._admit()
        self._prefill()
        self._decode()
        return bool(self._waiting) or any(slot.request for slot in self._slots)

    def run(self) -> None:
        """Serve until `close` is called; what has not ended then is cancelled."""
        try:
            while self._has_work():
                try:
                    self.step()
                except Exception as error:  # whatever it was, later requests must find the engine up
                    self._fail(self._slots, error)
        finally:
            self._cancel_all()

    def start(self) -> None:
        """Serve in a thread."""
        self._thread = threading.Thread(target=self.run, name="gemwright-engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more requests, cancel those that have not ended, and end the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._thread is None:
            self._cancel_all()
        else:
            self._thread.join()

    def __enter__(self) -> "Engine":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---------------------------------------------------------------------------------- a turn's parts

    def _release(self) -> None:
        """Rows whose requests have ended are free; they keep their tokens for later prompts."""
        for slot in self._slots:
            if slot.request is not None and slot.request.finish is not None:
                slot.request = None

    def _admit(self) -> None:
        while free := [slot for slot in self._slots if slot.request is None]:
            with self._wake:
                if not self._waiting:
                    return
                request = self._waiting.popleft()
            if request.finish is None:
                self._take(request, free)

    def _take(self, request: Request, free: list[_Slot]) -> None:
        """Into the free row that holds most of the prompt and little else, or into the longest unused."""
        best = max(free, key=lambda slot: self._reusable(slot.row, request.prompt))
        shared = self._reusable(best.row, request.prompt)
        if 2 * shared < len(self._session.tokens[best.row]):
            best = min(free, key=lambda slot: slot.taken)
            shared = self._reusable(best.row, request.prompt)
        self._admissions += 1
        best.request, best.wanted, best.taken, best.searched = request, list(request.prompt), self._admissions, False
        self._seen[best.row] = False
        self._seen[best.row, best.wanted] = True
        request.shared = shared
        if shared < len(self._session.tokens[best.row]):
            self._hold_prefix(best.row, best.row, shared)

    def _prefill(self) -> None:
        """A chunk of the prompt that has waited longest."""
        short = [slot for slot in self._slots if slot.request is not None and not self._is_whole(slot)]
        if not short:
            return
        slot = min(short, key=lambda slot: slot.taken)
        try:
            self._share(slot)
            self._read_chunk(slot)
        except Exception as error:  # the other rows' requests must not end by it
            self._fail([slot], error)

    def _share(self, slot: _Slot) -> None:
        """Copy the beginning of the prompt from the row that holds most of it: once, before the first chunk."""
        if slot.searched:
            return
        slot.searched = True
        source = max(self._slots, key=lambda other: self._reusable(other.row, slot.wanted)).row
        shared, held = self._reusable(source, slot.wanted), len(self._session.tokens[slot.row])
        if shared >= held + _WORTH_COPYING and slot.request is not None:
            self._hold_prefix(source, slot.row, shared)
            slot.request.shared = shared

    def _read_chunk(self, slot: _Slot) -> None:
        session, held = self._session, self._session.tokens[slot.row]
        length = chunk_length(min(len(slot.wanted) - len(held), self._chunk))
        new = slot.wanted[len(held) : len(held) + length]
        ids, positions = padded([new], [len(held)], length)
        session.state = read_row(session.weights, session.state, jnp.int32(slot.row), ids, positions, session.config)
        jax.block_until_ready(session.state.last)  # so that what goes wrong is laid to this request
        held.extend(new)
        self.prefilled += len(new)

    def _decode(self) -> None:
        """One token for each row that holds its whole text."""
        ready = [slot for slot in self._slots if slot.request is not None and self._is_whole(slot)]
        if not ready:
            return
        try:
            tokens, scores = self._choose(ready)
            ids, values = np.asarray(tokens).tolist(), np.asarray(scores).tolist()
            running = [False] * len(self._slots)
            for slot in ready:
                running[slot.row] = self._hand_out(slot, Token(ids[slot.row], values[slot.row]))
            if any(running):
                self._session.step(tokens, running)
        except Exception as error:  # of which row it is cannot be told
            self._fail(ready, error)

    def _choose(self, ready: list[_Slot]) -> tuple[jax.Array, jax.Array]:
        samplings, counts = [GREEDY] * len(self._slots), np.zeros(len(self._slots), np.int32)
        for slot in ready:
            assert slot.request is not None
            samplings[slot.row] = slot.request.sampling
            counts[slot.row] = len(slot.wanted) - len(slot.request.prompt)
        filters = Filters.union(sampling.filters for sampling in samplings)
        seen = jnp.array(self._seen) if filters.penalty else None
        knobs = knobs_of(samplings, [sampling.seed for sampling in samplings if isinstance(sampling.seed, int)])
        session = self._session
        return choose_after(
            session.weights, session.state.last, seen, jnp.asarray(counts), knobs, session.config, filters
        )

    def _hand_out(self, slot: _Slot, token: Token) -> bool:
        """Whether the row goes on after this token."""
        assert slot.request is not None
        if math.isnan(token.log_probability):
            self._fail([slot], ArithmeticError("the logits are not numbers: check the weights, or use a wider dtype"))
            return False
        slot.request.push(token)
        slot.wanted.append(token.id)
        self._seen[slot.row, token.id] = True
        finish = self._finish(slot, slot.request)
        if finish is not None:
            slot.request.end(finish)
        return slot.request.finish is None

    def _finish(self, slot: _Slot, request: Request) -> Finish | None:
        if slot.wanted[-1] in request.stop_ids:
            return "stop"
        full = len(self._session.tokens[slot.row]) >= self.limit
        return "length" if full or len(slot.wanted) - len(request.prompt) >= request.max_new_tokens else None

    def _is_whole(self, slot: _Slot) -> bool:
        return len(self._session.tokens[slot.row]) == len(slot.wanted)

    def _reusable(self, row: int, wanted: Sequence[int]) -> int:
        """How many tokens of a text a row can lend. The last one is read anew, for its logits."""
        held = self._session.tokens[row]
        shared = shared_prefix(held, wanted[:-1])
        return shared if shared == len(held) or len(held) <= self._session.goes_back_from else 0

    def _hold_prefix(self, source: int, target: int, length: int) -> None:
        session = self._session
        session.state = copy_prefix(session.state, jnp.int32(source), jnp.int32(target), jnp.int32(length))
        session.tokens[target] = session.tokens[source][:length]

    def _fail(self, slots: Sequence[_Slot], error: Exception) -> None:
        """End these requests. Rows that a failed program took with it are read again, answers included."""
        for slot in slots:
            if slot.request is not None:
                slot.request.end("error", error)
        if any(leaf.is_deleted() for leaf in jax.tree.leaves(self._session.state)):
            self._session.clear()
            return
        for slot in slots:
            self._hold_prefix(slot.row, slot.row, 0)

    def _check(self, request: Request) -> None:
        request.check(self._session.config.vocab_size)
        if len(request.prompt) > self.limit:
            raise ContextFull(
                f"{len(request.prompt)} tokens do not fit the engine's rows of {self.limit}: shorten the prompt, "
                f"or make the engine with a larger capacity, of up to {self._session.config.max_positions}"
            )

    def _has_work(self) -> bool:
        """Wait for work; false once the engine is closed."""
        with self._wake:
            self._wake.wait_for(lambda: self._closed or self._waiting or any(slot.request for slot in self._slots))
            return not self._closed

    def _cancel_all(self) -> None:
        with self._wake:
            self._closed = True
            left = [*self._waiting, *(slot.request for slot in self._slots if slot.request is not None)]
            self._waiting.clear()
        for request in left:
            request.cancel()
