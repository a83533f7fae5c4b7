"""Losses against examples computed by hand: sign, masking, scaling, and gradients. Against TRL: tests/parity."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.tuning.losses import masked_mean, reward_loss, sft_loss, token_log_probabilities
from gemwright.tuning.policy_losses import (
    divergence,
    generalised_advantages,
    group_advantages,
    grpo_loss,
    leave_one_out,
    penalised_rewards,
    ppo_loss,
    reinforce_loss,
    value_loss,
)
from gemwright.tuning.preference_losses import dpo_loss, ipo_loss, kto_divergence, kto_loss, orpo_loss
from tests.tolerances import SAME

NAN = float("nan")


def near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=SAME)


def row(*values: float) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


def surprise(x: float) -> float:
    """-log sigmoid(x)"""
    return math.log1p(math.exp(-x))


# ------------------------------------------------------------------------------------- fine-tuning


def test_each_tokens_log_probability_is_read() -> None:
    logits = jnp.log(jnp.asarray([[[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]]))
    near(token_log_probabilities(logits, jnp.asarray([[1, 0, 1]])), np.log([[0.8, 0.5, 0.1]]))


def test_fine_tuning_takes_the_mean_of_the_tokens_that_count_in_the_whole_batch() -> None:
    found = jnp.asarray([[-1.0, -2.0, NAN], [NAN, NAN, -6.0]])
    near(sft_loss(found, jnp.asarray([[1, 1, 0], [0, 0, 1]])), 3.0)
    near(masked_mean(found, jnp.zeros((2, 3), jnp.int32)), 0.0)


def test_a_reward_model_is_to_prefer_the_chosen_side() -> None:
    near(reward_loss(row(1.0, 0.0), row(0.0, 2.0)), (surprise(1) + surprise(-2)) / 2)
    near(reward_loss(row(1.0), row(0.0), margin=3.0), surprise(-2))
    near(reward_loss(row(1.0), row(3.0), centre=0.5), surprise(-2) + 8)
    assert jax.grad(lambda chosen: reward_loss(chosen, row(0.0)))(row(0.0))[0] == -0.5  # its reward is to rise


def test_a_tie_is_best_when_both_rewards_are_equal() -> None:
    tie = row(1.0)
    near(reward_loss(row(2.0), row(0.0), ties=tie, margin=5.0), (surprise(2) + surprise(-2)) / 2)
    near(reward_loss(row(1.0), row(1.0), ties=tie), math.log(2))
    near(jax.grad(lambda chosen: reward_loss(chosen, row(1.0), ties=tie))(row(1.0)), [0.0])


# -------------------------------------------------------------------------------------- preferences


def test_dpo_compares_what_became_likelier_than_in_the_reference() -> None:
    near(dpo_loss(row(-1.0), row(-5.0), row(-3.0), row(-4.0), beta=0.5), surprise(0.5 * (2 - -1)))
    near(dpo_loss(row(-3.0), row(-4.0), row(-3.0), row(-4.0)), math.log(2))
    flipped = 0.9 * surprise(1.5) + 0.1 * surprise(-1.5)
    near(dpo_loss(row(-1.0), row(-5.0), row(-3.0), row(-4.0), beta=0.5, smoothing=0.1), flipped)


def test_ipo_wants_a_gap_a_token_and_no_more() -> None:
    found = ipo_loss(row(-1.0), row(-5.0), row(-3.0), row(-4.0), row(4.0), row(2.0), beta=0.5)
    near(found, (2 / 4 + 1 / 2 - 1) ** 2)
    near(ipo_loss(row(4.0), row(0.0), row(0.0), row(0.0), row(1.0), row(1.0), beta=0.5), 9.0)


def test_kto_weighs_good_and_bad_answers_around_the_divergence() -> None:
    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    found = kto_loss(
        row(-1.0, -1.0), row(-3.0, -3.0), row(1.0, 0.0), 0.5, beta=0.2, desirable_weight=2.0, undesirable_weight=3.0
    )
    near(found, (2 * (1 - sigmoid(0.2 * 1.5)) + 3 * (1 - sigmoid(0.2 * -1.5))) / 2)
    near(kto_divergence(row(-1.0, -2.0), row(-2.0, -2.0)), 0.5)
    near(kto_divergence(row(-3.0), row(-2.0)), 0.0)


def test_orpo_compares_odds_and_is_exact_near_certainty() -> None:
    odds = math.log(0.5 / 0.5) - math.log(0.1 / 0.9)
    near(orpo_loss(row(math.log(0.5)), row(math.log(0.1)), jnp.asarray(0.7), beta=0.3), 0.7 + 0.3 * surprise(odds))
    sure = jax.value_and_grad(lambda x: orpo_loss(x, row(-40.0), jnp.asarray(0.0)))(row(-1e-6))
    assert all(np.all(np.isfinite(value)) for value in sure)


PAIRED: list[Callable[..., jax.Array]] = [
    dpo_loss,
    lambda c, r, rc, rr: ipo_loss(c, r, rc, rr, row(3.0), row(3.0)),
]


@pytest.mark.parametrize("loss", PAIRED)
def test_the_chosen_answer_is_to_become_likelier_and_the_reference_stays(loss: Callable[..., jax.Array]) -> None:
    gradients = jax.grad(loss, argnums=(0, 1, 2, 3))(row(-2.0), row(-2.0), row(-2.0), row(-2.0))
    assert float(gradients[0][0]) < 0 < float(gradients[1][0])
    near(gradients[2:], np.zeros((2, 1)))


# ---------------------------------------------------------------------------------- reinforcement


def test_three_estimates_of_the_divergence() -> None:
    ours, theirs = jnp.log(row(0.5)), jnp.log(row(0.25))
    near(divergence(ours, theirs, "difference"), [math.log(2)])
    near(divergence(ours, theirs, "square"), [math.log(2) ** 2 / 2])
    near(divergence(ours, theirs), [0.5 - 1 + math.log(2)])


def test_estimates_have_the_divergence_as_their_mean() -> None:
    """Over all tokens, weighted with their probability: no chance is in it."""
    ours, theirs = np.array([0.5, 0.3, 0.2], np.float32), np.array([0.2, 0.2, 0.6], np.float32)
    true = float(np.sum(ours * np.log(ours / theirs)))
    for kind in ("difference", "unbiased"):
        near(jnp.sum(ours * divergence(jnp.log(ours), jnp.log(theirs), kind)), true)


def test_rewards_are_lowered_by_the_divergence_of_the_whole_answer() -> None:
    found = penalised_rewards(row(1.0), jnp.asarray([[-1.0, -1.0, NAN]]), jnp.asarray([[-2.0, -1.5, 0.0]]),
                              jnp.asarray([[1, 1, 0]]), 0.1)  # fmt: skip
    near(found, [1 - 0.1 * 1.5])


def test_each_answer_is_compared_with_the_others_to_its_prompt() -> None:
    rewards = jnp.asarray([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    near(leave_one_out(rewards), [[-3, -1.5, 4.5], [0, 0, 0]])
    near(group_advantages(rewards, "none"), [[-2, -1, 3], [0, 0, 0]])
    spread = math.sqrt(7) + 1e-4
    near(group_advantages(rewards), [[-2 / spread, -1 / spread, 3 / spread], [0, 0, 0]])
    near(group_advantages(rewards, "batch")[0, 2], 3 / (np.std([1, 2, 6, 0, 0, 0], ddof=1) + 1e-4))
    for function in (leave_one_out, group_advantages):
        with pytest.raises(ValueError, match="expected two or more answers a prompt"):
            function(jnp.ones((3, 1)))


OLD, MASK = jnp.zeros((2, 3)), jnp.asarray([[1, 1, 0], [1, 0, 0]])
NEW = jnp.log(jnp.asarray([[1.1, 1.5, 9.0], [0.5, 9.0, 9.0]]))
GAINS = row(1.0, -1.0)


def test_reinforce_weighs_whole_answers_and_clips_them() -> None:
    near(reinforce_loss(NEW, OLD, MASK, GAINS), -(1.2 - 0.8) / 2)
    gradient = jax.grad(reinforce_loss)(OLD, OLD, MASK, GAINS)
    near(gradient, [[-0.5, -0.5, 0], [0.5, 0, 0]])  # that of -advantage x log-probability, and none where masked


def test_grpo_clips_tokens_and_divides_as_it_is_told() -> None:
    first, second = -(1.1 + 1.2), 0.8  # 1.5 is cut to 1.2; 0.5 to 0.8 as that is the worse for a loss
    near(grpo_loss(NEW, OLD, MASK, GAINS), (first / 2 + second) / 2)
    near(grpo_loss(NEW, OLD, MASK, GAINS, per="token"), (first + second) / 3)
    near(grpo_loss(NEW, OLD, MASK, GAINS, per=10), (first + second) / 20)
    near(grpo_loss(NEW, OLD, MASK, GAINS, clip_above=0.4, per="token"), (-(1.1 + 1.4) + second) / 3)
    with_reference = grpo_loss(OLD, OLD, MASK, GAINS, reference=OLD - math.log(2), beta=0.5, per="token")
    near(with_reference, (-1 - 1 + 1) / 3 + 0.5 * (0.5 - 1 + math.log(2)))


def test_ppo_clips_tokens_by_their_own_advantages() -> None:
    advantages = jnp.asarray([[1.0, -1.0, NAN], [2.0, NAN, NAN]])
    near(ppo_loss(NEW, OLD, MASK, advantages), -(1.1 - 1.5 + 2 * 0.5) / 3)


def test_values_gain_nothing_by_leaving_the_old_ones_far_behind() -> None:
    found = value_loss(row(1.0, 0.1)[None], row(0.0, 0.0)[None], row(1.0, 1.0)[None], jnp.ones((1, 2)))
    near(found, 0.5 * (0.8**2 + 0.9**2) / 2)


def test_advantages_look_ahead_with_decay_and_end_with_the_answer() -> None:
    found = generalised_advantages(
        row(0.0, 1.0, 5.0)[None], row(0.5, 0.25, 7.0)[None], jnp.asarray([[1, 1, 0]]), discount=0.9, decay=0.5
    )
    last = 1 - 0.25
    near(found, [[0.9 * 0.25 - 0.5 + 0.9 * 0.5 * last, last, 0]])
