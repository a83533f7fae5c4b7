"""A policy at work: it answers prompts by the engine, is rewarded, and learns, a step at a time."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.checkpoints.load import Checkpoint
from gemwright.core.module import initialise
from gemwright.models.family import Decoder
from gemwright.models.reward import RewardModel
from gemwright.tuning import policy
from gemwright.tuning.beginning import Change, begin
from gemwright.tuning.learner import Learner, adamw
from gemwright.tuning.lora import bare, is_change, settle
from gemwright.tuning.policy import Loss
from gemwright.tuning.prompts import Prompt
from gemwright.tuning.rewards.reward import Judged, Reward
from gemwright.tuning.rollouts import Roller, Rollout, for_rollouts

_BLOCK = 64  # tokens: rows are multiples of it


@dataclass(frozen=True)
class How:
    """How a policy learns.

    Attributes:
      loss: `rloo` is REINFORCE with the leave-one-out baseline.
      steps: each has `prompts`, and `samples` answers to each.
      max_new_tokens: of an answer.
      rate: the highest learning rate.
      passes: over the answers of a step.
      clip: how far probabilities may move by one step's answers and still gain.
      unended: added to the reward of an answer that the limit of tokens cut off.
    """

    loss: Loss = "rloo"
    steps: int = 100
    prompts: int = 8
    samples: int = 4
    max_new_tokens: int = 128
    rate: float | None = None
    passes: int = 1
    clip: float = 0.2
    unended: float = 0.0
    slots: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        least = min(self.steps, self.prompts, self.max_new_tokens, self.passes, self.slots)
        if least < 1 or self.samples < 2 or not self._has_a_rate or not 0 < self.clip < 1:
            raise ValueError(
                "expected steps, prompts, max_new_tokens, passes and slots of 1 or more, samples of 2 or more, a "
                f"positive rate and a clip between 0 and 1; found {self}"
            )
        if self.seed < 0 or not math.isfinite(self.unended):
            raise ValueError(f"expected a seed of 0 or more and a finite unended, found {self.seed} and {self.unended}")

    @property
    def _has_a_rate(self) -> bool:
        return self.rate is None or 0 < self.rate < math.inf


@dataclass(frozen=True)
class Told:
    """Of one step.

    Attributes:
      reward: mean over the answers that have one.
      kl: mean divergence of an answer from the first policy, in nats.
      difference, largest: between the engine's log-probabilities and the trainer's, nats a token.
      length: mean tokens of an answer; `ended`: share that ended by itself.
      faults: why answers have no reward.
      tokens_per_second: of the rollouts, the handing over of weights included.
    """

    reward: float
    kl: float
    loss: float
    norm: float
    clipped: float
    difference: float
    largest: float
    length: float
    ended: float
    faults: tuple[str, ...]
    answers: int
    tokens_per_second: float


class Actor:
    """The policy, its first state as reference, and the engine."""

    def __init__(self, base: Checkpoint, change: Change, how: How, longest: int) -> None:
        """Make it ready.

        Args:
          longest: tokens of a prompt.
        """
        assert base.tokenizer is not None
        self.base, self.change, self.how = base, change, how
        self.config, self.tokenizer = base.config, base.tokenizer
        assert how.rate is not None
        weights = begin(base, change, how.seed)
        self.reference: Decoder = bare(weights) if change.lora else weights
        self._length = -(-(longest + how.max_new_tokens) // _BLOCK) * _BLOCK
        self.learner = Learner(
            self._with_head(weights),
            self._is_trained if change.lora else None,
            policy.objective_of(how.loss, self.config, how.clip),
            adamw(how.rate, how.steps * how.passes, max(1, min(20, how.steps // 10))),
            how.seed,
        )
        stops = self.tokenizer.stop_ids
        self.roller = Roller(self.for_engine(), self.config, stops, how.slots, longest, how.max_new_tokens)

    @property
    def weights(self) -> Decoder:
        """The policy's."""
        found = self.learner.weights
        return found.decoder if self.how.loss == "ppo" else found

    def text(self, rollout: Rollout) -> str:
        """An answer without its stop token."""
        return self.tokenizer.decode([i for i in rollout.ids if i not in self.tokenizer.stop_ids]).strip()

    def answers(self, prompts: Sequence[Prompt], seed: Sequence[int] | None) -> list[Rollout]:
        """As the policy is now; None takes the likeliest tokens."""
        return self.roller.answers(self.for_engine(), [prompt.ids for prompt in prompts], seed)

    def step(self, number: int, prompts: Sequence[Prompt], reward: Reward, beta: float, bound: float) -> Told:
        """Answer, be rewarded, learn.

        Args:
          number: decides the draws.
          bound: of the mean difference between engine and trainer.

        Raises:
          ValueError: if they differ by more, or the loss is no number; nothing is learned then.
        """
        how = self.how
        each = [prompt for prompt in prompts for _ in range(how.samples)]
        begun = time.perf_counter()
        rollouts = self.answers(each, [how.seed, number])
        speed = sum(len(one.ids) for one in rollouts) / (time.perf_counter() - begun)
        judged = self.judged(each, rollouts, reward)
        answers = policy.in_rows(rollouts, self._length)
        old, reference = self._scores(answers)
        agreed = policy.agreement(answers, old)
        if not agreed.mean <= bound:
            raise ValueError(
                f"step {number}: the engine's log-probabilities differ from the trainer's by {agreed.mean:.4f} nats a "
                f"token (bound {bound:g}): answers would be learned from as if another model had written them"
            )
        rewards = np.array([one.value for one in judged]).reshape(len(prompts), how.samples)
        lesson = policy.lesson(how.loss, answers, rewards, old, reference, beta, self._values(answers))
        told = self._learn(number, lesson, prompts)
        return Told(
            reward=_mean(rewards),
            kl=float(policy.divergences(answers, old, reference).mean()),
            loss=told["loss"],
            norm=told["norm"],
            clipped=told["clipped"],
            difference=agreed.mean,
            largest=agreed.largest,
            length=float(np.mean([len(one.ids) for one in rollouts])),
            ended=float(np.mean([one.ended for one in rollouts])),
            faults=tuple(one.fault for one in judged if one.fault),
            answers=len(rollouts),
            tokens_per_second=speed,
        )

    def judged(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], reward: Reward) -> list[Judged]:
        """The rewards of answers, with what is added where one did not end."""
        found = reward([prompt.task for prompt in prompts], [self.text(rollout) for rollout in rollouts])
        return [
            one if rollout.ended or one.fault else Judged(one.value + self.how.unended)
            for one, rollout in zip(found, rollouts, strict=True)
        ]

    def divergence(self, prompts: Sequence[Prompt], seed: Sequence[int]) -> np.ndarray[Any, Any]:
        """An estimate for each prompt, from an answer drawn to it."""
        answers = policy.in_rows(self.answers(prompts, seed), self._length)
        old, reference = self._scores(answers)
        return policy.divergences(answers, old, reference)

    def _learn(self, number: int, lesson: policy.Lesson, prompts: Sequence[Prompt]) -> dict[str, float]:
        told: dict[str, float] = {}
        for _ in range(self.how.passes):
            told = self.learner.learn(lesson)
            if not (math.isfinite(told["loss"]) and math.isfinite(told["norm"])):
                places = "; ".join(prompt.task.place for prompt in prompts[:8])
                raise ValueError(
                    f"step {number}: the loss is {told['loss']} and its gradient {told['norm']}, expected numbers; "
                    f"lower the rate (it is {self.how.rate:g}). The step read: {places}"
                )
        return told

    def _scores(self, answers: policy.Answers) -> tuple[jax.Array, jax.Array]:
        """Under the policy, and under the one it began as."""
        return policy.scores(self.weights, answers, self.config), policy.scores(self.reference, answers, self.config)

    def _values(self, answers: policy.Answers) -> jax.Array | None:
        return policy.values(self.learner.weights, answers, self.config) if self.how.loss == "ppo" else None

    def for_engine(self) -> Decoder:
        """As fast to read as the model that was loaded."""
        if self.change.lora:
            return settle(self.weights)
        return for_rollouts(self.weights, self.base.weights)

    def _with_head(self, weights: Decoder) -> Any:
        """For PPO a number more is learned: what an answer will be worth."""
        if self.how.loss != "ppo":
            return weights
        return RewardModel(weights, initialise(RewardModel.specs(self.config).head, self.how.seed, jnp.float32))

    def _is_trained(self, name: str) -> bool:
        return is_change(name) or (self.how.loss == "ppo" and name == "head")


def _mean(rewards: np.ndarray[Any, Any]) -> float:
    known = rewards[~np.isnan(rewards)]
    return float(known.mean()) if known.size else math.nan
