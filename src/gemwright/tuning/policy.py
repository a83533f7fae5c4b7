"""One step of a policy: answers in rows, what they are worth, and the loss that learns from them.

Letters: P prompts, G answers to each, B = P x G rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import module
from gemwright.models.family import Config, Decoder
from gemwright.models.reward import RewardModel
from gemwright.tuning.answer_scores import scores_of, token_scores
from gemwright.tuning.learner import Objective
from gemwright.tuning.losses import masked_mean, masked_sum
from gemwright.tuning.policy_losses import (
    generalised_advantages,
    group_advantages,
    grpo_loss,
    leave_one_out,
    penalised_rewards,
    ppo_loss,
    reinforce_loss,
    value_loss,
)
from gemwright.tuning.rollouts import Rollout

Loss = Literal["rloo", "grpo", "ppo"]


@module
class Answers:
    """Rows of one answer each, padded behind.

    Attributes:
      inputs, targets: (B, T) tokens.
      positions: (B, T); -1 marks padding.
      mask: (B, T) 1 where the target is a token of the answer.
      sampled: (B, T) log-probabilities that the engine told with the answers.
    """

    inputs: jax.Array
    targets: jax.Array
    positions: jax.Array
    mask: jax.Array
    sampled: jax.Array


@module
class Lesson:
    """What is learned from answers. All but the answers are constants.

    Attributes:
      old, reference: (B, T) log-probabilities under the policy that answered, and under the one it began as.
      advantages: (B,), or (B, T) for PPO.
      beta: () weight of the divergence, where the loss itself holds it.
      returns, old_values: (B, T) for PPO.
    """

    answers: Answers
    old: jax.Array
    reference: jax.Array
    advantages: jax.Array
    beta: jax.Array
    returns: jax.Array | None = None
    old_values: jax.Array | None = None


def in_rows(rollouts: Sequence[Rollout], length: int) -> Answers:
    """Answers behind their prompts, in rows of one length."""
    fields = {name: np.zeros((len(rollouts), length), np.int32) for name in ("inputs", "targets", "mask")}
    positions = np.full((len(rollouts), length), -1, np.int32)
    sampled = np.zeros((len(rollouts), length), np.float32)
    for row, rollout in enumerate(rollouts):
        ids, begin = [*rollout.prompt, *rollout.ids], len(rollout.prompt) - 1
        size, part = len(ids) - 1, slice(begin, len(ids) - 1)
        fields["inputs"][row, :size], fields["targets"][row, :size] = ids[:-1], ids[1:]
        positions[row, :size] = np.arange(size)
        fields["mask"][row, part], sampled[row, part] = 1, rollout.log_probabilities
    found: dict[str, Any] = {**fields, "positions": positions, "sampled": sampled}
    return Answers(**{name: jnp.asarray(values) for name, values in found.items()})


# --------------------------------------------------------------------------------------- what is read


@partial(jax.jit, static_argnames="config")
def scores(weights: Decoder, answers: Answers, config: Config) -> jax.Array:
    """(B, T) log-probabilities of all targets."""
    return token_scores(weights, config, answers.inputs, answers.targets, answers.positions)


@partial(jax.jit, static_argnames="config")
def values(weights: RewardModel, answers: Answers, config: Config) -> jax.Array:
    """(B, T) what PPO's head expects of each place."""
    everywhere = jnp.broadcast_to(jnp.arange(answers.inputs.shape[1]), answers.inputs.shape)
    return weights(answers.inputs, config, everywhere, positions=answers.positions)


@dataclass(frozen=True)
class Agreement:
    """How far the engine's log-probabilities are from the trainer's, in nats a token."""

    mean: float
    largest: float


def agreement(answers: Answers, old: jax.Array) -> Agreement:
    """Both read the same tokens by the same weights: what is left is rounding, or an error."""
    differences = np.abs(np.asarray(old - answers.sampled))[np.asarray(answers.mask) == 1]
    return Agreement(float(differences.mean()), float(differences.max()))


# ------------------------------------------------------------------------------------ what it is worth


def lesson(
    loss: Loss,
    answers: Answers,
    rewards: np.ndarray[Any, Any],
    old: jax.Array,
    reference: jax.Array,
    beta: float,
    old_values: jax.Array | None = None,
) -> Lesson:
    """Rewards (P, G) made advantages: an answer without a reward, NaN, gains and loses nothing.

    In `rloo` and `ppo` the divergence from the reference is taken off the reward; in `grpo` it is part of the loss.
    """
    known = ~np.isnan(rewards)
    filled = jnp.asarray(np.where(known, rewards, _means(rewards)), jnp.float32)
    counted = jnp.asarray(known, jnp.float32)
    if loss == "grpo":
        advantages = (group_advantages(filled) * counted).reshape(-1)
        return Lesson(answers, old, reference, advantages, jnp.float32(beta))
    if loss == "rloo":
        penalised = penalised_rewards(filled.reshape(-1), old, reference, answers.mask, beta)
        advantages = (leave_one_out(penalised.reshape(filled.shape)) * counted).reshape(-1)
        return Lesson(answers, old, reference, advantages, jnp.float32(0))
    assert old_values is not None
    last = jnp.max(jnp.where(answers.mask > 0, jnp.arange(answers.mask.shape[1]), 0), axis=1, keepdims=True)
    at_end = (jnp.arange(answers.mask.shape[1]) == last).astype(jnp.float32) * filled.reshape(-1, 1)
    each = at_end - beta * (old - reference)
    advantages = generalised_advantages(each, old_values, answers.mask)
    returns = advantages + old_values
    return Lesson(
        answers, old, reference, _whitened(advantages, answers.mask) * counted.reshape(-1, 1), jnp.float32(0), returns,
        old_values,
    )  # fmt: skip


def _means(rewards: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of each prompt, over the rewards that there are; 0 where there are none."""
    known = ~np.isnan(rewards)
    sums = np.where(known, rewards, 0).sum(axis=1, keepdims=True)
    return sums / np.maximum(known.sum(axis=1, keepdims=True), 1)


def _whitened(advantages: jax.Array, mask: jax.Array) -> jax.Array:
    mean = masked_mean(advantages, mask)
    spread = jnp.sqrt(masked_mean(jnp.square(advantages - mean), mask))
    return jnp.where(mask > 0, (advantages - mean) / (spread + 1e-4), 0.0)


# ---------------------------------------------------------------------------------------- what is learned


def objective_of(loss: Loss, config: Config, clip: float) -> Objective:
    """The loss of a `Lesson`. The weights are a decoder, for PPO one with a head that tells values."""

    def objective(weights: Any, read: Lesson, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        decoder: Decoder = weights.decoder if loss == "ppo" else weights
        answers, mask = read.answers, read.answers.mask
        hidden, _ = decoder(answers.inputs, config, positions=answers.positions)
        new = scores_of(decoder, config, hidden, answers.targets)
        moved = masked_mean((jnp.abs(jnp.expm1(new - read.old)) > clip).astype(jnp.float32), mask)
        told = {"clipped": moved}
        if loss == "rloo":
            return reinforce_loss(new, read.old, mask, read.advantages, clip=clip), told
        if loss == "grpo":
            beta: Any = read.beta
            return grpo_loss(new, read.old, mask, read.advantages, reference=read.reference, beta=beta, clip=clip), told
        assert read.returns is not None
        assert read.old_values is not None
        found = jnp.einsum("btd,d->bt", hidden.astype(jnp.float32), weights.head[0].astype(jnp.float32))
        of_values = value_loss(found, read.old_values, read.returns, mask, clip=clip)
        return ppo_loss(new, read.old, mask, read.advantages, clip=clip) + 0.5 * of_values, {
            **told,
            "value_loss": of_values,
        }

    return objective


def divergences(answers: Answers, old: jax.Array, reference: jax.Array) -> np.ndarray[Any, Any]:
    """(B,) estimates of each answer's divergence from the reference, in nats; their mean has no bias."""
    return np.asarray(masked_sum(old - reference, answers.mask))


def adapted_beta(beta: float, kl: float, target: float | None, rate: float = 0.1) -> float:
    """The weight of the divergence after a step: more above the target, less below (arXiv 1909.08593)."""
    return beta if target is None else beta * (1 + rate * float(np.clip(kl / target - 1, -2.0, 2.0)))
