"""Losses that learn from preferences without a reward model: DPO, IPO, KTO, ORPO.

Log-probabilities are of whole answers, (B,), summed over their tokens (`masked_sum`), unless said otherwise. Those of
the reference, the model before, are constants. `counts`, (B,), is 1 for what counts and 0 for what fills the batch.
"""

import jax
import jax.numpy as jnp

from gemwright.tuning.losses import counted_mean


def dpo_loss(
    chosen: jax.Array,
    rejected: jax.Array,
    reference_chosen: jax.Array,
    reference_rejected: jax.Array,
    *,
    beta: float = 0.1,
    smoothing: float = 0.0,
    counts: jax.Array | None = None,
) -> jax.Array:
    """Direct preference optimisation (arXiv 2305.18290).

    Args:
      beta: how strongly the reference holds.
      smoothing: assumed share of pairs that are labelled the wrong way round.
    """
    gap = beta * (_ratio(chosen, reference_chosen) - _ratio(rejected, reference_rejected))
    losses = (1 - smoothing) * jax.nn.log_sigmoid(gap) + smoothing * jax.nn.log_sigmoid(-gap)
    return -counted_mean(losses, counts)


def ipo_loss(
    chosen: jax.Array,
    rejected: jax.Array,
    reference_chosen: jax.Array,
    reference_rejected: jax.Array,
    chosen_tokens: jax.Array,
    rejected_tokens: jax.Array,
    *,
    beta: float = 0.1,
    counts: jax.Array | None = None,
) -> jax.Array:
    """Identity preference optimisation (arXiv 2310.12036): the gap a token is to be 1 / (2 beta), no more.

    Args:
      chosen_tokens, rejected_tokens: (B,) tokens of each answer.
      beta: the paper's tau.
    """
    gap = _ratio(chosen, reference_chosen) / jnp.maximum(chosen_tokens.astype(jnp.float32), 1.0)
    gap -= _ratio(rejected, reference_rejected) / jnp.maximum(rejected_tokens.astype(jnp.float32), 1.0)
    return counted_mean(jnp.square(gap - 1 / (2 * beta)), counts)


def kto_loss(
    answers: jax.Array,
    reference: jax.Array,
    desirable: jax.Array,
    divergence: jax.Array | float,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    counts: jax.Array | None = None,
) -> jax.Array:
    """Kahneman and Tversky's optimisation (arXiv 2402.01306), of answers without pairs.

    Args:
      desirable: (B,) 1 for a good answer, 0 for a bad one.
      divergence: of the model from its reference, by `kto_divergence`; the point from which gains and losses count.
    """
    ratio, point = _ratio(answers, reference), jax.lax.stop_gradient(divergence)
    gains = desirable_weight * (1 - jax.nn.sigmoid(beta * (ratio - point)))
    losses = undesirable_weight * (1 - jax.nn.sigmoid(beta * (point - ratio)))
    return counted_mean(jnp.where(desirable > 0, gains, losses), counts)


def kto_divergence(mismatched: jax.Array, reference: jax.Array, counts: jax.Array | None = None) -> jax.Array:
    """() estimate of the divergence, at least 0, from (B,) answers beside prompts that they do not answer."""
    return jax.lax.stop_gradient(jnp.maximum(counted_mean(mismatched - reference, counts), 0.0))


def orpo_loss(
    chosen: jax.Array,
    rejected: jax.Array,
    likelihood: jax.Array,
    *,
    beta: float = 0.1,
    counts: jax.Array | None = None,
) -> jax.Array:
    """Odds ratio preference optimisation (arXiv 2403.07691), without a reference.

    Args:
      chosen, rejected: (B,) mean log-probability a token of each answer; below 0.
      likelihood: () `sft_loss` of the chosen answers.
    """
    log_odds = (chosen - rejected) - (_log_rest(chosen) - _log_rest(rejected))
    return likelihood - beta * counted_mean(jax.nn.log_sigmoid(log_odds), counts)


def _ratio(answers: jax.Array, reference: jax.Array) -> jax.Array:
    return answers - jax.lax.stop_gradient(reference)


def _log_rest(x: jax.Array) -> jax.Array:
    """log(1 - exp(x)) for x < 0, exact near 0 and far from it."""
    near = x > -0.6931472
    safe_near, safe_far = jnp.where(near, x, -1.0), jnp.where(near, -1.0, x)  # no gradient of the branch not taken
    return jnp.where(near, jnp.log(-jnp.expm1(safe_near)), jnp.log1p(-jnp.exp(safe_far)))
