"""The course of a run of reinforcement learning: steps, looks of the rater, saved states, and what must end it."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gemwright.checkpoints.load import Checkpoint
from gemwright.training.loop import Interrupted
from gemwright.training.store import Store
from gemwright.tuning.actor import Actor, How, Told
from gemwright.tuning.beginning import Change
from gemwright.tuning.policy import adapted_beta
from gemwright.tuning.prompts import Prompt
from gemwright.tuning.rewards.judge import Compare
from gemwright.tuning.rewards.reward import Reward
from gemwright.tuning.step_log import StepLog
from gemwright.tuning.watch import Look, alarm, best, look

_EXAMINED = 64  # prompts held out, at most
_TOO_MANY = 0.5  # of a step's answers without a reward
_WARN = 0.25  # of the bound between engine and trainer


@dataclass(frozen=True)
class Watched:
    """What keeps a run from going wrong.

    Attributes:
      beta: weight of the divergence from the first policy; where `kl` is given, the first one.
      kl: nats that an answer shall be away from the first policy; beta is adapted towards it. None keeps beta.
      difference: bound of the mean difference between the engine's log-probabilities and the trainer's, nats a token.
      faults: `skip` goes on without the answers whose reward fails, unless they are more than half of a step's; `stop`
        ends the run at the first.
      every: steps between two looks of the rater; 0 for none.
      held_out: share of the prompts, at most 64, to look and to measure at.
      save_every: steps between saved states.
    """

    beta: float = 0.05
    kl: float | None = None
    difference: float = 0.2
    faults: str = "skip"
    every: int = 0
    held_out: float = 0.1
    save_every: int = 20

    def __post_init__(self) -> None:
        if self.faults not in ("skip", "stop") or not 0 < self.held_out < 1 or not 0 <= self.beta < math.inf:
            raise ValueError(
                "expected faults of skip or stop, held_out between 0 and 1, a beta of 0 or more; found "
                f"{self.faults}, {self.held_out} and {self.beta}"
            )
        positive = (self.kl is None or self.kl > 0) and self.difference > 0  # as nan is not
        if min(self.save_every, self.every + 1) < 1 or not positive:
            raise ValueError(
                "expected save_every of 1 or more, every of 0 or more, a positive kl and difference; found "
                f"{self.save_every}, {self.every}, {self.kl} and {self.difference}"
            )


@dataclass
class Job:
    """All that decides a run, and what it says to its user."""

    base: Checkpoint
    name: str
    found: list[Prompt]
    reward: Reward
    compare: Compare | None
    change: Change
    how: How
    watched: Watched
    folder: Path
    say: Callable[[str], None]

    @cached_property
    def sides(self) -> tuple[list[Prompt], list[Prompt]]:
        """Prompts to learn on, and those held out; the same text is on one side alone."""
        texts = sorted({tuple(prompt.ids) for prompt in self.found})
        count = min(max(1, round(len(texts) * self.watched.held_out)), _EXAMINED)
        if len(texts) < 2:
            raise ValueError(f"expected two or more different prompts, found {len(texts)}: one is held out")
        order = np.random.default_rng([self.how.seed, 2]).permutation(len(texts))
        kept = {texts[index] for index in order[:count]}
        learned = [prompt for prompt in self.found if tuple(prompt.ids) not in kept]
        firsts = {tuple(prompt.ids): prompt for prompt in self.found}
        return learned, [firsts[texts[index]] for index in order[:count]]

    def of_step(self, number: int) -> list[Prompt]:
        """The prompts of a step: all once an epoch, in an order that the seed fixes."""
        learned, count = self.sides[0], self.how.prompts
        chosen: list[Prompt] = []
        for place in range(number * count, (number + 1) * count):
            epoch, index = divmod(place, len(learned))
            chosen.append(learned[np.random.default_rng([self.how.seed, 3, epoch]).permutation(len(learned))[index]])
        return chosen

    def told(self) -> dict[str, Any]:
        """What decides the run."""
        read = json.dumps([[prompt.ids, str(prompt.task.row)] for prompt in self.found])
        return {
            "model": self.name, "prompts": sha256(read.encode()).hexdigest(), "reward": self.reward.name,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self.change).items()},
            **asdict(self.how), **asdict(self.watched),
        }  # fmt: skip


class Course:
    """Steps from the state that is kept to the last."""

    def __init__(self, run: Job, actor: Actor, store: Store, good: Store, steps: StepLog) -> None:
        self.run, self.actor, self.store, self.good, self.steps = run, actor, store, good, steps
        self.like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), actor.learner.state
        )
        self.stopped, self.warned = "", False
        self.notes = self._restored()
        self.beta: float = self.notes["beta"]
        self.looks = [Look(**one) for one in self.notes["looks"]]
        self.before: list[float] = self.notes["before"]
        self.baseline: list[str] = self.notes["baseline"]

    def go(self, stop: Callable[[], bool]) -> None:
        run, last = self.run, self.run.how.steps
        while len(self.steps.records) < last and not self.stopped:
            number = len(self.steps.records)
            self._learn(number)
            done = number + 1
            if run.watched.every and done % run.watched.every == 0:
                self._look(done)
            stopping = stop()
            if done % run.watched.save_every == 0 or done == last or stopping or self.stopped:
                self._save(done)
            if stopping and done < last and not self.stopped:
                self.store.wait()
                raise Interrupted(f"stopped after step {done} of {last}")
        if self.looks and self.stopped:
            self._back_to_best()

    def rewards_now(self) -> list[float]:
        """Of the likeliest answers to the prompts held out."""
        held = self.run.sides[1]
        return [one.value for one in self.actor.judged(held, self.actor.answers(held, None), self.run.reward)]

    def plain_speed(self) -> float:
        """Of the same engine, with weights that stay."""
        job, number = self.run, len(self.steps.records) - 1
        each = [prompt.ids for prompt in job.of_step(number) for _ in range(job.how.samples)]
        return self.actor.roller.plain_speed(self.actor.for_engine(), each)

    def _learn(self, number: int) -> None:
        run, watched = self.run, self.run.watched
        begun = time.perf_counter()
        told = self.actor.step(number, run.of_step(number), run.reward, self.beta, watched.difference)
        self._note_faults(number, told)
        if told.difference > _WARN * watched.difference and not self.warned:
            self.warned = True
            run.say(f"step {number}: engine and trainer differ by {told.difference:.4f} nats a token")
        more = {"faults": len(told.faults), "beta": self.beta, "seconds": time.perf_counter() - begun}
        self.steps.add(number, {**asdict(told), **more})
        self.beta = adapted_beta(self.beta, told.kl, watched.kl)

    def _note_faults(self, number: int, told: Told) -> None:
        if not told.faults:
            return
        self.steps.fault(number, told.faults)
        if number == 0 or self.run.watched.faults == "stop":
            self.run.say(f"step {number}: {len(told.faults)} answers have no reward; the first: {told.faults[0]}")
        if self.run.watched.faults == "stop" or len(told.faults) > _TOO_MANY * told.answers:
            raise ValueError(
                f"step {number}: {len(told.faults)} of {told.answers} answers have no reward; the first: "
                f"{told.faults[0]}. {self.run.folder} keeps the last good state: mend the reward and go on"
            )

    def _look(self, done: int) -> None:
        """The rater's: the policy's likeliest answers beside those of the first policy."""
        assert self.run.compare is not None
        held, actor = self.run.sides[1], self.actor
        tasks, rollouts = [prompt.task for prompt in held], actor.answers(held, None)
        rewards = [one.value for one in actor.judged(held, rollouts, self.run.reward)]
        preferred = self.run.compare(tasks, [actor.text(rollout) for rollout in rollouts], self.baseline)
        self.looks.append(look(done, rewards, preferred))
        if best(self.looks) is self.looks[-1]:
            self.good.save(done, actor.learner.state, {})
        if reason := alarm(self.looks):
            self.stopped = f"stopped after step {done}: {reason}"
            self.run.say(self.stopped)

    def _back_to_best(self) -> None:
        self.good.wait()
        top = self.good.steps()[-1]
        self.actor.learner.state = self.good.restore(top, self.like)
        self.run.say(f"the result is the policy of step {top}, which the rater liked most")

    def _save(self, done: int) -> None:
        told = {
            **self.notes, "beta": self.beta, "looks": [asdict(one) for one in self.looks], "stopped": self.stopped,
        }  # fmt: skip
        self.store.save(done, self.actor.learner.state, {"run": self.run.told(), "notes": told})

    def _restored(self) -> dict[str, Any]:
        """What was noted with the newest state, which is taken up; or measured before the first step."""
        run, actor = self.run, self.actor
        if saved := self.store.steps():
            kept = self.store.notes(saved[-1])
            told = json.loads(json.dumps(run.told()))
            other = sorted(name for name in told if kept["run"].get(name) != told[name])
            if other:
                raise ValueError(
                    f"{run.folder}: the run in it differs in {', '.join(other)}; give the same command to go on, "
                    "remove the folder to begin anew, or choose another --out"
                )
            actor.learner.state = self.store.restore(saved[-1], self.like)
            self.steps.go_back(saved[-1])
            self.stopped = kept["notes"]["stopped"]
            return kept["notes"]
        self.steps.go_back(0)
        held = run.sides[1]
        rollouts = actor.answers(held, None)
        before = [one.value for one in actor.judged(held, rollouts, run.reward)]
        texts = [actor.text(rollout) for rollout in rollouts]
        return {
            "beta": run.watched.beta, "looks": [], "before": before, "baseline": texts, "stopped": "",
        }  # fmt: skip
