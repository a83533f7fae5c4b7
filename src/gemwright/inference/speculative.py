"""Speculative decoding: cheap guesses at the next tokens, checked in one pass over the model.

Token number n of an answer is a function of the logits and of the seed's noise for n (Gumbel-max). So
a guess is right if it is the very token that plain decoding chooses, and what comes out is what plain
decoding gives, greedy or sampled, token by token with the same seed, whatever is guessed. A draft
model that draws with the same noise is right with a probability of at least (1 - d) / (1 + d), where d
is the total variation distance of the two distributions (Daliri, Musco and Suresh, arXiv 2408.07978).
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.cache import KVCache
from gemwright.inference.generate import Chosen, choose_after
from gemwright.inference.sampling import GREEDY, Filters, Knobs, Sampling, choose
from gemwright.inference.session import Sequences, Session, padded
from gemwright.models.gemma import Config, Gemma

MOST_GUESSES = 7
"""Of one pass, which reads them after the last chosen token: 8 rows are what a thin product takes at once."""


class Proposer(Protocol):
    def propose(self, tokens: Sequence[int], most: int, count: int, sampling: Sampling) -> list[int]:
        """Guess how the text goes on.

        Args:
          tokens: the text so far, the last chosen token included.
          most: how many guesses at most.
          count: tokens of the answer so far, which fixes the noise that the next one is drawn with.

        Returns:
          the guesses in order; none where there is nothing to go by.
        """
        ...


@dataclass(frozen=True)
class PromptLookup:
    """Guesses that the text goes on as it did after the last place where its end stood before.

    Attributes:
      longest: tokens of the end that are looked for; then fewer, down to `shortest`.
    """

    longest: int = 4
    shortest: int = 2

    def propose(self, tokens: Sequence[int], most: int, count: int, sampling: Sampling) -> list[int]:
        text = np.asarray(tokens, np.int32)
        for size in range(min(self.longest, len(text) - 1), self.shortest - 1, -1):
            windows = np.lib.stride_tricks.sliding_window_view(text[:-1], size)
            places = np.flatnonzero((windows == text[-size:]).all(axis=1))
            if len(places):
                start = int(places[-1]) + size
                return text[start : start + most].tolist()
        return []


class Draft:
    """Guesses by a smaller model with the same vocabulary. Silent once a ring of its cache would turn."""

    def __init__(self, weights: Gemma, config: Config) -> None:
        self._session = Session(weights, config, 1)

    def propose(self, tokens: Sequence[int], most: int, count: int, sampling: Sampling) -> list[int]:
        session, guesses = self._session, list[int]()
        session.reserve(min(len(tokens) + most, session.config.max_positions))
        most = min(most, session.goes_back_from - len(tokens))
        if most < 1:
            return []
        session.advance_to(tokens)
        filters, knobs = sampling.filters, sampling.knobs(1)
        for index in range(most):
            if index:
                session.step(jnp.asarray(guesses[-1:], jnp.int32), [True])
            chosen, _ = choose_after(
                session.weights, session.state.last, None, jnp.int32(count + index), knobs, session.config, filters
            )
            guesses.append(int(chosen[0]))
        return guesses


@dataclass
class Payoff:
    """Whether guessing pays, by the measured seconds a token, with guesses and without.

    Attributes:
      trial: passes with guesses before they are judged.
      pause: tokens without guesses after they have not paid; twice as many each time that follows.
    """

    clock: Callable[[], float] = time.perf_counter
    trial: int = 4
    pause: int = 32
    longest_pause: int = 512
    _plain: list[float] = field(default_factory=list[float])
    _seconds: float = 0.0
    _tokens: int = 0
    _passes: int = -1  # the first compiles
    _resting: int = 0
    _next_pause: int = 0

    def wants(self) -> bool:
        """Whether to guess now; not before plain steps have been measured."""
        return len(self._plain) > 1 and self._resting == 0

    def record(self, guessed: bool, tokens: int, seconds: float) -> None:
        """Note one pass, and how many tokens it gave in how many seconds."""
        if not guessed:
            self._plain = [*self._plain[-8:], seconds]
            self._resting = max(0, self._resting - tokens)
            return
        if self._passes >= 0:
            self._seconds, self._tokens = self._seconds + seconds, self._tokens + tokens
        self._passes += 1
        if self._passes >= self.trial:
            self._judge()

    def _judge(self) -> None:
        plain = sorted(self._plain[1:])[len(self._plain[1:]) // 2]
        if self._seconds < plain * self._tokens:
            self._next_pause = 0
        else:
            self._next_pause = min(2 * self._next_pause or self.pause, self.longest_pause)
            self._resting = self._next_pause
        self._seconds, self._tokens, self._passes = 0.0, 0, 0


def decode_speculatively(
    session: Session,
    proposer: Proposer,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_ids: Collection[int] = (),
    payoff: Payoff | None = None,
) -> Iterator[Chosen]:
    """What `decode` yields for the session's only row, in fewer passes where the proposer guesses well.

    The session holds accepted tokens before they are handed out, so that whoever stops in between may
    find up to `MOST_GUESSES` tokens more in it.

    Raises:
      ValueError: if the session has another number of rows than one.
    """
    if session.rows != 1:
        raise ValueError(f"speculative decoding works on one row, found {session.rows}")
    payoff = payoff or Payoff()
    (row,) = session.tokens
    run = _Run(session, sampling, stop_ids)
    new, count = run.first(), 0
    while True:
        for token, score in new:
            yield Chosen([token], [score])
        count += len(new)
        pending = new[-1][0]
        if pending in stop_ids or count >= max_new_tokens or len(row) >= session.config.max_positions:
            return
        begin = payoff.clock()
        room = min(MOST_GUESSES, max_new_tokens - count - 1, session.config.max_positions - len(row) - 1)
        guesses: list[int] = []
        if room > 0 and payoff.wants():
            guesses = run.legal(proposer.propose([*row, pending], room, count, sampling), room)
        new = run.check(pending, guesses, count)
        payoff.record(bool(guesses), len(new), payoff.clock() - begin)


class _Run:
    """The passes of one call of `decode_speculatively`."""

    def __init__(self, session: Session, sampling: Sampling, stop_ids: Collection[int]) -> None:
        self._session, self._sampling, self._stop_ids = session, sampling, stop_ids
        self._knobs = sampling.knobs(1)
        self._seen = np.zeros((1, session.config.vocab_size), bool)
        self._seen[0, session.tokens[0]] = True

    def first(self) -> list[tuple[int, float]]:
        session, filters = self._session, self._sampling.filters
        tokens, scores = choose_after(
            session.weights, session.state.last, self._seen_now(), jnp.int32(0), self._knobs, session.config, filters
        )
        return [(int(tokens[0]), float(scores[0]))]

    def legal(self, guesses: list[int], most: int) -> list[int]:
        """A stop token is handed out without being read, so it is never a guess; nor is what follows it."""
        session = self._session
        most = min(most, session.goes_back_from - 1) if session.goes_back_from <= MOST_GUESSES else most
        return list(takewhile(lambda token: token not in self._stop_ids, guesses[:most]))

    def check(self, pending: int, guesses: list[int], count: int) -> list[tuple[int, float]]:
        """Read the pending token and the right guesses; returns those guesses and the token after them."""
        session, (row,) = self._session, self._session.tokens
        self._seen[0, pending] = True
        session.reserve(len(row) + 1 + len(guesses))
        read = [pending, *guesses]
        ids, positions = padded([read], [len(row)], 1 + MOST_GUESSES if guesses else 1)
        session.state, tokens, scores, accepted = _verify(
            session.weights, session.state, self._seen_now(), ids, positions, jnp.int32(count), self._knobs,
            session.config, self._sampling.filters,
        )  # fmt: skip
        right = int(accepted)
        row.extend(read[: 1 + right])
        self._seen[0, guesses[:right]] = True
        found = zip(np.asarray(tokens).tolist(), np.asarray(scores).tolist(), strict=True)
        return list(found)[: right + 1]

    def _seen_now(self) -> jax.Array | None:
        return jnp.array(self._seen) if self._sampling.filters.penalty else None


@partial(jax.jit, static_argnames=("config", "filters"), donate_argnames="state")
def _verify(
    weights: Gemma,
    state: Sequences,
    seen: jax.Array | None,
    tokens: jax.Array,
    positions: jax.Array,
    count: jax.Array,
    knobs: Knobs,
    config: Config,
    filters: Filters,
) -> tuple[Sequences, jax.Array, jax.Array, jax.Array]:
    """Read (1, T) tokens, a chosen one and guesses, and choose after each of them.

    Returns:
      the state with the right guesses read and no other, the (T,) choices, their log-probabilities, and
      how many guesses are right.
    """
    length = tokens.shape[1]
    before = [_peek(cache, positions[0]) for cache in state.caches]
    hidden, caches = weights(tokens, config, positions=positions, cache=state.caches)
    assert caches is not None
    if seen is not None:
        seen = seen | (jnp.cumsum(jax.nn.one_hot(tokens[0], config.vocab_size, dtype=jnp.int32), axis=0) > 0)
    rows = jax.tree.map(lambda value: jnp.broadcast_to(value, (length,)), knobs)
    chosen, scores = choose(weights.logits(hidden[0], config), seen, count + jnp.arange(length), rows, filters)
    right = (chosen[:-1] == tokens[0, 1:]) & (positions[0, 1:] >= 0)
    accepted = jnp.sum(jnp.cumprod(right.astype(jnp.int32)))
    wrong = (jnp.arange(length) > accepted) & (positions[0] >= 0)
    kept = tuple(_put_back(cache, old, positions[0], wrong) for cache, old in zip(caches, before, strict=True))
    last = jax.lax.dynamic_index_in_dim(hidden, accepted, axis=1, keepdims=False)
    return Sequences(kept, last), chosen, scores, accepted


def _peek(cache: KVCache, positions: jax.Array) -> KVCache:
    """What stands in the slots of these (T,) positions. A ring could not be cut back by its positions alone."""
    places = jnp.maximum(positions, 0) % cache.positions.shape[1]
    return jax.tree.map(lambda whole: jnp.take(whole, places, axis=1), cache)


def _put_back(cache: KVCache, old: KVCache, positions: jax.Array, wrong: jax.Array) -> KVCache:
    """The cache with its old content where a wrong guess was written. No scatter, as in `core/cache.py`."""
    slots = cache.positions.shape[1]

    def put_token(index: jax.Array, cache: KVCache) -> KVCache:
        def put(whole: jax.Array, kept: jax.Array) -> jax.Array:
            place = jnp.maximum(positions[index], 0) % slots
            now = jax.lax.dynamic_slice_in_dim(whole, place, 1, axis=1)
            back = jnp.where(wrong[index], jax.lax.dynamic_slice_in_dim(kept, index, 1, axis=1), now)
            return jax.lax.dynamic_update_slice_in_dim(whole, back, place, axis=1)

        return jax.tree.map(put, cache, old)

    return jax.lax.fori_loop(0, len(positions), put_token, cache)
