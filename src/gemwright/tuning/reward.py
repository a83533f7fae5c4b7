"""A reward model from pairs: a number for each answer, higher for those that people prefer (Bradley and Terry)."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax

from gemwright.checkpoints.folders import check_target
from gemwright.checkpoints.load import Checkpoint
from gemwright.checkpoints.reward_folder import save_reward_model
from gemwright.compilation import cache_compilations
from gemwright.core.module import initialise
from gemwright.data.example_sides import Sides
from gemwright.data.pair_rows import PairBatch
from gemwright.data.pairs import Pair
from gemwright.models.family import Config
from gemwright.models.reward import RewardModel
from gemwright.training.stopping import asked_to_stop
from gemwright.tuning.beginning import begin, default_rate, read_base
from gemwright.tuning.learner import Learner, Objective, adamw
from gemwright.tuning.lora import is_change, merge
from gemwright.tuning.losses import counted_mean, reward_loss
from gemwright.tuning.pair_learning import PairCourse, PairSettings, read_pairs
from gemwright.tuning.pair_scores import pair_rewards, rewards_of_pairs
from gemwright.tuning.reward_report import RewardReport, plot, reward_report

_USUAL = PairSettings()


@dataclass(frozen=True)
class Rewarding:
    """What came of it.

    Attributes:
      report: of the pairs held out; None without any.
    """

    folder: Path
    steps: int
    pairs: int
    held_out: int
    skipped: int
    trained: float
    report: RewardReport | None
    seconds: float


def reward(
    model: str | Path,
    pairs: str | Path,
    out: str | Path,
    *,
    eval_data: str | Path | None = None,
    centre: float = 0.01,
    skip_bad: bool = False,
    overwrite: bool = False,
    revision: str | None = None,
    settings: PairSettings = _USUAL,
) -> Rewarding:
    """Make a reward model; interrupted, the same call goes on.

    Args:
      model: what it begins as: a folder or a hub name; not packed.
      pairs: a file or a folder of rows, as `data/pairs.py` says.
      out: folder to write; changes of LoRA are added to the weights.
      eval_data: pairs to measure on; if left out, some of `pairs` are held out.
      centre: weight that keeps the rewards of a pair around 0.
      skip_bad: leave out rows that cannot be learned from, and write them with reasons to OUT.bad.jsonl.

    Raises:
      ValueError: if something does not fit, names file and row; or if a loss is no number, the last good state stays.
      Interrupted: at the first Ctrl-C or SIGTERM, when the state is saved.
    """
    folder, begun = Path(out), time.perf_counter()
    check_target(folder, overwrite)
    cache_compilations()
    base = read_base(model, revision)
    assert base.tokenizer is not None
    sides = read_pairs(pairs, eval_data, base, settings, folder, skip_bad=skip_bad)
    kept = folder.with_name(folder.name + ".run")
    course = PairCourse(sides, settings, kept, "reward", {"model": str(model), "centre": centre})
    learner = _learner(base, course, centre)
    with asked_to_stop() as stop:
        _, log = course.go(learner, dict[str, Any], stop, ("loss", "right"))
    weights: RewardModel = learner.weights
    report = _report(weights, base.config, sides, kept)
    decoder = merge(weights.decoder) if settings.change.lora else weights.decoder
    stored = jax.tree.map(lambda weight, like: weight.astype(like.dtype), decoder, base.weights)
    result = Rewarding(
        folder, course.steps, len(sides.learned), len(sides.held_out), sides.skipped, learner.share, report,
        time.perf_counter() - begun,
    )  # fmt: skip
    save_reward_model(
        folder, base.config, replace(weights, decoder=stored), base.tokenizer, source=base.folder, overwrite=overwrite
    )
    told = {**course.told, **asdict(settings), **asdict(result)}
    (folder / "reward.json").write_text(json.dumps(told, indent=2, default=str) + "\n")
    log.leave(folder)
    if (kept / "reward.png").exists():
        shutil.move(kept / "reward.png", folder / "reward.png")
    shutil.rmtree(kept)
    return result


def _learner(base: Checkpoint, course: PairCourse, centre: float) -> Learner:
    settings, config = course.settings, base.config
    head = initialise(RewardModel.specs(config).head, settings.seed)
    rate = settings.rate or default_rate(config.embed_dim, settings.change.lora > 0) / 3
    return Learner(
        RewardModel(begin(base, settings.change, settings.seed), head),
        _is_trained if settings.change.lora else None,
        reward_objective(config, centre),
        adamw(rate, course.steps, course.warmup),
        settings.seed,
    )


def reward_objective(config: Config, centre: float = 0.0) -> Objective:
    """The loss of a `PairBatch` for a `RewardModel`."""

    def objective(weights: RewardModel, batch: PairBatch, key: jax.Array) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        rewards = pair_rewards(weights, batch, config).reshape(-1, 2)
        margins, ties, counts = (part.reshape(-1) for part in (batch.margins, batch.ties, batch.pairs))
        chosen, rejected = rewards[:, 0], rewards[:, 1]
        loss = reward_loss(chosen, rejected, margin=margins, ties=ties, centre=centre, counts=counts)
        right = counted_mean((chosen > rejected).astype(loss.dtype), counts * (1 - ties))
        return loss, {"right": right}

    return objective


def _is_trained(name: str) -> bool:
    return is_change(name) or name == "head"


def _report(weights: RewardModel, config: Config, sides: Sides[Pair], folder: Path) -> RewardReport | None:
    if not any(not pair.tie for pair in sides.held_out):
        return None
    rewards = rewards_of_pairs(weights, config, sides.held_out)
    report = reward_report(sides.held_out, rewards)
    plot(report, sides.held_out, rewards, folder / "reward.png")
    return report
