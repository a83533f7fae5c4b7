"""Losses of reinforcement learning: REINFORCE leave-one-out, GRPO, PPO, and the divergence from a reference.

Log-probabilities are of single tokens, (B, T); `old` ones are of the model that wrote the answers, and constants.
Rewards of several answers to each prompt are (P, G).
"""

from typing import Literal

import jax
import jax.numpy as jnp

from gemwright.tuning.losses import masked_mean, masked_sum

_LEAST = 1e-4  # beside a deviation that divides

# ----------------------------------------------------------------------------------------- divergence


def divergence(
    log_probabilities: jax.Array, reference: jax.Array, kind: Literal["difference", "square", "unbiased"] = "unbiased"
) -> jax.Array:
    """(B, T) estimates of KL(model, reference) from tokens that the model chose.

    Args:
      kind: `difference` is unbiased, and can be below 0; `square` varies less, and is biased; `unbiased` is neither
        below 0 nor biased: exp(d) - d - 1 with d the reference's log-probability less the model's.
    """
    difference = log_probabilities - reference
    if kind == "difference":
        return difference
    if kind == "square":
        return 0.5 * jnp.square(difference)
    return jnp.expm1(-difference) + difference


def penalised_rewards(
    rewards: jax.Array, log_probabilities: jax.Array, reference: jax.Array, mask: jax.Array, beta: float
) -> jax.Array:
    """(B,) rewards less beta times each answer's divergence, the `difference` of its tokens summed."""
    return rewards - beta * masked_sum(divergence(log_probabilities, reference, "difference"), mask)


# ---------------------------------------------------------------------------------------- advantages


def leave_one_out(rewards: jax.Array) -> jax.Array:
    """(P, G): each answer's reward less the mean of the others to its prompt (arXiv 2402.14740).

    Raises:
      ValueError: if there are no others.
    """
    others = rewards.shape[1] - 1
    if others < 1:
        raise ValueError(f"rewards {rewards.shape}: expected two or more answers a prompt to compare")
    return rewards - (jnp.sum(rewards, axis=1, keepdims=True) - rewards) / others


def group_advantages(rewards: jax.Array, scale: Literal["group", "batch", "none"] = "group") -> jax.Array:
    """(P, G): each reward less its prompt's mean (arXiv 2402.03300).

    Args:
      scale: divided by the standard deviation of the prompt's rewards, of all, or not (arXiv 2503.20783).

    Raises:
      ValueError: if there is one answer a prompt.
    """
    if rewards.shape[1] < 2:
        raise ValueError(f"rewards {rewards.shape}: expected two or more answers a prompt to compare")
    centred = rewards - jnp.mean(rewards, axis=1, keepdims=True)
    if scale == "none":
        return centred
    spread = jnp.std(rewards, axis=1 if scale == "group" else None, ddof=1, keepdims=True)
    return centred / (spread + _LEAST)


def generalised_advantages(
    rewards: jax.Array, values: jax.Array, mask: jax.Array, *, discount: float = 1.0, decay: float = 0.95
) -> jax.Array:
    """(B, T) advantages from rewards and values of each token (arXiv 1506.02438); after the last that counts, 0.

    Args:
      mask: 1 for the tokens of an answer, which follow one another.
    """
    counted = mask.astype(jnp.float32)
    following = jnp.concatenate([(values * counted)[:, 1:], jnp.zeros_like(values[:, :1])], axis=1)
    surprises = (rewards + discount * following - values) * counted

    def back(later: jax.Array, surprise: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = surprise + discount * decay * later
        return found, found

    _, found = jax.lax.scan(back, jnp.zeros_like(values[:, 0]), surprises.T, reverse=True)
    return found.T * counted


# ---------------------------------------------------------------------------------------- the losses


def reinforce_loss(
    log_probabilities: jax.Array, old: jax.Array, mask: jax.Array, advantages: jax.Array, *, clip: float = 0.2
) -> jax.Array:
    """REINFORCE of whole answers: the first step after they were written has its gradient, later ones are clipped.

    Args:
      advantages: (B,), as `leave_one_out` gives them, flat.
    """
    ratio = jnp.exp(masked_sum(log_probabilities - jax.lax.stop_gradient(old), mask))
    return jnp.mean(_clipped(ratio, advantages, clip, clip))


def grpo_loss(
    log_probabilities: jax.Array,
    old: jax.Array,
    mask: jax.Array,
    advantages: jax.Array,
    *,
    reference: jax.Array | None = None,
    beta: float = 0.0,
    clip: float = 0.2,
    clip_above: float | None = None,
    per: Literal["answer", "token"] | int = "answer",
) -> jax.Array:
    """Group relative policy optimisation (arXiv 2402.03300).

    Args:
      advantages: (B,), as `group_advantages` gives them, flat.
      reference: (B, T), with `beta` the weight of the divergence from it.
      clip_above: if the ratio may rise further than it may fall (arXiv 2503.14476).
      per: `answer` takes the mean of answers' means; `token` the mean of all tokens (DAPO); a number, the most tokens
        of an answer, divides the sum of each (Dr. GRPO): short ones are not favoured.
    """
    ratio = jnp.exp(log_probabilities - jax.lax.stop_gradient(old))
    losses = _clipped(ratio, advantages[:, None], clip, clip if clip_above is None else clip_above)
    if reference is not None:
        losses += beta * divergence(log_probabilities, jax.lax.stop_gradient(reference))
    if per == "token":
        return masked_mean(losses, mask)
    tokens = jnp.maximum(jnp.sum(mask.astype(jnp.float32), axis=-1), 1.0) if per == "answer" else float(per)
    return jnp.mean(masked_sum(losses, mask) / tokens)


def ppo_loss(
    log_probabilities: jax.Array, old: jax.Array, mask: jax.Array, advantages: jax.Array, *, clip: float = 0.2
) -> jax.Array:
    """Proximal policy optimisation (arXiv 1707.06347), of (B, T) advantages: the mean over tokens."""
    ratio = jnp.exp(log_probabilities - jax.lax.stop_gradient(old))
    return masked_mean(_clipped(ratio, advantages, clip, clip), mask)


def value_loss(
    values: jax.Array, old_values: jax.Array, returns: jax.Array, mask: jax.Array, *, clip: float = 0.2
) -> jax.Array:
    """Half the squared error of (B, T) values; what moves further than `clip` from the old ones gains nothing by it."""
    near = jnp.clip(values, old_values - clip, old_values + clip)
    errors = jnp.maximum(jnp.square(values - returns), jnp.square(near - returns))
    return 0.5 * masked_mean(errors, mask)


def _clipped(ratio: jax.Array, advantages: jax.Array, below: float, above: float) -> jax.Array:
    """The worse of what the ratio promises and what it promises within its bounds, to be made small."""
    bounded = jnp.clip(ratio, 1 - below, 1 + above)
    return -jnp.minimum(ratio * advantages, bounded * advantages)
