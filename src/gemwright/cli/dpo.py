"""`gemwright dpo`: a model learns from pairs of answers, without a reward model."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gemwright.cli import options, strict_json
from gemwright.cli import pairs_options as of
from gemwright.cli.interruptible import interruptible


class LossName(StrEnum):
    """Of learning from pairs."""

    DPO = "dpo"
    IPO = "ipo"
    KTO = "kto"
    ORPO = "orpo"


def dpo(
    model: of.Model,
    pairs: of.Pairs,
    out: Annotated[Path, typer.Argument(help="Folder to write: a model, or with --lora an adapter.")],
    loss: Annotated[LossName, typer.Option(help="orpo needs no reference.")] = LossName.DPO,
    beta: Annotated[float, typer.Option(help="How strongly the model before holds.")] = 0.1,
    smoothing: Annotated[float, typer.Option(help="For dpo: assumed share of pairs the wrong way round.")] = 0.0,
    lora: of.Lora = 0,
    dora: of.Dora = False,
    bits: of.Bits = None,
    targets: of.Targets = None,
    epochs: of.Epochs = 1,
    rate: of.Rate = None,
    length: of.Length = None,
    batch_tokens: of.BatchTokens = None,
    eval_file: of.EvalFile = None,
    held_out: of.HeldOut = 0.1,
    skip_bad: of.SkipBad = False,
    seed: options.Seed = 0,
    save_every: of.SaveEvery = 100,
    overwrite: of.Overwrite = False,
    revision: options.Revision = None,
    as_json: options.AsJson = False,
) -> None:
    """Tune a model on pairs of answers. Interrupted, the same command goes on."""
    from gemwright.model import DEFAULT_MODEL
    from gemwright.tuning.beginning import Change
    from gemwright.tuning.dpo import dpo as tune
    from gemwright.tuning.lora import LINEAR
    from gemwright.tuning.pair_learning import PairSettings

    change = Change(lora, dora, bits, tuple(targets or LINEAR))
    settings = PairSettings(change, epochs, rate, length, batch_tokens, held_out, seed, save_every)
    with interruptible():
        done = tune(
            DEFAULT_MODEL if model == "default" else model, pairs, out, loss.value, beta=beta, smoothing=smoothing,
            eval_data=eval_file, skip_bad=skip_bad, overwrite=overwrite, revision=revision, settings=settings,
        )  # fmt: skip
    if as_json:
        print(strict_json.dumps(asdict(done), indent=2))
        return
    if done.skipped:
        print(f"{done.skipped} rows were left out: {out.with_name(out.name + '.bad.jsonl')}")
    print(f"{done.pairs} pairs in {done.steps} steps and {done.seconds:.0f} s; {done.trained:.2%} trained")
    if done.right is not None:
        print(
            f"{done.held_out} pairs held out: the chosen answer gained more in {done.right:.1%} "
            f"({done.low:.1%} to {done.high:.1%}), by {done.margin} nats; the chosen ones themselves {done.kept}"
        )
        print(f"divergence from the model before: {done.kl} nats a token")
    print(f"{out}: written")
