"""Learning from preferences without a reward model: DPO, IPO, KTO and ORPO on pairs.

What the model before says of the pairs is computed once, and kept in OUT.run.
"""

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.checkpoints.folders import check_target
from gemwright.checkpoints.peft_config import CONFIG_FILE
from gemwright.compilation import cache_compilations
from gemwright.core.module import module
from gemwright.data.example_sides import Sides
from gemwright.data.pair_rows import PairBatch
from gemwright.data.pairs import Pair, mismatch
from gemwright.models.family import Config, Decoder
from gemwright.training.stopping import asked_to_stop
from gemwright.tuning.beginning import begin, default_rate, read_base, save_tuned
from gemwright.tuning.intervals import Interval, interval, wilson
from gemwright.tuning.learner import Learner, Objective, adamw
from gemwright.tuning.lora import bare
from gemwright.tuning.losses import counted_mean
from gemwright.tuning.pair_learning import PairCourse, PairSettings, read_pairs
from gemwright.tuning.pair_scores import answer_sizes, answer_sums, divergences_of_pairs, sums_of_pairs
from gemwright.tuning.preference_losses import dpo_loss, ipo_loss, kto_divergence, kto_loss, orpo_loss

Loss = Literal["dpo", "ipo", "kto", "orpo"]
_USUAL = PairSettings()


@module
class Compared:
    """Pairs, and what the reference says of their sides: (B, P, S)."""

    pairs: PairBatch
    reference: jax.Array


@dataclass(frozen=True)
class Preferred:
    """What came of it.

    Attributes:
      right: share of the pairs held out whose chosen side gains more than the other against the model before, with its
        95% interval; before the first step it is 0.5 by definition.
      margin: mean of that gain's difference, in nats.
      kept: mean change of the log-probability of chosen answers, in nats; far below 0, both sides were unlearned.
      kl: divergence of the next token's probabilities from the model before, at held-out answers, in nats a token.
    """

    folder: Path
    loss: Loss
    steps: int
    pairs: int
    held_out: int
    skipped: int
    trained: float
    right: float | None
    low: float | None
    high: float | None
    margin: Interval
    kept: Interval
    kl: Interval
    seconds: float


def dpo(
    model: str | Path,
    pairs: str | Path,
    out: str | Path,
    loss: Loss = "dpo",
    *,
    beta: float = 0.1,
    smoothing: float = 0.0,
    eval_data: str | Path | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    revision: str | None = None,
    settings: PairSettings = _USUAL,
) -> Preferred:
    """Tune a model on pairs; interrupted, the same call goes on.

    Args:
      model: a folder or a hub name; not packed.
      pairs: a file or a folder of rows, as `data/pairs.py` says.
      out: folder to write: a model, or an adapter where `settings.change` has a rank.
      loss: KTO learns the two sides of each pair as a good and a bad answer.
      beta: how strongly the model before holds, more than 0.
      smoothing: for DPO, the assumed share of pairs that are the wrong way round, under a half.

    Raises:
      ValueError: if something does not fit, names file and row; or if a loss is no number, the last good state stays.
      Interrupted: at the first Ctrl-C or SIGTERM, when the state is saved.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"beta: expected more than 0, found {beta}; below it the rejected answers would be learned")
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"smoothing: expected 0 to less than 0.5, found {smoothing}: a share of pairs, the lesser one")
    folder, begun = Path(out), time.perf_counter()
    change = settings.change
    check_target(folder, overwrite, CONFIG_FILE if change.lora else "config.json")
    cache_compilations()
    base = read_base(model, revision)
    sides = read_pairs(pairs, eval_data, base, settings, folder, skip_bad=skip_bad)
    ties = [pair.place for pair in sides.learned if pair.tie]
    if ties:
        raise ValueError(f"{ties[0]}: a tie says nothing to {loss}, and there are {len(ties)}; remove them")
    if loss == "kto":
        sides = replace(sides, learned=mismatch(sides.learned, base.config.max_positions))
    told = {"model": str(model), "loss": loss, "beta": beta, "smoothing": smoothing}
    course = PairCourse(sides, settings, folder.with_name(folder.name + ".run"), loss, told)
    weights = begin(base, change, settings.seed)
    before: Decoder = bare(weights) if change.lora else weights
    rate = settings.rate or default_rate(base.config.embed_dim, change.lora > 0) / 10
    objective = objective_of(loss, base.config, beta, smoothing)
    learner = Learner(weights, change.is_trained, objective, adamw(rate, course.steps, course.warmup), settings.seed)
    with asked_to_stop() as stop:
        said, log = course.go(
            learner, partial(_reference, before, base.config, sides), stop, ("loss", "right"), _with_reference
        )
    after: Decoder = learner.weights
    result = _told(folder, loss, course, learner, after, before, base.config, said, time.perf_counter() - begun)
    save_tuned(folder, base, str(model), after, adapted=change.lora > 0, overwrite=overwrite)
    record = {**told, **asdict(settings), **asdict(result)}
    (folder / "dpo.json").write_text(json.dumps(record, indent=2, default=str) + "\n")
    log.leave(folder)
    shutil.rmtree(course.folder)
    return result


# ---------------------------------------------------------------------------------------- the reference


def _reference(before: Decoder, config: Config, sides: Sides[Pair]) -> dict[str, Any]:
    """What the model before says, of all pairs: (N, S) each."""
    held_out = sums_of_pairs(before, config, sides.held_out).tolist() if sides.held_out else []
    return {"learned": sums_of_pairs(before, config, sides.learned).tolist(), "held_out": held_out}


def _with_reference(said: dict[str, Any], batch: PairBatch) -> Compared:
    found = np.asarray(said["learned"], np.float32)[np.asarray(batch.numbers)]
    return Compared(batch, jnp.asarray(found * np.asarray(batch.pairs)[..., None]))


# ------------------------------------------------------------------------------------------ the losses


def objective_of(loss: Loss, config: Config, beta: float, smoothing: float = 0.0) -> Objective:
    """The loss of pairs `Compared` with the reference, for a decoder."""

    def objective(weights: Decoder, read: Compared, key: jax.Array) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        batch, sides = read.pairs, read.reference.shape[-1]
        sums, sizes = answer_sums(weights, batch, config), answer_sizes(batch)
        now, before, tokens = (values.reshape(-1, sides) for values in (sums, read.reference, sizes))
        counts = batch.pairs.reshape(-1)
        gains = now - before
        right = counted_mean((gains[:, 0] > gains[:, 1]).astype(gains.dtype), counts)
        found = _loss(loss, now, before, tokens, counts, beta, smoothing)
        return found, {"right": right, "margin": counted_mean(gains[:, 0] - gains[:, 1], counts)}

    return objective


def _loss(
    loss: Loss, now: jax.Array, before: jax.Array, tokens: jax.Array, counts: jax.Array, beta: float, smoothing: float
) -> jax.Array:
    """Of (N, S) log-probabilities; `counts` is 0 where there is no pair."""
    chosen, rejected = now[:, 0], now[:, 1]
    if loss == "dpo":
        return dpo_loss(chosen, rejected, before[:, 0], before[:, 1], beta=beta, smoothing=smoothing, counts=counts)
    if loss == "ipo":
        sizes = tokens[:, 0], tokens[:, 1]
        return ipo_loss(chosen, rejected, before[:, 0], before[:, 1], *sizes, beta=beta, counts=counts)
    if loss == "kto":
        good = jnp.stack([jnp.ones_like(chosen), jnp.zeros_like(chosen)], axis=1).reshape(-1)
        both = jnp.stack([counts, counts], axis=1).reshape(-1)
        point = kto_divergence(now[:, 2], before[:, 2], counts)
        return kto_loss(now[:, :2].reshape(-1), before[:, :2].reshape(-1), good, point, beta=beta, counts=both)
    means = jnp.where(counts[:, None] > 0, now / jnp.maximum(tokens, 1.0), -1.0)
    likelihood = -jnp.sum(chosen) / jnp.maximum(jnp.sum(tokens[:, 0]), 1.0)
    return orpo_loss(means[:, 0], means[:, 1], likelihood, beta=beta, counts=counts)


# ----------------------------------------------------------------------------------------- what is told


def _told(
    folder: Path,
    loss: Loss,
    course: PairCourse,
    learner: Learner,
    weights: Decoder,
    before: Decoder,
    config: Config,
    said: dict[str, Any],
    seconds: float,
) -> Preferred:
    sides = course.pairs
    held = sides.held_out
    gains = np.zeros((0, 2))
    if held:
        gains = sums_of_pairs(weights, config, held).astype(np.float64) - np.asarray(said["held_out"])
    right = np.where(gains[:, 0] == gains[:, 1], 0.5, gains[:, 0] > gains[:, 1])
    low, high = wilson(float(right.sum()), len(right)) if held else (None, None)
    kl = divergences_of_pairs(weights, before, config, held) if held else gains
    return Preferred(
        folder=folder,
        loss=loss,
        steps=course.steps,
        pairs=len(sides.learned),
        held_out=len(held),
        skipped=sides.skipped,
        trained=learner.share,
        right=float(right.mean()) if held else None,
        low=low,
        high=high,
        margin=interval((gains[:, 0] - gains[:, 1]).tolist()),
        kept=interval(gains[:, 0].tolist()),
        kl=interval(kl.mean(axis=1).tolist()),
        seconds=seconds,
    )
