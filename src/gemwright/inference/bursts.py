"""Several decode steps in one program, for devices on which starting a program costs as much as a step.

The host learns of the tokens when the program ends: fewer calls, and no wait between two steps.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from gemwright.core.module import module
from gemwright.inference.sampling import Filters, Knobs, choose
from gemwright.inference.session import Sequences, read
from gemwright.models.family import Config, Decoder

LONGEST = 32
"""Steps of a burst at most: what a reader of a stream waits for."""


@module
class Burst:
    """What the device keeps while it decodes.

    Attributes:
      state, seen: as after any step; `seen` is (B, V), or None where no penalty wants it.
      lengths: (B,) tokens that each row holds.
      running: (B,) rows that have not stopped.
      count: tokens chosen before the burst; with the seed it fixes a draw.
      done: steps of the burst so far.
      tokens, log_probabilities: (LONGEST, B), the first `done` rows filled.
    """

    state: Sequences
    seen: jax.Array | None
    lengths: jax.Array
    running: jax.Array
    count: jax.Array
    done: jax.Array
    tokens: jax.Array
    log_probabilities: jax.Array


@partial(jax.jit, static_argnames=("config", "filters"), donate_argnames=("state", "seen"))
def burst(
    weights: Decoder,
    state: Sequences,
    seen: jax.Array | None,
    lengths: jax.Array,
    running: jax.Array,
    count: jax.Array,
    steps: jax.Array,
    stop_ids: jax.Array,
    knobs: Knobs,
    config: Config,
    filters: Filters,
) -> Burst:
    """Choose a token a row, then read it and choose the next, until `steps` are chosen or all rows have stopped.

    The last tokens are chosen and not read, as by a single step. The cache must have room for the others.

    Args:
      lengths, running, count: as `Burst` has them.
      steps: 1 to LONGEST.
      stop_ids: (any,) tokens after which a row stops.
    """

    def choose_one(burst: Burst) -> Burst:
        logits = weights.logits(burst.state.last, config)
        tokens, scores = choose(logits, burst.seen, burst.count + burst.done, knobs, filters)
        stops = jnp.any(tokens[:, None] == stop_ids, axis=1) | (burst.lengths >= config.max_positions)
        return replace(
            burst,
            seen=None if burst.seen is None else burst.seen.at[jnp.arange(len(tokens)), tokens].set(True),
            running=burst.running & ~stops,
            done=burst.done + 1,
            tokens=burst.tokens.at[burst.done].set(tokens),
            log_probabilities=burst.log_probabilities.at[burst.done].set(scores),
        )

    def read_and_choose(burst: Burst) -> Burst:
        tokens = burst.tokens[burst.done - 1]
        positions = jnp.where(burst.running, burst.lengths, -1)
        state = read(weights, burst.state, tokens[:, None], positions[:, None], config)
        return choose_one(replace(burst, state=state, lengths=burst.lengths + burst.running.astype(jnp.int32)))

    def goes_on(burst: Burst) -> jax.Array:
        return (burst.done < steps) & jnp.any(burst.running)

    shape = (LONGEST, lengths.shape[0])
    tokens, scores = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32)
    begun = Burst(state, seen, lengths, running, count, jnp.int32(0), tokens, scores)
    return jax.lax.while_loop(goes_on, read_and_choose, choose_one(begun))
