"""`gemwright sft`: a model learns the answers of example conversations."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemwright.cli import options
from gemwright.cli.interruptible import interruptible

if TYPE_CHECKING:  # loads slowly, and --help does not need it
    from gemwright.tuning.sft import Tuned


def sft(
    model: Annotated[str, typer.Argument(help="Folder or hub name; `default` is the small model.")],
    data: Annotated[
        Path, typer.Argument(help="JSON lines, JSON, Parquet or a folder of them: messages, ShareGPT, pairs.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write: a model, or with --lora an adapter.")] = None,
    lora: Annotated[int, typer.Option(help="Rank of LoRA; left out, all weights are trained.")] = 0,
    dora: Annotated[bool, typer.Option("--dora", help="With --lora: DoRA.")] = False,
    bits: Annotated[int | None, typer.Option(help="With --lora: 4 or 8 of the base (QLoRA).")] = None,
    targets: Annotated[
        list[str] | None, typer.Option(help="With --lora: weights, as `*.attention.*`; may be repeated.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="How often each example is read.")] = 3,
    rate: Annotated[
        float | None, typer.Option(help="Highest learning rate; one by the model's width if left out.")
    ] = None,
    length: Annotated[
        list[int] | None, typer.Option(help="Of rows, in tokens; repeated, short examples go into short rows.")
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens of a step; 4096, or fewer for little data.")] = None,
    eval_file: Annotated[Path | None, typer.Option("--eval", help="Examples to measure on.")] = None,
    held_out: Annotated[float, typer.Option(help="Without --eval: share of the examples to measure on.")] = 0.05,
    preview: Annotated[
        int, typer.Option(min=0, help="Show so many examples, coloured by what is learned, and end.")
    ] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out; they go to OUT.bad.jsonl.")] = False,
    seed: options.Seed = 0,
    save_every: Annotated[int, typer.Option(help="Steps between saved states.", min=1)] = 100,
    teacher: Annotated[
        str | None, typer.Option(help="A larger model of the same vocabulary, whose probabilities are learned.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what OUT holds.")] = False,
    revision: options.Revision = None,
) -> None:
    """Fine-tune a model on example conversations. Interrupted, the same command goes on."""
    from gemwright.model import DEFAULT_MODEL
    from gemwright.tuning.lora import LINEAR
    from gemwright.tuning.sft import sft as tune

    source = DEFAULT_MODEL if model == "default" else model
    if preview:
        _preview(source, data, preview, revision)
        return
    if out is None:
        raise ValueError("--out: expected a folder to write, found none; or look at the examples with --preview 3")
    chosen: dict[str, Any] = {
        "lora": lora, "dora": dora, "bits": bits, "targets": tuple(targets or LINEAR), "epochs": epochs, "rate": rate,
        "lengths": tuple(length or ()), "batch_tokens": batch_tokens, "held_out": held_out, "seed": seed,
        "save_every": save_every, "teacher": teacher,
    }  # fmt: skip
    with interruptible():
        done = tune(
            source, data, out, eval_data=eval_file, skip_bad=skip_bad, overwrite=overwrite, revision=revision, **chosen
        )
    _tell(done, model, out, bool(lora))


def _tell(done: "Tuned", model: str, out: Path, adapted: bool) -> None:
    if done.skipped:
        print(f"{done.skipped} rows were left out: {out.with_name(out.name + '.bad.jsonl')}")
    print(
        f"{done.examples} examples, {done.tokens:,} tokens read, {done.learned_tokens:,} of them learned, "
        f"in {done.steps} steps (rows {done.share_filled:.0%} full) and {done.seconds:.0f} s"
    )
    print(f"{done.trained:.2%} of the parameters trained")
    if done.loss_before is not None:
        print(f"loss of {done.held_out} examples held out: {done.loss_before:.3f} before, {done.loss_after:.3f} after")
    base = "" if model == "default" else f"{model} "
    print(f"{out}: written; gemwright chat {f'{base}--adapter {out}' if adapted else out}")


def _preview(model: str | Path, data: Path, count: int, revision: str | None) -> None:
    from itertools import islice

    from rich.console import Console

    from gemwright.data.examples import example_of
    from gemwright.data.rows import read_rows
    from gemwright.text.show import learned_text
    from gemwright.tuning.beginning import read_base

    base = read_base(model, revision)
    console, tokenizer = Console(), base.tokenizer
    assert tokenizer is not None
    for row in islice(read_rows(data), count):
        console.rule(f"{row.file.name}, row {row.number}", align="left")
        try:
            example = example_of(row, tokenizer, base.config.max_positions)
        except ValueError as error:
            console.print(f"cannot be learned from: {error}", style="red", markup=False)
            continue
        marked = console.color_system is None or console.no_color
        console.print(learned_text(tokenizer, example.ids, example.learned, marked=marked), soft_wrap=True)
        console.print(f"{sum(example.learned)} of {len(example.ids)} tokens are learned", style="italic")
