"""Several decode steps in one program: starting a program costs as much as a small step.

The host learns of the tokens when the program ends: fewer calls, and no wait between two steps.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gemwright.core.module import module
from gemwright.inference.sampling import Filters, Knobs, choose
from gemwright.inference.session import Sequences, read
from gemwright.models.family import Config, Decoder

LONGEST = 32
"""Steps of a burst at most."""

_UNNOTICED = 0.1  # seconds that a reader takes for no time


@dataclass
class Pace:
    """How many steps a burst has: as many as end before a reader notices that he waits. The last burst tells."""

    clock: Callable[[], float] = time.perf_counter
    _steps: int = 1

    def steps(self, most: int) -> int:
        """Of the next burst, which may have `most`."""
        return min(self._steps, most)

    def note(self, steps: int, seconds: float) -> bool:
        """Note what a burst took; whether the next one need be no longer."""
        unnoticed = int(_UNNOTICED * steps / max(seconds, 1e-9))
        self._steps = max(1, min(unnoticed, LONGEST))
        return steps >= self._steps


@module
class Burst:
    """What the device keeps while it decodes.

    Attributes:
      state, seen: as after any step; `seen` is (B, V), or None where no penalty wants it.
      lengths: (B,) tokens that each row holds.
      running: (B,) rows that have not stopped.
      newest: (B,) tokens chosen last and not read.
      done: steps of the burst so far.
      tokens, log_probabilities: (LONGEST, B), the first `done` rows filled.
    """

    state: Sequences
    seen: jax.Array | None
    lengths: jax.Array
    running: jax.Array
    newest: jax.Array
    done: jax.Array
    tokens: jax.Array
    log_probabilities: jax.Array


@partial(jax.jit, static_argnames=("config", "filters"), donate_argnames=("state", "seen"))
def burst(
    weights: Decoder,
    state: Sequences,
    seen: jax.Array | None,
    lengths: ArrayLike,
    running: ArrayLike,
    newest: ArrayLike,
    count: ArrayLike,
    steps: ArrayLike,
    stop_ids: ArrayLike,
    knobs: Knobs,
    config: Config,
    filters: Filters,
) -> Burst:
    """Read the token chosen last in each row and choose the next, until `steps` are chosen or all rows have stopped.

    The last ones are not read. The cache must have room for the others.

    Args:
      lengths, running, newest: as `Burst` has them.
      count: tokens chosen before the burst; with the seed it fixes a draw.
      steps: 1 to LONGEST.
      stop_ids: (any,) tokens after which a row stops.
    """

    def read_and_choose(burst: Burst) -> Burst:
        running, at = burst.running, jnp.arange(len(burst.newest))
        positions = jnp.where(running, burst.lengths, -1)
        state = read(weights, burst.state, burst.newest[:, None], positions[:, None], config)
        seen = None if burst.seen is None else burst.seen.at[at, burst.newest].max(running)
        tokens, scores = choose(
            weights.logits(state.last, config), seen, jnp.asarray(count) + burst.done, knobs, filters
        )
        lengths = burst.lengths + running.astype(jnp.int32)
        stops = jnp.any(tokens[:, None] == jnp.asarray(stop_ids), axis=1) | (lengths >= config.max_positions)
        return Burst(
            state, seen, lengths, running & ~stops, tokens, burst.done + 1,
            burst.tokens.at[burst.done].set(tokens), burst.log_probabilities.at[burst.done].set(scores),
        )  # fmt: skip

    def goes_on(burst: Burst) -> jax.Array:
        return (burst.done < steps) & jnp.any(burst.running)

    lengths, running, newest = jnp.asarray(lengths), jnp.asarray(running), jnp.asarray(newest)
    shape = (LONGEST, len(newest))
    tokens, scores = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32)
    return jax.lax.while_loop(
        goes_on, read_and_choose, Burst(state, seen, lengths, running, newest, jnp.int32(0), tokens, scores)
    )
