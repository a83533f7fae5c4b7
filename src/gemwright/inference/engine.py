"""Many requests served by one model: they join and leave between steps, and share the passes over its weights.

Token ids, and pictures by their marks. A turn takes waiting requests into free rows, reads one part of one
prompt, and makes one pass for all rows whose prompts are read: it reads the token chosen last in each, and
guesses at what follows where those pay, and chooses the next.
"""

import math
import threading
from collections import deque
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.lora import chosen_for, count_changes
from gemwright.inference.batch import Batch
from gemwright.inference.generate import NOT_NUMBERS, choose_after
from gemwright.inference.guessing import Passes, plan
from gemwright.inference.interleaved import Row
from gemwright.inference.prompts import bound, check_pictures, read_part, whole_length
from gemwright.inference.request import Finish, Request, Token
from gemwright.inference.rows import choose_next, copy_prefix
from gemwright.inference.sampling import GREEDY, Filters, Sampling
from gemwright.inference.session import CHUNKS, ContextFull, Sequences, Session, shared_prefix
from gemwright.inference.slots import Slot
from gemwright.inference.speculative import Drafter, right_ones
from gemwright.models.family import Cache, Config, Decoder

_WORTH_COPYING = CHUNKS[0]  # tokens: fewer are computed as soon as copied

_LENGTHS = (1, 4, 8, 16, 32)
"""Tokens that a pass for all rows is compiled for, and the number of rows rounded up beyond these. Each is one more
program, but what a pass costs grows with it."""


class Engine:
    """Serves requests; `with Engine(...) as engine` does so in a thread of its own.

    Attributes:
      adapters: that a request may choose from, beside the base.
      prefilled: tokens computed for prompts so far; those shared with another request are not among them, nor is
        a prompt's last where it is read when a token is chosen.
    """

    def __init__(
        self,
        weights: Decoder,
        config: Config,
        slots: int = 8,
        capacity: int = 2048,
        prefill_chunk: int = 64,
        cache_bits: int | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        """Take the memory for all rows.

        Args:
          weights: of a model, or of one with several adapters, as `tuning.lora.together` makes it.
          slots: requests served at once; more wait.
          capacity: tokens of prompt and answer that a row holds.
          prefill_chunk: tokens of a prompt read between two decode steps, one of `CHUNKS`: more begin answers
            sooner, fewer hold up the answers that run less.
          cache_bits: 8 keeps keys and values as int8, in half the memory; None as the weights are.
          drafter: makes drafts for each row, in a cache of its own, where the row's text has no guesses.

        Raises:
          MemoryShort: if the rows do not fit the memory that is free; says how much they need.
          ValueError: if an argument is out of range, or the drafter is of another vocabulary.
        """
        if slots < 1 or capacity < 1 or prefill_chunk not in CHUNKS:
            raise ValueError(
                f"expected slots and capacity of 1 or more and a prefill_chunk of {CHUNKS}, "
                f"found {slots}, {capacity} and {prefill_chunk}"
            )
        self.limit = min(capacity, config.max_positions)
        self.prefilled = 0
        self._session = Session(weights, config, slots, self.limit, cache_bits)
        self._passes = Passes(tuple(sorted({*_LENGTHS, -(-slots // 8) * 8})))
        self._chunk = prefill_chunk
        if drafter:
            drafter.check(config)
        self._slots = [Slot(row, draft=drafter.draft() if drafter else None) for row in range(slots)]
        self._seen = np.zeros((slots, config.vocab_size), bool)
        self.adapters = count_changes(weights)
        self._adapter = np.zeros(slots, np.int32)  # by which each row's tokens were read
        self._admissions = 0
        self._waiting: deque[Request] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(
        self,
        prompt: Sequence[int] | Row,
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        stop_ids: Collection[int] = (),
        adapter: int = 0,
    ) -> Request:
        """Put a request in the queue, from any thread.

        Args:
          prompt: ids, or for a model that sees a `Row` of ids and pictures, whose last token is an id.
          adapter: the number of one of the model's; 0 is the base.

        Raises:
          ContextFull: if the prompt can never fit a row; a long answer ends at the row's end instead.
          ValueError: if an argument is out of range.
          RuntimeError: if the engine is closed.
        """
        config = self._session.config
        row = bound(prompt if isinstance(prompt, Row) else Row(prompt), config)
        whole = whole_length(row.tokens, config)
        request = Request(row, max_new_tokens, sampling, frozenset(stop_ids), adapter, whole)
        self._check(request)
        with self._wake:
            if self._closed:
                raise RuntimeError("the engine is closed and takes no more requests: make another")
            self._waiting.append(request)
            self._wake.notify_all()
        return request

    def take_weights(self, weights: Decoder) -> None:
        """Serve by other weights of the same shapes from now on, while no request is served or waits.

        Raises:
          RuntimeError: if one is.
        """
        if self._waiting or any(slot.request and slot.request.finish is None for slot in self._slots):
            raise RuntimeError("requests are being served: change weights when all have ended")
        self._release()
        self._session.weights = weights
        self._session.clear()  # what the rows hold was read by the weights before

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

    def _take(self, request: Request, free: list[Slot]) -> None:
        """Into the free row that holds most of the prompt and little else, or into the longest unused."""
        best = max(free, key=lambda slot: self._reusable(slot.row, request, request.prompt))
        shared = self._reusable(best.row, request, request.prompt)
        if 2 * shared < len(self._session.tokens[best.row]):
            best = min(free, key=lambda slot: slot.taken)
            shared = self._reusable(best.row, request, request.prompt)
        self._admissions += 1
        best.begin(request, self._admissions)
        self._seen[best.row] = False
        self._seen[best.row, [token for token in best.wanted if token >= 0]] = True
        request.shared = shared
        if shared < len(self._session.tokens[best.row]):
            self._hold_prefix(best.row, best.row, shared)
        self._adapter[best.row] = request.adapter

    def _prefill(self) -> None:
        """A part of the prompt that has waited longest."""
        short = [slot for slot in self._slots if slot.request is not None and not self._is_whole(slot)]
        if not short:
            return
        slot = min(short, key=lambda slot: slot.taken)
        try:
            self._share(slot)
            self._read(slot)
            if len(self._session.tokens[slot.row]) == len(slot.wanted):
                self._choose_first(slot)
        except Exception as error:  # the other rows' requests must not end by it
            self._fail([slot], error)

    def _share(self, slot: Slot) -> None:
        """Copy the beginning of the prompt from the row that holds most of it: once, before the first chunk."""
        request = slot.request
        if slot.searched or request is None:
            return
        slot.searched = True
        source = max(self._slots, key=lambda other: self._reusable(other.row, request, slot.wanted)).row
        shared, held = self._reusable(source, request, slot.wanted), len(self._session.tokens[slot.row])
        if shared >= held + _WORTH_COPYING:
            self._hold_prefix(source, slot.row, shared)
            request.shared = shared

    def _read(self, slot: Slot) -> None:
        assert slot.request is not None
        weights, left = self._weights(np.array([slot.row])), slot.left(len(self._session.tokens[slot.row]))
        if left:
            self.prefilled += read_part(self._session, weights, slot.row, left, slot.request.pictures, self._chunk)

    def _choose_first(self, slot: Slot) -> None:
        """The first token after a prompt that was read whole: what is read once more may see less."""
        assert slot.request is not None
        session, sampling = self._session, slot.request.sampling
        last = jax.lax.dynamic_slice_in_dim(session.state.last, slot.row, 1)
        seen = jnp.array(self._seen[[slot.row]]) if sampling.filters.penalty else None
        tokens, scores = choose_after(
            self._weights(np.array([slot.row])), last, seen, jnp.int32(0), sampling.knobs(1),
            session.config, sampling.filters,
        )  # fmt: skip
        self._hand_out(slot, Token(int(tokens[0]), float(scores[0])))

    def _decode(self) -> None:
        """At least one token for each row whose prompt is read."""
        ready = [slot for slot in self._slots if slot.request is not None and self._is_whole(slot)]
        if not ready:
            return
        try:
            begin = self._passes.clock()
            guesses = self._guess(ready)
            length = self._passes.length_for(len(ready) + sum(map(len, guesses)))
            tokens, scores = self._choose(ready, guesses, length)
            self._passes.record(length, self._passes.clock() - begin)
            at = 0
            for slot, guessed in zip(ready, guesses, strict=True):
                part = slice(at, at + 1 + len(guessed))
                self._take_in(slot, guessed, right_ones(guessed, tokens[part], scores[part]))
                at += 1 + len(guessed)
        except Exception as error:  # of which row it is cannot be told
            self._fail(ready, error)

    def _guess(self, ready: list[Slot]) -> list[list[int]]:
        """What each text looks like going on with, as far as reading it pays."""
        if not self._session.takes_guesses:
            return [[] for _ in ready]
        found = [slot.looked_up(self.limit) for slot in ready]
        most = [
            len(guesses) or (slot.room(self.limit) if slot.draft else 0)
            for slot, guesses in zip(ready, found, strict=True)
        ]
        counts = plan(self._passes, [slot.odds.share for slot in ready], most)
        return [
            guesses[:count] if guesses else slot.drafted(count)
            for slot, guesses, count in zip(ready, found, counts, strict=True)
        ]

    def _choose(self, ready: list[Slot], guesses: list[list[int]], length: int) -> tuple[list[int], list[float]]:
        """Read each row's last token and its guesses; returns the token after each, and its log-probability."""
        session, batch = self._session, Batch(length)
        for slot, guessed in zip(ready, guesses, strict=True):
            assert slot.request is not None
            batch.add(slot.row, [slot.wanted[-1], *guessed], len(slot.wanted) - 1, slot.count, slot.request.sampling)
        filters = Filters.union(sampling.filters for sampling in batch.samplings)
        weights = self._weights(batch.rows)
        caches, _, tokens, scores = choose_next(
            weights, session.state.caches, batch.rows, batch.tokens[:, None], batch.positions[:, None],
            jnp.array(self._seen) if filters.penalty else None, batch.counts, batch.knobs(), session.config, filters,
        )  # fmt: skip
        self._keep(caches)
        return np.asarray(tokens).tolist(), np.asarray(scores).tolist()

    def _weights(self, rows: np.ndarray) -> Decoder:
        """With the adapter of each row of a call."""
        weights = self._session.weights
        return chosen_for(weights, jnp.array(self._adapter[rows])) if self.adapters else weights

    def _keep(self, caches: Cache) -> None:
        self._session.state = Sequences(caches, self._session.state.last)

    def _take_in(self, slot: Slot, guesses: list[int], new: list[tuple[int, float]]) -> None:
        """Hand out what was chosen: the row holds all of it but the last."""
        self._session.tokens[slot.row].extend([slot.wanted[-1], *guesses[: len(new) - 1]])
        slot.odds.note(len(guesses), len(new) - 1)
        for token, score in new:
            if not self._hand_out(slot, Token(token, score)):
                return

    def _hand_out(self, slot: Slot, token: Token) -> bool:
        """Whether the row goes on after this token."""
        assert slot.request is not None
        if math.isnan(token.log_probability):
            self._fail([slot], ArithmeticError(NOT_NUMBERS))
            return False
        slot.request.push(token)
        slot.wanted.append(token.id)
        self._seen[slot.row, token.id] = True
        finish = self._finish(slot, slot.request)
        if finish is not None:
            slot.request.end(finish)
        return slot.request.finish is None

    def _finish(self, slot: Slot, request: Request) -> Finish | None:
        if slot.wanted[-1] in request.stop_ids:
            return "stop"
        full = len(slot.wanted) > self.limit
        return "length" if full or slot.count >= request.max_new_tokens else None

    def _is_whole(self, slot: Slot) -> bool:
        """Whether all but the last token is read, which is read when the next one is chosen."""
        return len(self._session.tokens[slot.row]) == len(slot.wanted) - 1

    def _reusable(self, row: int, request: Request, wanted: Sequence[int]) -> int:
        """How many tokens of a request's text a row can lend, never one that is read when a token is chosen."""
        held = self._session.tokens[row]
        if self._adapter[row] != request.adapter:
            return 0
        shared = shared_prefix(held, wanted[: max(request.whole, len(wanted) - 1)])
        return shared if shared == len(held) or len(held) <= self._session.goes_back_from else 0

    def _hold_prefix(self, source: int, target: int, length: int) -> None:
        session = self._session
        session.state = copy_prefix(session.state, jnp.int32(source), jnp.int32(target), jnp.int32(length))
        session.tokens[target] = session.tokens[source][:length]

    def _fail(self, slots: Sequence[Slot], error: Exception) -> None:
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
        check_pictures(request.prompt, request.pictures, self._session.config)
        if not 0 <= request.adapter <= self.adapters:
            raise ValueError(f"adapter: expected 0 to {self.adapters}, of which 0 is the base, found {request.adapter}")
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
