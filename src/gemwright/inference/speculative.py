"""Speculative decoding: cheap guesses at the next tokens, checked in one pass over the model.

Token number n of an answer is a function of the logits and of the seed's noise for n (Gumbel-max). So
a guess is right if it is the very token that plain decoding chooses, and what comes out is what plain
decoding gives, greedy or sampled, token by token with the same seed, whatever is guessed. A draft
model that draws with the same noise is right with a probability of at least (1 - d) / (1 + d), where d
is the total variation distance of the two distributions (Daliri, Musco and Suresh, arXiv 2408.07978).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gemwright.inference.bursts import Pace
from gemwright.inference.generate import Chosen, choose_after, decode, go_on
from gemwright.inference.guessing import Odds, Passes, plan
from gemwright.inference.memory import MemoryShort
from gemwright.inference.rows import choose_next
from gemwright.inference.sampling import GREEDY, Sampling, knobs_of
from gemwright.inference.session import Sequences, Session, padded
from gemwright.models.family import Config, Decoder, goes_back_from

MOST_GUESSES = 7
"""For one text and pass, which reads them after the last chosen token. A product of 8 rows costs about two of one."""

_LOOKS = 4  # for guesses, while as many tokens are chosen as a burst may have; each costs the start of a program


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


class PromptLookup:
    """Guesses that a text goes on as it did after the last place where its end stood before. One for each text."""

    def __init__(self, sizes: Sequence[int] = (8, 4, 2)) -> None:
        """Look for the last `sizes[0]` tokens; then for fewer, as the other sizes say."""
        self._sizes = tuple(sizes)
        self._known = 0
        self._ends: dict[tuple[int, ...], int] = {}

    def propose(self, tokens: Sequence[int], most: int, count: int, sampling: Sampling) -> list[int]:
        for end in range(self._known, len(tokens)):  # what stands before the text's end
            self._ends.update({tuple(tokens[end - size : end]): end for size in self._sizes if size <= end})
        self._known = len(tokens)
        for size in self._sizes:
            start = self._ends.get(tuple(tokens[-size:]))
            if start is not None:
                return list(tokens[start : start + most])
        return []


class Draft:
    """Guesses by a smaller model with the same vocabulary. Silent after pictures, and once it could not go back.

    Nor does it guess where its cache finds no memory: the text goes on without it.
    """

    def __init__(self, weights: Decoder, config: Config) -> None:
        self._session = Session(weights, config, 1)

    def propose(self, tokens: Sequence[int], most: int, count: int, sampling: Sampling) -> list[int]:
        session, guesses = self._session, list[int]()
        most = min(most, session.goes_back_from - len(tokens))
        if most < 1 or min(tokens) < 0:
            return []
        try:
            session.reserve(len(tokens) + most)
        except MemoryShort:
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


class FirstOf:
    """The guesses of the first proposer that has any."""

    def __init__(self, *proposers: Proposer) -> None:
        self._proposers = proposers

    def propose(self, tokens: Sequence[int], most: int, count: int, sampling: Sampling) -> list[int]:
        for proposer in self._proposers:
            if guesses := proposer.propose(tokens, most, count, sampling):
                return guesses
        return []


@dataclass(frozen=True)
class Drafter:
    """A smaller model that makes drafts for another of the same vocabulary."""

    weights: Decoder
    config: Config

    def check(self, config: Config) -> None:
        """Raises ValueError unless it can draft for a model of this `config`."""
        if self.config.vocab_size != config.vocab_size:
            raise ValueError(
                f"draft: expected a model of the same vocabulary of {config.vocab_size} tokens, "
                f"found one of {self.config.vocab_size}"
            )
        if goes_back_from(self.config) == 0:
            raise ValueError(f"draft: a {self.config.family} cannot take guesses back: take one of another family")

    def draft(self) -> Draft:
        """Guesses for one text."""
        return Draft(self.weights, self.config)


def decode_with_guesses(
    session: Session,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_ids: Collection[int] = (),
    drafter: Drafter | None = None,
) -> Iterator[Chosen]:
    """What `decode` yields; a single row is helped, where that pays, by `PromptLookup` and then by drafts.

    Without drafts only on a CPU: elsewhere a program that is started for each guess costs more than it brings.
    """
    if session.rows > 1 or not session.takes_guesses or not (drafter or _on_cpu(session)):
        return decode(session, max_new_tokens, sampling, stop_ids)
    proposer = FirstOf(PromptLookup(), drafter.draft()) if drafter else PromptLookup()
    return decode_speculatively(session, proposer, max_new_tokens, sampling, stop_ids)


def _on_cpu(session: Session) -> bool:
    """Whether the session's rows are kept and read there."""
    return next(iter(session.state.last.devices())).platform == "cpu"


def decode_speculatively(
    session: Session,
    proposer: Proposer,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_ids: Collection[int] = (),
    passes: Passes | None = None,
) -> Iterator[Chosen]:
    """What `decode` yields for the session's only row, in fewer passes where the proposer guesses well.

    The session holds accepted tokens before they are handed out, so that whoever stops in between may
    find up to `MOST_GUESSES` tokens more in it.

    Args:
      passes: measures what passes cost, and so how many guesses are made.

    Raises:
      ValueError: if the session has another number of rows than one, or cannot take tokens back.
    """
    if session.rows != 1:
        raise ValueError(f"speculative decoding works on one row, found {session.rows}")
    if not session.takes_guesses:
        raise ValueError(f"a {session.config.family} cannot take wrong guesses back: use decode")
    run = _Run(session, proposer, sampling, stop_ids, passes or Passes((1, 1 + MOST_GUESSES)))
    new, count = run.first(), 0
    while True:
        for token, score in new:
            yield Chosen([token], [score])
        count += len(new)
        full = len(session.tokens[0]) >= session.config.max_positions
        if new[-1][0] in stop_ids or count >= max_new_tokens or full:
            return
        new = run.next(new[-1][0], count, max_new_tokens - count - 1)


class _Run:
    """The passes of one call of `decode_speculatively`."""

    def __init__(
        self, session: Session, proposer: Proposer, sampling: Sampling, stop_ids: Collection[int], passes: Passes
    ) -> None:
        self._session, self._proposer, self._passes = session, proposer, passes
        self._sampling, self._stop_ids = sampling, stop_ids
        self._odds = Odds()
        self._pace = Pace(self._passes.clock)
        (seed,) = sampling.seeds(1)
        self._knobs = {length: knobs_of([sampling] * length, [seed] * length) for length in self._passes.lengths}
        self._seen = session.seen()

    def first(self) -> list[tuple[int, float]]:
        session, sampling = self._session, self._sampling
        tokens, scores = choose_after(
            session.weights, session.state.last, self._seen_now(), jnp.int32(0), sampling.knobs(1), session.config,
            sampling.filters,
        )  # fmt: skip
        return [(int(tokens[0]), float(scores[0]))]

    def next(self, pending: int, count: int, most: int) -> list[tuple[int, float]]:
        """Read the token chosen last and guesses; returns those that are right and the token after them."""
        begin, planned = self._passes.clock(), self._plan(most)
        guesses = self._guess(pending, count, planned)
        if not guesses:
            return self._go_on(pending, count, self._until_next_look(planned, most + 1))
        new = self._check(pending, guesses, count)
        self._passes.record(1 + MOST_GUESSES, self._passes.clock() - begin)
        self._odds.note(len(guesses), len(new) - 1)
        return new

    def _until_next_look(self, planned: int, most: int) -> int:
        """Tokens to choose without guesses: where none was found, and where guesses rest and none is missed."""
        full = self._pace.steps(most)
        return max(1, full // _LOOKS) if planned else min(self._odds.rest, full)

    def _go_on(self, pending: int, count: int, steps: int) -> list[tuple[int, float]]:
        """The tokens of a burst of so many steps, without guesses."""
        session, begin = self._session, self._passes.clock()
        tokens, scores, _ = go_on(
            session, [pending], [True], self._seen_now(), count, steps, self._stop_ids, self._knobs[1],
            self._sampling.filters,
        )  # fmt: skip
        seconds, chosen = self._passes.clock() - begin, [token for (token,) in tokens]
        if self._pace.note(len(chosen), seconds):  # what a token costs without guesses, shorter bursts do not tell
            self._passes.record(1, seconds / len(chosen), compiled=len(chosen) > 1)
        self._odds.note_unguessed(len(chosen))
        self._note([pending, *chosen[:-1]])
        return [(token, score) for token, (score,) in zip(chosen, scores, strict=True)]

    def _note(self, read: list[int]) -> None:
        self._session.tokens[0].extend(read)
        self._seen[0, read] = True

    def _plan(self, most: int) -> int:
        """How many guesses pay."""
        most = min(MOST_GUESSES, most, self._session.config.max_positions - len(self._session.tokens[0]) - 1)
        return plan(self._passes, [self._odds.share], [most])[0]

    def _guess(self, pending: int, count: int, most: int) -> list[int]:
        """A stop token is handed out without being read, so it is never a guess, nor a picture; nor is what follows."""
        text = [*self._session.tokens[0], pending]
        guesses = self._proposer.propose(text, most, count, self._sampling) if most > 0 else []
        return list(takewhile(lambda token: token >= 0 and token not in self._stop_ids, guesses[:most]))

    def _check(self, pending: int, guesses: list[int], count: int) -> list[tuple[int, float]]:
        session, (row,) = self._session, self._session.tokens
        session.reserve(len(row) + 1 + len(guesses))
        read, length = [pending, *guesses], 1 + MOST_GUESSES
        ids, positions = padded([read], [len(row)], length)
        caches, hidden, tokens, scores = choose_next(
            session.weights, session.state.caches, None, ids, positions, self._seen_now(),
            np.arange(count, count + length, dtype=np.int32), self._knobs[length], session.config,
            self._sampling.filters,
        )  # fmt: skip
        new = right_ones(guesses, np.asarray(tokens).tolist(), np.asarray(scores).tolist())
        session.state = Sequences(caches, _row_of(hidden, np.int32(len(new) - 1)))
        self._note(read[: len(new)])
        return new

    def _seen_now(self) -> jax.Array | None:
        return jnp.array(self._seen) if self._sampling.filters.penalty else None


def right_ones(guesses: Sequence[int], chosen: Sequence[int], scores: Sequence[float]) -> list[tuple[int, float]]:
    """The tokens, with their scores, that were chosen after the last token and each right guess."""
    wrong = next((index for index, guess in enumerate(guesses) if guess != chosen[index]), len(guesses))
    return list(zip(chosen[: wrong + 1], scores[: wrong + 1], strict=True))


@jax.jit
def _row_of(hidden: jax.Array, index: ArrayLike) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(hidden, jnp.asarray(index), 1)
