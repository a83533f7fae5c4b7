"""Losses of fine-tuning and of reward models, as plain functions of log-probabilities and scores.

Here and in the two files beside it: B rows, T tokens. A mask is 1 where a token counts; padding is told by it, never by
an id. Losses are means, to be made small.
"""

import jax
import jax.numpy as jnp

from gemwright.training.head_loss import cross_entropies


def token_log_probabilities(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """(B, T, V) scores and (B, T) tokens -> (B, T) log-probability of each."""
    return -cross_entropies(logits.astype(jnp.float32), targets)


def masked_sum(values: jax.Array, mask: jax.Array) -> jax.Array:
    """(B, T) values -> (B,) their sums where the mask is 1, whatever stands elsewhere."""
    return jnp.sum(jnp.where(mask > 0, values, 0.0), axis=-1)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean over all tokens of a batch that count; 0 if none does."""
    return jnp.sum(masked_sum(values, mask)) / jnp.maximum(jnp.sum(mask.astype(jnp.float32)), 1.0)


def counted_mean(losses: jax.Array, counts: jax.Array | None) -> jax.Array:
    """The mean over those of (B,) losses whose count is 1; over all without counts."""
    if counts is None:
        return jnp.mean(losses)
    kept = counts.astype(jnp.float32)
    return jnp.sum(jnp.where(kept > 0, losses, 0.0)) / jnp.maximum(jnp.sum(kept), 1.0)


def sft_loss(log_probabilities: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean cross entropy in nats of the learned tokens of a batch; long answers weigh more than short ones."""
    return -masked_mean(log_probabilities, mask)


def reward_loss(
    chosen: jax.Array,
    rejected: jax.Array,
    *,
    margin: jax.Array | float = 0.0,
    ties: jax.Array | None = None,
    centre: float = 0.0,
    counts: jax.Array | None = None,
) -> jax.Array:
    """Bradley and Terry's: how surprising it is that `chosen` was preferred.

    Args:
      chosen, rejected: (B,) rewards of the two sides of each pair.
      margin: by how much more they shall differ (arXiv 2307.09288).
      ties: (B,) 1 where neither side was preferred: both orders count half, and no margin.
      counts: (B,) 1 for pairs, 0 for what fills the batch.
      centre: weight of the squared sum of a pair's rewards, which keeps them around 0 (arXiv 2312.09244).
    """
    difference = chosen - rejected
    losses = -jax.nn.log_sigmoid(difference - margin)
    if ties is not None:
        level = -0.5 * (jax.nn.log_sigmoid(difference) + jax.nn.log_sigmoid(-difference))
        losses = jnp.where(ties > 0, level, losses)
    return counted_mean(losses + centre * jnp.square(chosen + rejected), counts)
