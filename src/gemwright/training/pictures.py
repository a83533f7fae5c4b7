"""Training where a picture stands before each text: the loss of the answers alone, and a step."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gemwright.core.module import module
from gemwright.models.paligemma import Config, PaliGemma
from gemwright.training.head_loss import cross_entropies
from gemwright.training.step import Measures, State, changed


@module
class PictureBatch:
    """Pictures with their prompts and answers, padded on the right.

    Attributes:
      pixels: (B, S, S, 3) in [-1, 1].
      tokens: (B, T): BOS, prompt, newline, answer, EOS.
      prompts: (B,) tokens up to the newline, it included.
      lengths: (B,) tokens of the row.
    """

    pixels: jax.Array
    tokens: jax.Array
    prompts: jax.Array
    lengths: jax.Array


def answer_loss(weights: PaliGemma, batch: PictureBatch, config: Config) -> jax.Array:
    """Mean cross entropy in nats over the tokens of all answers, EOS among them; prompts are not learned."""
    hidden, _ = weights.read(batch.pixels, batch.tokens, config, prompts=batch.prompts, lengths=batch.lengths)
    losses = cross_entropies(weights.logits(hidden[:, :-1], config), batch.tokens[:, 1:])
    place = jnp.arange(1, batch.tokens.shape[1])
    counted = (place >= batch.prompts[:, None]) & (place < batch.lengths[:, None])
    return jnp.sum(jnp.where(counted, losses, 0.0)) / jnp.sum(counted.astype(jnp.float32))


def make_picture_steps(
    config: Config, optimizer: optax.GradientTransformation
) -> Callable[[State, PictureBatch], tuple[State, Measures]]:
    """The program of some steps, from a state, which is given up, and their stacked batches to the last state.

    Steps of one program ask for memory once: asked for at each step, it costs a small model a third of its time on a
    CPU.
    """
    return jax.jit(partial(jax.lax.scan, partial(_step, config, optimizer)), donate_argnums=0)


def _step(
    config: Config, optimizer: optax.GradientTransformation, before: State, batch: PictureBatch
) -> tuple[State, Measures]:
    weights: Any = before.weights
    loss, gradient = jax.value_and_grad(answer_loss)(weights, batch, config)
    return changed(optimizer, before, gradient), Measures(loss, optax.tree.norm(gradient), jnp.bool_(True))
