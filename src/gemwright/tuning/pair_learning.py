"""Learning from pairs: what is read, in which rows, and the steps from the kept state to the last."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax

from gemwright.checkpoints.load import Checkpoint
from gemwright.data.example_rows import ExampleRows
from gemwright.data.example_sides import Sides, sides_of
from gemwright.data.pair_rows import pair_layout, pair_size
from gemwright.data.pairs import Pair, pair_of
from gemwright.data.rows import Row
from gemwright.training.loop import Interrupted
from gemwright.training.store import Store
from gemwright.tuning.beginning import Change, check_learning
from gemwright.tuning.learner import Learner
from gemwright.tuning.step_log import StepLog

_BLOCK = 64  # tokens: row lengths are multiples of it, so that few programs are compiled
_SHOWN = 8  # rows in a message


@dataclass(frozen=True)
class PairSettings:
    """How to learn from pairs.

    Attributes:
      epochs: how often each pair is read.
      rate: the highest learning rate; None takes one by the model's width.
      length: of rows, in tokens; None takes one that the longest pair fits.
      batch_tokens: of a step, at most; None takes 4096, or fewer where an epoch would have under 8 steps.
      held_out: share of the pairs, by their prompts, to measure on where no other file is given.
    """

    change: Change = field(default_factory=Change)
    epochs: int = 1
    rate: float | None = None
    length: int | None = None
    batch_tokens: int | None = None
    held_out: float = 0.1
    seed: int = 0
    save_every: int = 100

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"expected epochs of 1 or more, found {self.epochs}")
        check_learning(
            held_out=self.held_out,
            rate=self.rate,
            seed=self.seed,
            save_every=self.save_every,
            batch_tokens=self.batch_tokens,
            lengths=() if self.length is None else (self.length,),
        )


def read_pairs(
    data: str | Path,
    eval_data: str | Path | None,
    base: Checkpoint,
    settings: PairSettings,
    out: Path,
    *,
    skip_bad: bool,
) -> Sides[Pair]:
    """All pairs, checked; those of a prompt are on one side alone.

    Args:
      out: beside it stand the rows that `skip_bad` leaves out.

    Raises:
      ValueError: as `sides_of` does.
    """

    tokenizer = base.tokenizer
    assert tokenizer is not None

    def make(row: Row) -> Pair:
        return pair_of(row, tokenizer, base.config.max_positions)

    def prompt(pair: Pair) -> tuple[int, ...]:
        return tuple(pair.chosen.ids[: pair.prompt])

    share, seed = settings.held_out, settings.seed
    held_out = Path(eval_data) if eval_data else None
    bad_rows = out.with_name(out.name + ".bad.jsonl") if skip_bad else None
    return sides_of(Path(data), held_out, make, prompt, share=share, seed=seed, bad_rows=bad_rows)


@dataclass(frozen=True)
class PairCourse:
    """A run over pairs.

    Attributes:
      folder: keeps what an interrupted run goes on from.
      told: what decides the run.
    """

    pairs: Sides[Pair]
    settings: PairSettings
    folder: Path
    title: str
    told: dict[str, Any]

    @cached_property
    def rows(self) -> ExampleRows[Pair]:
        """The pairs in the order in which they are learned."""
        chosen, sizes = self.settings, [pair_size(pair) for pair in self.pairs.learned]
        length = chosen.length or -(-int(max(max(sizes), 4 * sum(sizes) / len(sizes))) // _BLOCK) * _BLOCK
        wanted = chosen.batch_tokens or min(4096, sum(sizes) // 8)
        tokens = max(1, wanted // length) * length
        return ExampleRows(
            self.pairs.learned, (length,), tokens, chosen.epochs, chosen.seed, pair_layout(self.pairs.learned)
        )

    @property
    def steps(self) -> int:
        return len(self.rows.steps)

    @property
    def warmup(self) -> int:
        return max(1, min(100, self.steps // 20))

    def go(
        self,
        learner: Learner,
        before: Callable[[], dict[str, Any]],
        stop: Callable[[], bool],
        shown: Sequence[str],
        more: Callable[[dict[str, Any], Any], Any] = lambda before, batch: batch,
    ) -> tuple[dict[str, Any], StepLog]:
        """Take all steps that are left; returns what was measured before the first, and the log.

        Args:
          before: is asked once, and its numbers kept.
          more: from these numbers and a batch to what the objective reads.

        Raises:
          ValueError: if the folder is of another run, or a loss is no number: names the rows, the last state stays.
          Interrupted: after `stop`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        store = Store(self.folder)
        try:
            with StepLog(self.folder, self.title, self.steps, shown) as log:
                first, kept = self._restored(store, learner, before)
                log.go_back(first)
                for step in range(first, self.steps):
                    log.add(step, self._learn(learner, step, partial(more, kept)))
                    stopping, done = stop(), step + 1
                    if done % self.settings.save_every == 0 or done == self.steps or stopping:
                        store.save(done, learner.state, {"run": self._decides(), "before": kept})
                    if stopping and done < self.steps:
                        raise Interrupted(f"stopped after step {done} of {self.steps}")
                return kept, log
        finally:
            store.close()

    def _learn(self, learner: Learner, step: int, more: Callable[[Any], Any]) -> dict[str, float]:
        length, rows = self.rows.lengths[0], self.rows.tokens // self.rows.lengths[0]
        told = learner.learn(more(self.rows.batch(step, rows, length)))
        if math.isfinite(told["loss"]) and math.isfinite(told["norm"]):
            return told
        places = [self.pairs.learned[number].place for number in self.rows.numbers(step)]
        listed = "; ".join(places[:_SHOWN]) + (f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else "")
        raise ValueError(
            f"step {step}: the loss is {told['loss']} and its gradient {told['norm']}, expected numbers; {self.folder} "
            f"keeps the last good state. Begin anew with a lower rate, or mend the data. The step read: {listed}"
        )

    def _restored(
        self, store: Store, learner: Learner, before: Callable[[], dict[str, Any]]
    ) -> tuple[int, dict[str, Any]]:
        if not (saved := store.steps()):
            return 0, before()
        kept, told = store.notes(saved[-1]), self._decides()
        other = sorted(name for name in told if kept["run"].get(name) != told[name])
        if other:
            raise ValueError(
                f"{self.folder}: the run in it differs in {', '.join(other)}; give the same command to go on, "
                "remove the folder to begin anew, or choose another --out"
            )
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), learner.state
        )
        learner.state = store.restore(saved[-1], like)
        return saved[-1], kept["before"]

    def _decides(self) -> dict[str, Any]:
        pairs = [*self.pairs.learned, *self.pairs.held_out]
        read = [[one.chosen.ids, one.rejected.ids, one.margin, one.tie] for one in pairs]
        chosen = {**self.told, **asdict(self.settings), "data": sha256(json.dumps(read).encode()).hexdigest()}
        return json.loads(json.dumps({**chosen, "save_every": None}))
