"""The five stages: each reads what the one before left, and measures its own gain on what nobody trained on."""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.reward_folder import load_reward_model
from gemwright.core.arrays import map_array
from gemwright.data.documents import Document, Split
from gemwright.data.pipeline.shards import write_text
from gemwright.data.skills import Question
from gemwright.gemma_mini import language
from gemwright.gemma_mini.course import Stage, folder_of
from gemwright.gemma_mini.examination import LONGEST, answers, document_bits, frequency_bits
from gemwright.gemma_mini.outcome import Outcome
from gemwright.gemma_mini.sizes import TOKENS, Sizes
from gemwright.gemma_mini.texts import SOURCES, Texts
from gemwright.text.chat import Message
from gemwright.text.tokenizer import load_tokenizer
from gemwright.training.pretrain import Pretraining, pretrain
from gemwright.training.report import read_losses
from gemwright.training.run import Optimizer, Run
from gemwright.training.run import Stage as Steps
from gemwright.tuning.actor import How
from gemwright.tuning.intervals import Interval, gained, interval, resampled, share
from gemwright.tuning.pair_learning import PairSettings
from gemwright.tuning.reward import reward
from gemwright.tuning.rewards.answers import exact
from gemwright.tuning.rewards.judge import by_reward
from gemwright.tuning.rewards.model import ModelReward
from gemwright.tuning.rewards.reward import Task
from gemwright.tuning.rlhf import rlhf
from gemwright.tuning.rlhf_course import Watched
from gemwright.tuning.sft import sft

Array = np.ndarray[Any, Any]
_BETA = 0.25  # choosing one of two ways to answer costs 0.7 nats; a policy that forgets how to answer, more
_SAVE_EVERY = 50  # steps


@dataclass(frozen=True)
class Chain:
    """What all stages know."""

    out: Path
    sizes: Sizes
    seed: int
    say: Callable[[str], None]

    @property
    def stages(self) -> list[Stage]:
        return [Stage(name, share, partial(work, self)) for name, (share, work) in _STAGES.items()]

    def model(self, stage: str) -> Path:
        """What a stage left."""
        return folder_of(self.out, list(_STAGES), stage) / "model"

    def questions(self, split: Split, purpose: int, count: int) -> list[Question]:
        """Others for each purpose."""
        return language.exercises(split, 100 * self.seed + purpose, count)


# ------------------------------------------------------------------------------------------- pretraining


def _pretrain(chain: Chain, folder: Path) -> Outcome:
    texts = Texts(chain.sizes, chain.seed)
    recipe = Pretraining(_run(chain), texts.read, save_every=_SAVE_EVERY)
    model = pretrain(recipe, folder)
    tokenizer, held_out = load_tokenizer(model), texts.held_out
    spoken = [document.text for document in held_out]
    streams = [map_array(folder / f"{name}.npy") for name in SOURCES]
    as_read = np.concatenate([stream[: min(map(len, streams))] for stream in streams])  # half and half
    bits = document_bits(model, spoken, chain.sizes.model.max_positions)
    costs = np.stack([frequency_bits(as_read, tokenizer, spoken), bits, [len(text.encode()) for text in spoken]], 1)
    return Outcome(
        metric=f"bits per byte of {len(spoken)} documents held out",
        bar="knowing only how frequent each token is",
        before=resampled(costs, lambda sums: sums[..., 0] / sums[..., 2], chain.seed),
        after=resampled(costs, lambda sums: sums[..., 1] / sums[..., 2], chain.seed),
        gain=resampled(costs, lambda sums: (sums[..., 0] - sums[..., 1]) / sums[..., 2], chain.seed),
        beside=_by_source(held_out, costs) | {"tokens read": f"{chain.sizes.pretraining * TOKENS:,}"},
        curve=read_losses(folder),
        curve_of="loss, nats a token",
    )


def _by_source(documents: Sequence[Document], costs: Array) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in SOURCES:
        sums = costs[[document.source == source for document in documents]].sum(axis=0)
        found[f"{source}, bits per byte"] = f"{sums[0] / sums[2]:.3f} -> {sums[1] / sums[2]:.3f}"
    return found


def _run(chain: Chain) -> Run:
    sizes = chain.sizes
    optimizer = Optimizer(lr=4e-3, warmup=max(1, min(100, sizes.pretraining // 10)))
    stage = Steps(sizes.pretraining, sizes.model.max_positions)
    return Run(sizes.model, (stage,), TOKENS, optimizer, seed=chain.seed)


# ---------------------------------------------------------------------------------------------- tuning


def _sft(chain: Chain, folder: Path) -> Outcome:
    learned, found = chain.questions("train", 1, chain.sizes.examples), chain.questions("heldout", 2, 200)
    _write_rows(folder / "train.jsonl", language.conversations(learned, chain.seed))
    _write_rows(folder / "heldout.jsonl", language.conversations(found, chain.seed))
    model = folder / "model"
    if not (model / "sft.json").exists():
        sft(
            chain.model("pretrain"), folder / "train.jsonl", model, eval_data=folder / "heldout.jsonl", overwrite=True,
            epochs=1, batch_tokens=TOKENS, seed=chain.seed, save_every=_SAVE_EVERY,
        )  # fmt: skip
    asked = chain.questions("heldout", 3, chain.sizes.questions)
    before, after = (answers(one, asked, None) for one in (chain.model("pretrain"), model))
    told = json.loads((model / "sft.json").read_text(encoding="utf-8"))
    return _compared(
        asked,
        (before, after),
        language.is_right,
        metric=f"share right of {len(asked)} questions held out",
        bar="the pretrained model",
        beside={
            "conversations": f"{len(learned):,}",
            "loss of 200 held out, nats a learned token": f"{told['loss_before']:.3f} -> {told['loss_after']:.3f}",
        },
        curve=read_losses(model),
        curve_of="loss, nats a learned token",
    )


def _reward(chain: Chain, folder: Path) -> Outcome:
    learned = chain.questions("train", 4, chain.sizes.pairs)
    held_out = chain.questions("heldout", 5, chain.sizes.questions)
    _write_rows(folder / "train.jsonl", language.pairs(learned, chain.seed))
    _write_rows(folder / "heldout.jsonl", language.pairs(held_out, chain.seed))
    model = folder / "model"
    if not (model / "reward.json").exists():
        settings = PairSettings(batch_tokens=TOKENS, seed=chain.seed, save_every=_SAVE_EVERY)
        reward(
            chain.model("sft"), folder / "train.jsonl", model, eval_data=folder / "heldout.jsonl", overwrite=True,
            settings=settings,
        )  # fmt: skip
    told = json.loads((model / "reward.json").read_text(encoding="utf-8"))["report"]
    after = Interval(told["accuracy"], told["low"], told["high"], told["pairs"])
    return Outcome(
        metric=f"share of {after.count} pairs held out that are ranked right",
        bar="chance",
        before=Interval(0.5, 0.5, 0.5, after.count),
        after=after,
        gain=Interval(after.mean - 0.5, after.low - 0.5, after.high - 0.5, after.count),
        beside={
            "pairs": f"{len(learned):,}",
            "loss, nats": f"{told['loss']:.3f}",
            "calibration error": f"{told['calibration_error']:.3f}",
            "right where the longer side is the worse": f"{told['accuracy_longer_rejected'] or 0:.1%}",
        },
        curve=_column(model / "steps.jsonl", "loss"),
        curve_of="loss, nats a pair",
    )


def _rlhf(chain: Chain, folder: Path) -> Outcome:
    sizes, model = chain.sizes, folder / "model"
    learned = chain.questions("train", 6, 16 * sizes.reinforcement)
    _write_rows(folder / "prompts.jsonl", [{"prompt": one.prompt, "answer": one.answer} for one in learned])
    if not (model / "rlhf.json").exists():
        rlhf(
            chain.model("sft"), folder / "prompts.jsonl", model, str(chain.model("reward")), rater=by_reward(exact()),
            overwrite=True, say=chain.say,
            how=How(
                steps=sizes.reinforcement, prompts=16, max_new_tokens=LONGEST, unended=-1.0, slots=64, seed=chain.seed
            ),
            watched=Watched(
                beta=_BETA, every=max(1, sizes.reinforcement // 4), held_out=min(0.2, 64 / len(learned)),
                save_every=_SAVE_EVERY,
            ),
        )  # fmt: skip
    asked = chain.questions("heldout", 7, sizes.questions)
    said = [answers(one, asked, [chain.seed, 7]) for one in (chain.model("sft"), model)]
    worth = [_rewards(chain.model("reward"), asked, one) for one in said]
    told = json.loads((model / "rlhf.json").read_text(encoding="utf-8"))
    return Outcome(
        metric=f"mean reward of answers to {len(asked)} prompts held out",
        bar="the fine-tuned model",
        before=interval(worth[0]),
        after=interval(worth[1]),
        gain=resampled(np.array(worth).T, lambda sums: (sums[..., 1] - sums[..., 0]) / len(asked), chain.seed),
        beside={
            "KL from the fine-tuned model, nats an answer": f"{told['kl']['mean']:.2f}",
            "weight of the KL": f"{_BETA:g}",
            "answers in training": f"{told['steps'] * 64:,}",
            "preferred to the fine-tuned model's by the rule, look by look": ", ".join(
                f"{one['preferred']:.0%}" for one in told["looks"]
            ),
            "ended before its last step": told["stopped"] or "no",
        },
        curve=_column(model / "steps.jsonl", "reward"),
        curve_of="mean reward",
    )


def _rewards(folder: Path, asked: Sequence[Question], said: Sequence[str]) -> list[float]:
    model = ModelReward(load_reward_model(folder))
    return [one.value for one in model([Task([Message("user", one.prompt)]) for one in asked], said)]


# ----------------------------------------------------------------------------------------- examination


def _evaluate(chain: Chain, folder: Path) -> Outcome:
    """What the reward model stood for, judged by the rule itself: did the chain as a whole make the model better?"""
    asked = chain.questions("heldout", 8, chain.sizes.questions)
    said = {name: answers(chain.model(name), asked, [chain.seed, 8]) for name in ("pretrain", "sft", "rlhf")}
    beside: dict[str, str] = {}
    for skill in sorted({one.skill for one in asked}):
        numbers = [place for place, one in enumerate(asked) if one.skill == skill]
        right = (_share(asked, each, language.is_right, numbers).mean for each in said.values())
        beside[f"{skill}: right after {', '.join(said)}"] = ", ".join(f"{one:.0%}" for one in right)
    return _compared(
        asked,
        (said["sft"], said["rlhf"]),
        language.is_preferred,
        metric=f"share of {len(asked)} questions answered right and in no word more",
        bar="the fine-tuned model",
        beside=beside,
    )


_STAGES: dict[str, tuple[float, Callable[[Chain, Path], Outcome]]] = {
    "pretrain": (17, _pretrain),
    "sft": (12, _sft),
    "reward": (8, _reward),
    "rlhf": (11, _rlhf),
    "evaluate": (2, _evaluate),
}
"""In their order, with their shares of the time."""


def _compared(
    asked: Sequence[Question],
    said: tuple[Sequence[str], Sequence[str]],
    is_good: Callable[[Question, str], bool],
    **more: Any,
) -> Outcome:
    before, after = (_share(asked, one, is_good, range(len(asked))) for one in said)
    shown = random.Random(len(asked)).sample(range(len(asked)), min(8, len(asked)))
    return Outcome(
        before=before,
        after=after,
        gain=gained(before, after),
        sample_heads=("question", "before", "after"),
        samples=[(asked[place].prompt, said[0][place][:100], said[1][place][:100]) for place in shown],
        **more,
    )


def _share(
    asked: Sequence[Question], said: Sequence[str], is_good: Callable[[Question, str], bool], places: Sequence[int]
) -> Interval:
    return share(sum(is_good(asked[place], said[place]) for place in places), len(places))


# ---------------------------------------------------------------------------------------------- files


def _write_rows(path: Path, rows: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _column(path: Path, name: str) -> list[float]:
    rows = [json.loads(line)[name] for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [float("nan") if value is None else value for value in rows]
