"""Decoding in bursts as long as they may be, and the same one step at a time."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from gemwright.inference.bursts import Pace
from gemwright.inference.generate import Chosen, choose_after, decode
from gemwright.inference.sampling import GREEDY, Sampling
from gemwright.inference.session import Session


def in_bursts(
    session: Session, steps: int, sampling: Sampling = GREEDY, stop_ids: tuple[int, ...] = ()
) -> Iterator[Chosen]:
    """On a machine that takes no time, so that bursts become as long as they may."""
    return decode(session, steps, sampling, stop_ids, Pace(clock=lambda: 0.0))


def by_steps(
    session: Session, steps: int, sampling: Sampling = GREEDY, stop_ids: tuple[int, ...] = ()
) -> Iterator[Chosen]:
    """The same by a program for each part of a step."""
    running, knobs, limit = [True] * session.rows, sampling.knobs(session.rows), session.config.max_positions
    for count in range(steps):
        seen = jnp.array(session.seen()) if sampling.filters.penalty else None
        tokens, scores = choose_after(
            session.weights, session.state.last, seen, jnp.int32(count), knobs, session.config, sampling.filters
        )
        chosen = np.asarray(tokens).tolist()
        yield Chosen([t if on else None for t, on in zip(chosen, running, strict=True)], np.asarray(scores).tolist())
        full = [len(row) >= limit for row in session.tokens]
        running = [on and t not in stop_ids and not end for on, t, end in zip(running, chosen, full, strict=True)]
        if not any(running):
            return
        if count + 1 < steps:
            session.step(tokens, running)
