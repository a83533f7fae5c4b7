"""The decode loop: choose a token, hand it out, read it, until every row has stopped."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.inference.bursts import LONGEST, burst
from gemwright.inference.sampling import GREEDY, Filters, Knobs, Sampling, choose
from gemwright.inference.session import Session
from gemwright.models.family import Config, Decoder


@dataclass(frozen=True)
class Chosen:
    """One step's result.

    Attributes:
      tokens: one a row; None in rows that have stopped before.
      log_probabilities: of those tokens under the model, in nats.
    """

    tokens: list[int | None]
    log_probabilities: list[float]


def decode(
    session: Session, max_new_tokens: int, sampling: Sampling = GREEDY, stop_ids: Collection[int] = ()
) -> Iterator[Chosen]:
    """Go on from the end of the session's rows, a token a row and step.

    Args:
      session: rows that hold their prompts; the chosen tokens are read into them, except the last.
      max_new_tokens: steps at most; a row also stops where its context ends.
      stop_ids: a row stops after such a token, which is handed out too; empty never stops.

    Returns:
      The tokens of each step: on a CPU as soon as they are chosen, on other devices some steps together.
    """
    if on_cpu(session):
        return decode_by_steps(session, max_new_tokens, sampling, stop_ids)
    return decode_in_bursts(session, max_new_tokens, sampling, stop_ids)


def decode_by_steps(
    session: Session, max_new_tokens: int, sampling: Sampling, stop_ids: Collection[int]
) -> Iterator[Chosen]:
    """`decode` with two programs a step: the host has each token at once, and can stop anywhere."""
    seen = jax.device_put(session.seen()) if sampling.filters.penalty else None
    knobs = sampling.knobs(session.rows)
    running = [True] * session.rows
    for count in range(max_new_tokens):
        tokens, scores, seen = _choose(
            session.weights, session.state.last, seen, np.int32(count), knobs, session.config, sampling.filters
        )
        chosen = np.asarray(tokens).tolist()
        yield _chosen(chosen, np.asarray(scores).tolist(), running)
        running = _still_running(running, chosen, session, stop_ids)
        if not any(running) or count + 1 == max_new_tokens:
            return
        session.step(tokens, running)


def decode_in_bursts(
    session: Session, max_new_tokens: int, sampling: Sampling, stop_ids: Collection[int]
) -> Iterator[Chosen]:
    """`decode` with one program for 1, 2, 4 and more steps: the same tokens, handed out when a burst ends.

    A caller that goes away within a burst leaves rows that hold the rest of it too.
    """
    seen = jax.device_put(session.seen()) if sampling.filters.penalty else None
    knobs = sampling.knobs(session.rows)
    stops = jax.device_put(np.array(sorted(stop_ids), np.int32))
    running = [True] * session.rows
    count, steps = 0, 1
    while True:
        steps = min(steps, LONGEST, max_new_tokens - count)
        lengths = [len(row) for row in session.tokens]
        longest = max(length for length, on in zip(lengths, running, strict=True) if on)
        session.reserve(min(longest + steps - 1, session.config.max_positions))
        found = burst(
            session.weights, session.state, seen, np.array(lengths, np.int32), np.array(running), np.int32(count),
            np.int32(steps), stops, knobs, session.config, sampling.filters,
        )  # fmt: skip
        session.state, seen = found.state, found.seen
        done = int(found.done)
        tokens, scores = np.asarray(found.tokens)[:done].tolist(), np.asarray(found.log_probabilities)[:done].tolist()
        handed_out: list[Chosen] = []
        for index, chosen in enumerate(tokens):
            handed_out.append(_chosen(chosen, scores[index], running))
            running = _still_running(running, chosen, session, stop_ids)
            if index + 1 < done:  # the burst has read it
                session.note(chosen, running)
        yield from handed_out
        count, steps = count + done, 2 * steps
        if not any(running) or count == max_new_tokens:
            return
        session.step(found.tokens[done - 1], running)


def on_cpu(session: Session) -> bool:
    """Whether the session's rows are kept and read there."""
    return next(iter(session.state.last.devices())).platform == "cpu"


def _chosen(tokens: list[int], scores: list[float], running: list[bool]) -> Chosen:
    return Chosen([token if on else None for token, on in zip(tokens, running, strict=True)], scores)


def _still_running(running: list[bool], chosen: list[int], session: Session, stop_ids: Collection[int]) -> list[bool]:
    limit = session.config.max_positions
    stopped = [token in stop_ids or len(row) >= limit for token, row in zip(chosen, session.tokens, strict=True)]
    return [on and not stop for on, stop in zip(running, stopped, strict=True)]


@partial(jax.jit, static_argnames=("config", "filters"))
def _choose(
    weights: Decoder,
    last: jax.Array,
    seen: jax.Array | None,
    count: jax.Array,
    knobs: Knobs,
    config: Config,
    filters: Filters,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    tokens, scores = choose(weights.logits(last, config), seen, count, knobs, filters)
    if seen is not None:
        seen = seen.at[jnp.arange(len(tokens)), tokens].set(True)
    return tokens, scores, seen


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
