"""The decode loop: choose a token, hand it out, read it, until every row has stopped."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.inference.bursts import Pace, burst
from gemwright.inference.sampling import GREEDY, Filters, Knobs, Sampling, choose
from gemwright.inference.session import Session
from gemwright.models.family import Config, Decoder

_STOPS = 8  # stop ids, of which a program takes a multiple

NOT_NUMBERS = "the logits are not numbers: check the weights, or use a wider dtype"


@dataclass(frozen=True)
class Chosen:
    """One step's result.

    Attributes:
      tokens: one a row; None in rows that have stopped before.
      log_probabilities: of those tokens under the model, in nats.

    Raises:
      FloatingPointError: if one is no number: damaged weights choose nothing.
    """

    tokens: list[int | None]
    log_probabilities: list[float]

    def __post_init__(self) -> None:
        for token, score in zip(self.tokens, self.log_probabilities, strict=True):
            if token is not None and math.isnan(score):
                raise FloatingPointError(NOT_NUMBERS)


def decode(
    session: Session,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_ids: Collection[int] = (),
    pace: Pace | None = None,
) -> Iterator[Chosen]:
    """Go on from the end of the session's rows, a token a row and step.

    A caller that goes away within a burst leaves rows that hold the rest of it too.

    Args:
      session: rows that hold their prompts; the chosen tokens are read into them, except the last.
      max_new_tokens: steps at most; a row also stops where its context ends.
      stop_ids: a row stops after such a token, which is handed out too; empty never stops.
      pace: how many steps go into a burst.

    Returns:
      The tokens of each step; those of some steps together, where that takes no longer than a reader notices.
    """
    if max_new_tokens < 1:
        return
    running, knobs = [True] * session.rows, sampling.knobs(session.rows)
    seen = jnp.array(session.seen()) if sampling.filters.penalty else None
    tokens, scores = choose_after(
        session.weights, session.state.last, seen, np.int32(0), knobs, session.config, sampling.filters
    )
    newest = np.asarray(tokens).tolist()
    yield _chosen(newest, np.asarray(scores).tolist(), running)
    running, count, pace = _still_running(running, newest, session, stop_ids), 1, pace or Pace()
    while any(running) and count < max_new_tokens:
        begun, steps = pace.clock(), pace.steps(max_new_tokens - count)
        tokens, scores, seen = go_on(session, newest, running, seen, count, steps, stop_ids, knobs, sampling.filters)
        pace.note(len(tokens), pace.clock() - begun)
        handed_out: list[Chosen] = []
        for chosen, score in zip(tokens, scores, strict=True):
            session.note(newest, running)  # which the burst has read
            newest = chosen
            handed_out.append(_chosen(newest, score, running))
            running = _still_running(running, newest, session, stop_ids)
        yield from handed_out
        count += len(tokens)


def go_on(
    session: Session,
    newest: Sequence[int],
    running: Sequence[bool],
    seen: jax.Array | None,
    count: int,
    steps: int,
    stop_ids: Collection[int],
    knobs: Knobs,
    filters: Filters,
) -> tuple[list[list[int]], list[list[float]], jax.Array | None]:
    """Read the token chosen last in each running row, and choose some more, in one program.

    The session's state has then read all but the last of them; its rows are for the caller to note.

    Args:
      seen: (B, V) booleans, given away.
      count, steps: tokens chosen before; steps at most.

    Returns:
      for each step taken a token and a log-probability a row; and what is seen now.
    """
    lengths = [len(row) for row in session.tokens]
    longest = max(length for length, on in zip(lengths, running, strict=True) if on)
    session.reserve(min(longest + steps, session.config.max_positions))
    stops = sorted(stop_ids)
    stops += [-1] * (-len(stops) % _STOPS)  # no token: few programs serve all sets of them
    found = burst(
        session.weights, session.state, seen, np.array(lengths, np.int32), np.array(running),
        np.array(newest, np.int32), np.int32(count), np.int32(steps), np.array(stops, np.int32), knobs,
        session.config, filters,
    )  # fmt: skip
    session.state = found.state
    done = int(found.done)
    tokens, scores = np.asarray(found.tokens)[:done].tolist(), np.asarray(found.log_probabilities)[:done].tolist()
    return tokens, scores, found.seen


def _chosen(tokens: list[int], scores: list[float], running: list[bool]) -> Chosen:
    return Chosen([token if on else None for token, on in zip(tokens, running, strict=True)], scores)


def _still_running(running: list[bool], chosen: list[int], session: Session, stop_ids: Collection[int]) -> list[bool]:
    limit = session.config.max_positions
    stopped = [token in stop_ids or len(row) >= limit for token, row in zip(chosen, session.tokens, strict=True)]
    return [on and not stop for on, stop in zip(running, stopped, strict=True)]


@partial(jax.jit, static_argnames=("config", "filters"))
def choose_after(
    weights: Decoder,
    last: jax.Array,
    seen: jax.Array | None,
    count: jax.Array,
    knobs: Knobs,
    config: Config,
    filters: Filters,
) -> tuple[jax.Array, jax.Array]:
    """A token a row from its last (B, D) hidden state, and its log-probability, as `choose` gives them."""
    return choose(weights.logits(last, config), seen, count, knobs, filters)
