"""`gemwright reward`: a reward model from pairs of answers."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gemwright.cli import options, strict_json
from gemwright.cli import pairs_options as of
from gemwright.cli.interruptible import interruptible


def reward(
    model: of.Model,
    pairs: of.Pairs,
    out: Annotated[Path, typer.Argument(help="Folder to write: a reward model.")],
    centre: Annotated[float, typer.Option(min=0, help="Weight that keeps the rewards of a pair around 0.")] = 0.01,
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
    """Learn which answers are preferred. Interrupted, the same command goes on."""
    from gemwright.model import DEFAULT_MODEL
    from gemwright.tuning.beginning import Change
    from gemwright.tuning.lora import LINEAR
    from gemwright.tuning.pair_learning import PairSettings
    from gemwright.tuning.reward import reward as learn
    from gemwright.tuning.reward_report import told

    change = Change(lora, dora, bits, tuple(targets or LINEAR))
    settings = PairSettings(change, epochs, rate, length, batch_tokens, held_out, seed, save_every)
    with interruptible():
        done = learn(
            DEFAULT_MODEL if model == "default" else model, pairs, out, eval_data=eval_file, centre=centre,
            skip_bad=skip_bad, overwrite=overwrite, revision=revision, settings=settings,
        )  # fmt: skip
    if as_json:
        print(strict_json.dumps(asdict(done), indent=2))
        return
    if done.skipped:
        print(f"{done.skipped} rows were left out: {out.with_name(out.name + '.bad.jsonl')}")
    print(f"{done.pairs} pairs in {done.steps} steps and {done.seconds:.0f} s; {done.trained:.2%} trained")
    print(told(done.report) if done.report else "no pairs were held out to measure on")
    print(f"{out}: written; gemwright rlhf {model} PROMPTS OUT --reward {out}")
