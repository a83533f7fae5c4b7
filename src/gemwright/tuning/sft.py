"""Supervised fine-tuning: a model learns the answers of example conversations, whole or by LoRA.

Weights and data are read, and all that can be refused is refused, before the first step. Beside the result, OUT, stands
OUT.run while training goes on: what the same call goes on from.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax

from gemwright.checkpoints.folders import check_target
from gemwright.checkpoints.load import Checkpoint
from gemwright.checkpoints.peft_config import CONFIG_FILE
from gemwright.compilation import cache_compilations
from gemwright.core.module import named_leaves
from gemwright.core.sharding import MeshShape
from gemwright.data.ahead import Data
from gemwright.data.example_rows import ExampleRows, read_size
from gemwright.data.example_sides import Sides, read_sides
from gemwright.data.examples import Example
from gemwright.models.family import Decoder, specs_of
from gemwright.training.distil import Taught, online
from gemwright.training.loop import Diverged, train
from gemwright.training.run import Compute, Guard, Optimizer, Run, Stage
from gemwright.training.stopping import asked_to_stop
from gemwright.tuning.beginning import Change, begin, check_learning, default_rate, read_base, save_tuned
from gemwright.tuning.lora import LINEAR, is_change
from gemwright.tuning.measured_loss import mean_loss

_BLOCK = 64  # tokens: row lengths are multiples of it, so that few programs are compiled
_FREE = ("rate", "save_every")  # what may differ when a run goes on


@dataclass(frozen=True)
class Settings:
    """How to fine-tune.

    Attributes:
      lora: rank of LoRA's changes; 0 trains all weights.
      dora: with LoRA: rows keep a trained length of their own.
      bits: with LoRA: 4 or 8 of the base (QLoRA); None leaves it as it is stored.
      targets: with LoRA: shell patterns of the names of the weights that are adapted.
      epochs: how often each example is read.
      rate: the highest learning rate; None takes `default_rate`.
      lengths: of rows, in tokens, ascending; several are several stages in each epoch. Empty takes one that fits.
      batch_tokens: of a step, at most; None takes 4096, or fewer where an epoch would have under 8 steps.
      held_out: share of the examples that is kept back to measure on, where no other file is given.
      save_every: steps between saved states.
      teacher: a larger model of the same vocabulary, whose probabilities are learned in place of the answers' tokens.
      likeliest: of its tokens, so many are learned in each place.
    """

    lora: int = 0
    dora: bool = False
    bits: int | None = None
    targets: Sequence[str] = LINEAR
    epochs: int = 3
    rate: float | None = None
    lengths: Sequence[int] = ()
    batch_tokens: int | None = None
    held_out: float = 0.05
    seed: int = 0
    save_every: int = 100
    teacher: str | None = None
    likeliest: int = 64

    def __post_init__(self) -> None:
        _ = self.change
        if min(self.epochs, self.likeliest) < 1:
            raise ValueError(f"expected epochs and likeliest of 1 or more, found {self.epochs} and {self.likeliest}")
        check_learning(
            held_out=self.held_out,
            rate=self.rate,
            seed=self.seed,
            save_every=self.save_every,
            batch_tokens=self.batch_tokens,
            lengths=self.lengths,
        )

    @property
    def change(self) -> Change:
        """What is trained of a model."""
        return Change(self.lora, self.dora, self.bits, tuple(self.targets))


@dataclass(frozen=True)
class Tuned:
    """What came of it.

    Attributes:
      folder: a Hugging Face folder, or an adapter in PEFT's format.
      loss_before, loss_after: nats a learned token of the examples held out; None without any.
      trained: share of the parameters.
    """

    folder: Path
    steps: int
    examples: int
    held_out: int
    skipped: int
    tokens: int
    learned_tokens: int
    share_filled: float
    trained: float
    loss_before: float | None
    loss_after: float | None
    seconds: float


def sft(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    eval_data: str | Path | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    revision: str | None = None,
    **settings: Any,
) -> Tuned:
    """Fine-tune a model on example conversations; interrupted, the same call goes on.

    Args:
      model: a folder or a hub name; not packed.
      data: a file or a folder of examples, as `data/examples.py` says.
      out: folder to write: a model, or with `lora` an adapter.
      eval_data: examples to measure on; if left out, some of `data` are held out.
      skip_bad: leave out rows that cannot be learned from, and write them with reasons to OUT.bad.jsonl.
      overwrite: replace what `out` holds.
      settings: the fields of `Settings`.

    Raises:
      ValueError: if model, data or settings do not fit; names file and row. Or if a loss is no number: names the rows,
        and the last good state is kept.
      Interrupted: at the first Ctrl-C or SIGTERM, when the state is saved.
    """
    chosen, folder = Settings(**settings), Path(out)
    check_target(folder, overwrite, CONFIG_FILE if chosen.lora else "config.json")
    cache_compilations()
    base = read_base(model, revision)
    assert base.tokenizer is not None
    found = read_sides(
        Path(data),
        Path(eval_data) if eval_data else None,
        base.tokenizer,
        base.config.max_positions,
        share=chosen.held_out,
        seed=chosen.seed,
        bad_rows=folder.with_name(folder.name + ".bad.jsonl") if skip_bad else None,
    )
    return Tuning(base, str(model), found, chosen, folder, _teacher(base, chosen)).run(overwrite)


def _teacher(base: Checkpoint, chosen: Settings) -> Checkpoint | None:
    """Raises ValueError if it has other tokens than the model that learns."""
    if chosen.teacher is None:
        return None
    found = read_base(chosen.teacher)
    assert found.tokenizer is not None
    assert base.tokenizer is not None
    if found.tokenizer.fingerprint != base.tokenizer.fingerprint:
        raise ValueError(
            f"teacher {chosen.teacher}: expected the vocabulary of {base.folder.name}, found another; probabilities of "
            "other tokens cannot be learned"
        )
    return found


# ------------------------------------------------------------------------------------------- the run


@dataclass(frozen=True)
class Tuning:
    """A model, its examples and how they are learned."""

    base: Checkpoint
    name: str
    examples: Sides[Example]
    settings: Settings
    out: Path
    teacher: Checkpoint | None = None

    @property
    def folder(self) -> Path:
        """What an interrupted run goes on from."""
        return self.out.with_name(self.out.name + ".run")

    @cached_property
    def rows(self) -> ExampleRows[Example]:
        """The examples in the order in which they are learned."""
        chosen, sizes = self.settings, [read_size(example) for example in self.examples.learned]
        longest, mean = max(sizes), sum(sizes) / len(sizes)
        lengths = tuple(chosen.lengths) or (-(-int(max(longest, min(4 * mean, 2 * longest))) // _BLOCK) * _BLOCK,)
        wanted = chosen.batch_tokens or min(4096, sum(sizes) // 8)
        tokens = max(1, wanted // max(lengths)) * max(lengths)
        return ExampleRows(self.examples.learned, lengths, tokens, chosen.epochs, chosen.seed)

    @cached_property
    def plan(self) -> Run:
        """The recipe of the training loop."""
        rate = self.settings.rate or default_rate(self.base.config.embed_dim, self.settings.lora > 0)
        stages = tuple(Stage(steps, length) for steps, length in self.rows.stages)
        warmup = max(1, min(100, sum(stage.steps for stage in stages) // 20))
        return Run(
            self.base.config,
            stages,
            self.rows.tokens,
            Optimizer(lr=rate, warmup=warmup, weight_decay=0.0),
            Compute(remat="products" if self.settings.lora else "none"),
            MeshShape(fsdp=math.gcd(jax.device_count(), *(self.rows.tokens // stage.length for stage in stages))),
            Guard(spike=0, patience=1, rollbacks=0),
            self.settings.seed,
        )

    def run(self, overwrite: bool) -> Tuned:
        """Train, measure and write."""
        begun = time.perf_counter()
        weights = begin(self.base, self.settings.change, self.settings.seed)
        trained = is_change if self.settings.lora else None
        before = self._began(weights)
        with asked_to_stop() as stop:
            after = self._train(weights, trained, stop)
        result = self._report(after, before, time.perf_counter() - begun)
        self._save(after, overwrite)
        self._leave(result)
        return result

    def _train(self, weights: Decoder, trained: Callable[[str], bool] | None, stop: Callable[[], bool]) -> Decoder:
        chosen = self.settings
        try:
            return train(
                self.plan, self._taught(), self.folder, weights=weights, is_trained=trained,
                save_every=chosen.save_every, stop=stop,
            )  # fmt: skip
        except Diverged as error:
            places = [self.examples.learned[number].place for number in self.rows.numbers(error.batch)]
            raise ValueError(
                f"{error}; {self.folder} keeps the last good state. Go on from it with a lower rate (it was "
                f"{self.plan.optimizer.lr:g}), or mend the data and begin anew. The step read: {_listed(places)}"
            ) from None

    def _taught(self) -> Data:
        """The rows, with what a teacher says of each place."""
        if self.teacher is None:
            return self.rows
        config = self.teacher.config
        likeliest = min(self.settings.likeliest, config.vocab_size)
        return Taught(self.rows, online(self.teacher.weights, config, likeliest))

    def _began(self, weights: Decoder) -> float | None:
        """The loss before, kept in the run's folder with what decides the run.

        Raises:
          ValueError: if the folder is of another run; says in what.
        """
        told = self._told()
        path = self.folder / "settings.json"
        if path.exists():
            kept = json.loads(path.read_text())
            other = [name for name, value in told.items() if name not in _FREE and kept.get(name) != value]
            if other:
                raise ValueError(
                    f"{self.folder}: the run in it differs in {', '.join(other)}; give the same command to go on, "
                    "remove the folder to begin anew, or choose another --out"
                )
            return kept["loss_before"]
        before = self._measured(weights)
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**told, "loss_before": before}, indent=2) + "\n")
        return before

    def _told(self) -> dict[str, Any]:
        """What decides the run."""
        read = json.dumps([[e.ids for e in part] for part in (self.examples.learned, self.examples.held_out)])
        chosen = {**asdict(self.settings), "targets": list(self.settings.targets), "lengths": list(self.rows.lengths)}
        return {"model": self.name, "data": sha256(read.encode()).hexdigest(), **chosen}

    def _measured(self, weights: Decoder) -> float | None:
        examples = self.examples.held_out
        return mean_loss(weights, self.base.config, examples) if examples else None

    def _report(self, weights: Decoder, before: float | None, seconds: float) -> Tuned:
        sizes = {name: leaf.size for name, leaf in named_leaves(weights).items()}
        trained = sum(size for name, size in sizes.items() if not self.settings.lora or is_change(name))
        learned, rows = self.examples.learned, self.rows
        return Tuned(
            folder=self.out,
            steps=self.plan.steps,
            examples=len(learned),
            held_out=len(self.examples.held_out),
            skipped=self.examples.skipped,
            tokens=rows.epochs * sum(map(read_size, learned)),
            learned_tokens=rows.epochs * sum(sum(example.learned) for example in learned),
            share_filled=rows.share_filled,
            trained=trained / sum(spec.size for spec in named_leaves(specs_of(self.base.config)).values()),
            loss_before=before,
            loss_after=self._measured(weights),
            seconds=seconds,
        )

    def _save(self, weights: Decoder, overwrite: bool) -> None:
        save_tuned(self.out, self.base, self.name, weights, adapted=self.settings.lora > 0, overwrite=overwrite)

    def _leave(self, result: Tuned) -> None:
        """The curve and the numbers beside the result; the state is not needed any more."""
        (self.out / "sft.json").write_text(json.dumps({**self._told(), **asdict(result)}, indent=2, default=str) + "\n")
        for name in ("losses.jsonl", "loss.png"):
            if (self.folder / name).exists():
                shutil.move(self.folder / name, self.out / name)
        shutil.rmtree(self.folder)


def _listed(places: list[str]) -> str:
    more = f" and {len(places) - 8} more" if len(places) > 8 else ""
    return "; ".join(places[:8]) + more
