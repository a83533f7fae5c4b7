"""Reinforcement learning: a policy writes answers, they are rewarded, and it learns from what they are worth.

As in the Gemma report: REINFORCE with a baseline, the reward less the divergence from the policy that it began as. All
that can be refused is refused before the first answer. OUT.run keeps what an interrupted run goes on from.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from gemwright.checkpoints.folders import check_target
from gemwright.checkpoints.peft_config import CONFIG_FILE
from gemwright.compilation import cache_compilations
from gemwright.training.stopping import asked_to_stop
from gemwright.training.store import Store
from gemwright.tuning.actor import Actor, How
from gemwright.tuning.beginning import Change, default_rate, read_base, save_tuned
from gemwright.tuning.intervals import Interval, interval
from gemwright.tuning.prompts import read_prompts
from gemwright.tuning.rewards.judge import Compare
from gemwright.tuning.rewards.named import rater_of, reward_of
from gemwright.tuning.rewards.reward import Reward
from gemwright.tuning.rlhf_course import Course, Job, Watched
from gemwright.tuning.rlhf_report import plot
from gemwright.tuning.step_log import StepLog


@dataclass(frozen=True)
class Reinforced:
    """What came of it.

    Attributes:
      stopped: why the run ended before its last step; the result is then the policy that the rater liked most.
      reward_before, reward_after: of the likeliest answers to prompts held out, with 95% intervals.
      kl: divergence of an answer from the first policy, in nats, with its interval.
      share_of_speed: tokens a second of the rollouts, the median of the latest steps, by those of the same engine with
        weights that stay.
      difference: largest mean of a step, between engine and trainer, in nats a token.
      faults: answers that had no reward.
    """

    folder: Path
    steps: int
    prompts: int
    held_out: int
    stopped: str
    reward_before: Interval
    reward_after: Interval
    kl: Interval
    beta: float
    share_of_speed: float
    tokens_per_second: float
    difference: float
    faults: int
    seconds: float


_LATEST = 20  # steps whose speed is told: the first compile

_ALL, _USUAL, _CAREFUL = Change(), How(), Watched()


def rlhf(
    model: str | Path,
    prompts: str | Path,
    out: str | Path,
    reward: str | Reward,
    *,
    rater: str | Compare | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    change: Change = _ALL,
    how: How = _USUAL,
    watched: Watched = _CAREFUL,
    say: Callable[[str], None] = print,
) -> Reinforced:
    """Tune a policy on prompts; interrupted, the same call goes on.

    Args:
      model: the tuned model to begin with.
      prompts: a file or a folder of rows, as `prompts.py` says.
      out: folder to write: a model, or an adapter where `change` has a rank.
      reward: what answers are worth, or its name as `rewards/named.py` says.
      rater: compares with the first policy's answers every `watched.every` steps; or the name of a reward or judge.
      how: without a rate, one by the model's width.
      say: is told what a user should know while the run goes on.

    Raises:
      ValueError: if something does not fit, names file and row; or if the run must not go on: its last state stays.
      Interrupted: at the first Ctrl-C or SIGTERM, when the state is saved.
    """
    folder = Path(out)
    check_target(folder, overwrite, CONFIG_FILE if change.lora else "config.json")
    if watched.every and rater is None:
        raise ValueError("a look every so many steps needs a rater: a judge, or another reward")
    cache_compilations()
    base = read_base(model, revision)
    assert base.tokenizer is not None
    usual = default_rate(base.config.embed_dim, change.lora > 0) / 10
    how = replace(how, rate=how.rate or usual)
    judged_by = reward_of(reward) if isinstance(reward, str) else reward
    room = base.config.max_positions - how.max_new_tokens
    found = read_prompts(Path(prompts), base.tokenizer, room, [judged_by])
    compare = rater_of(rater, how.seed) if isinstance(rater, str) else rater
    kept = folder.with_name(folder.name + ".run")
    job = Job(base, str(model), found, judged_by, compare, change, how, watched, kept, say)
    return _carried_out(job, folder, overwrite)


def _carried_out(job: Job, out: Path, overwrite: bool) -> Reinforced:
    begun = time.perf_counter()
    actor = Actor(job.base, job.change, job.how, max(len(prompt.ids) for prompt in job.found))
    job.folder.mkdir(parents=True, exist_ok=True)
    store, good = Store(job.folder), Store(job.folder / "good", keep=1)
    try:
        with asked_to_stop() as stop, StepLog(job.folder, "rlhf", job.how.steps, ("reward", "kl")) as steps:
            course = Course(job, actor, store, good, steps)
            course.go(stop)
        result = _told(job, actor, course, out, begun)
    finally:
        store.close()
        good.close()
    save_tuned(out, job.base, job.name, actor.weights, adapted=job.change.lora > 0, overwrite=overwrite)
    looks = [asdict(one) for one in course.looks]
    told = json.dumps({**job.told(), **asdict(result), "looks": looks}, indent=2, default=str)
    (out / "rlhf.json").write_text(told + "\n")
    steps.leave(out)
    plot(steps.records, looks, out / "rlhf.png")
    shutil.rmtree(job.folder)
    return result


def _told(job: Job, actor: Actor, course: Course, out: Path, begun: float) -> Reinforced:
    held, done = job.sides[1], course.steps.records
    speed = float(np.median([record["tokens_per_second"] for record in done[-_LATEST:]]))
    return Reinforced(
        folder=out,
        steps=len(done),
        prompts=len(job.sides[0]),
        held_out=len(held),
        stopped=course.stopped,
        reward_before=interval(course.before),
        reward_after=interval(course.rewards_now()),
        kl=interval(actor.divergence(held, [job.how.seed, job.how.steps, 1]).tolist()),
        beta=course.beta,
        share_of_speed=speed / course.plain_speed(),
        tokens_per_second=speed,
        difference=max(record["difference"] for record in done),
        faults=sum(record["faults"] for record in done),
        seconds=time.perf_counter() - begun,
    )
