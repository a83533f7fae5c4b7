"""`gemwright rlhf`: a policy learns from what its answers are worth."""

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemwright.cli import options, strict_json
from gemwright.cli import pairs_options as of
from gemwright.cli.interruptible import interruptible

if TYPE_CHECKING:  # loads slowly, and --help does not need it
    from gemwright.tuning.rlhf import Reinforced


class LossName(StrEnum):
    """REINFORCE leave-one-out, group relative, or proximal policy optimisation."""

    RLOO = "rloo"
    GRPO = "grpo"
    PPO = "ppo"


class FaultsName(StrEnum):
    """What a reward that fails does to a run."""

    SKIP = "skip"
    STOP = "stop"


def rlhf(
    model: of.Model,
    prompts: Annotated[Path, typer.Argument(help="JSON lines, JSON, Parquet or a folder: prompt or messages.")],
    out: Annotated[Path, typer.Argument(help="Folder to write: a model, or with --lora an adapter.")],
    reward: Annotated[
        str,
        typer.Option(help="Folder of a reward model; exact, number, tests; sql:DB; judge:MODEL; FILE.py:FUNCTION."),
    ],
    loss: Annotated[LossName, typer.Option(help="rloo is REINFORCE with the leave-one-out baseline.")] = LossName.RLOO,
    steps: Annotated[int, typer.Option(min=1, help="Each writes, judges and learns.")] = 100,
    prompts_a_step: Annotated[int, typer.Option(min=1, help="Prompts of a step.")] = 8,
    samples: Annotated[int, typer.Option(min=2, help="Answers to each prompt.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 128,
    rate: of.Rate = None,
    beta: Annotated[float, typer.Option(help="Weight of the divergence from the first policy.")] = 0.05,
    kl: Annotated[float | None, typer.Option(help="Nats an answer shall be away; beta is adapted to it.")] = None,
    unended: Annotated[float, typer.Option(help="Added to the reward of an answer that was cut off.")] = 0.0,
    passes: Annotated[int, typer.Option(min=1, help="Over the answers of a step.")] = 1,
    rater: Annotated[str | None, typer.Option(help="judge:MODEL or a reward: watches what the reward does.")] = None,
    watch_every: Annotated[int, typer.Option(min=0, help="Steps between two looks of the rater.")] = 0,
    faults: Annotated[
        FaultsName, typer.Option(help="Where a reward fails: skip the answer, or stop.")
    ] = FaultsName.SKIP,
    difference: Annotated[float, typer.Option(help="Bound between engine and trainer, nats a token.")] = 0.2,
    lora: of.Lora = 0,
    dora: of.Dora = False,
    bits: of.Bits = None,
    targets: of.Targets = None,
    held_out: Annotated[float, typer.Option(help="Share of the prompts to measure on.")] = 0.1,
    slots: Annotated[int, typer.Option(min=1, help="Answers written at once.")] = 32,
    seed: options.Seed = 0,
    save_every: of.SaveEvery = 20,
    overwrite: of.Overwrite = False,
    revision: options.Revision = None,
    as_json: options.AsJson = False,
) -> None:
    """Tune a model by rewards of its answers. Interrupted, the same command goes on."""
    from gemwright.model import DEFAULT_MODEL
    from gemwright.tuning.actor import How
    from gemwright.tuning.beginning import Change
    from gemwright.tuning.lora import LINEAR
    from gemwright.tuning.rlhf import rlhf as tune
    from gemwright.tuning.rlhf_course import Watched

    how = How(
        loss.value,
        steps,
        prompts_a_step,
        samples,
        max_new_tokens,
        rate,
        passes,
        unended=unended,
        slots=slots,
        seed=seed,
    )
    watched = Watched(beta, kl, difference, faults.value, watch_every, held_out, save_every)
    with interruptible():
        done = tune(
            DEFAULT_MODEL if model == "default" else model, prompts, out, reward, rater=rater, overwrite=overwrite,
            revision=revision, change=Change(lora, dora, bits, tuple(targets or LINEAR)), how=how, watched=watched,
            say=lambda text: print(text, file=sys.stderr),
        )  # fmt: skip
    print(strict_json.dumps(asdict(done), indent=2)) if as_json else _tell(done)


def _tell(done: "Reinforced") -> None:
    print(f"{done.steps} steps on {done.prompts} prompts in {done.seconds:.0f} s")
    print(f"reward of {done.held_out} prompts held out: {done.reward_before} before, {done.reward_after} after")
    print(f"divergence from the first policy: {done.kl} nats an answer, beta {done.beta:.3g}")
    print(f"rollouts: {done.tokens_per_second:,.0f} tokens/s, {done.share_of_speed:.0%} of the engine's alone")
    print(f"engine and trainer differ by {done.difference:.2g} nats a token at most")
    if done.faults:
        print(f"{done.faults} answers had no reward: {done.folder / 'faults.jsonl'}")
    if done.stopped:
        print(done.stopped)
    print(f"{done.folder}: written")
