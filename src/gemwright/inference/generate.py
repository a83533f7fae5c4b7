"""The decode loop: choose a token, hand it out, read it, until every row has stopped."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.inference.bursts import LONGEST, burst
from gemwright.inference.rows import choose_next
from gemwright.inference.sampling import GREEDY, Filters, Knobs, Sampling, choose
from gemwright.inference.session import Sequences, Session
from gemwright.models.family import Config, Decoder

Array = np.ndarray[Any, Any]


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
    """`decode` with one program a step: the host has each token at once, and can stop anywhere."""
    seen = session.seen() if sampling.filters.penalty else None
    knobs, running = sampling.knobs(session.rows), [True] * session.rows
    tokens, scores = choose_after(
        session.weights, session.state.last, _on_device(seen), np.int32(0), knobs, session.config, sampling.filters
    )
    for count in range(1, max_new_tokens + 1):
        chosen = np.asarray(tokens).tolist()
        yield _chosen(chosen, np.asarray(scores).tolist(), running)
        running = _still_running(running, chosen, session, stop_ids)
        if not any(running) or count == max_new_tokens:
            return
        tokens, scores = _read_and_choose(session, chosen, running, seen, count, knobs, sampling.filters)


def _read_and_choose(
    session: Session,
    read: list[int],
    running: list[bool],
    seen: Array | None,
    count: int,
    knobs: Knobs,
    filters: Filters,
) -> tuple[jax.Array, jax.Array]:
    """Read a token into each running row and choose the one after it. `seen` is kept up to date here."""
    lengths = [len(row) for row in session.tokens]
    session.reserve(max(length for length, on in zip(lengths, running, strict=True) if on) + 1)
    tokens, going = np.array(read, np.int32)[:, None], np.array(running)[:, None]
    positions = np.where(going, np.array(lengths, np.int32)[:, None], np.int32(-1))
    counts = np.full(session.rows, count, np.int32)
    caches, hidden, chosen, scores = choose_next(
        session.weights, session.state.caches, None, tokens, positions, _on_device(seen), counts, knobs,
        session.config, filters,
    )  # fmt: skip
    last = hidden if all(running) else _either(going, hidden, session.state.last)
    session.state = Sequences(caches, last)
    session.note(read, running)
    if seen is not None:
        seen[going[:, 0], tokens[going]] = True
    return chosen, scores


def decode_in_bursts(
    session: Session, max_new_tokens: int, sampling: Sampling, stop_ids: Collection[int]
) -> Iterator[Chosen]:
    """`decode` with one program for 1, 2, 4 and more steps: the same tokens, handed out when a burst ends.

    A caller that goes away within a burst leaves rows that hold the rest of it too.
    """
    seen = _on_device(session.seen() if sampling.filters.penalty else None)
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


_either = jax.jit(jnp.where)


def _on_device(seen: Array | None) -> jax.Array | None:
    """A copy, which what the host changes meanwhile does not reach."""
    return None if seen is None else jnp.array(seen)
