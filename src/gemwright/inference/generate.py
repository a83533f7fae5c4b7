"""The decode loop: choose a token, hand it out, read it, until every row has stopped."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.inference.sampling import GREEDY, Filters, Knobs, Sampling, choose
from gemwright.inference.session import Session
from gemwright.models.gemma import Config, Gemma


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

    Yields:
      The tokens of each step, as soon as they are chosen.
    """
    limit = session.config.max_positions
    seen = _seen(session) if sampling.filters.penalty else None
    knobs = sampling.knobs(session.rows)
    running = [True] * session.rows
    for count in range(max_new_tokens):
        tokens, scores, seen = _choose(
            session.weights, session.state.last, seen, np.int32(count), knobs, session.config, sampling.filters
        )
        chosen = np.asarray(tokens).tolist()
        yield Chosen([t if on else None for t, on in zip(chosen, running, strict=True)], np.asarray(scores).tolist())
        stopped = [t in stop_ids or len(row) >= limit for t, row in zip(chosen, session.tokens, strict=True)]
        running = [on and not stop for on, stop in zip(running, stopped, strict=True)]
        if not any(running) or count + 1 == max_new_tokens:
            return
        session.step(tokens, running)


@partial(jax.jit, static_argnames=("config", "filters"))
def _choose(
    weights: Gemma,
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
    weights: Gemma,
    last: jax.Array,
    seen: jax.Array | None,
    count: jax.Array,
    knobs: Knobs,
    config: Config,
    filters: Filters,
) -> tuple[jax.Array, jax.Array]:
    """A token a row from its last (B, D) hidden state, and its log-probability, as `choose` gives them."""
    return choose(weights.logits(last, config), seen, count, knobs, filters)


def _seen(session: Session) -> jax.Array:
    seen = np.zeros((session.rows, session.config.vocab_size), bool)
    for row, tokens in enumerate(session.tokens):
        seen[row, tokens] = True
    return jax.device_put(seen)
