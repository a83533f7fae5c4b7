"""`gemwright data`: documents cleaned, deduplicated, decontaminated; one step alone or a whole recipe."""

import json
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemwright.cli.data_examples import examples, write_behaviours
from gemwright.cli.data_mixtures import ablate, scaling
from gemwright.cli.data_summary import Json, Output, check_output, show

if TYPE_CHECKING:  # the libraries behind these load slowly, and --help needs none of them
    from gemwright.data.pipeline.recipe import Recipe
    from gemwright.data.rules.batch import Rule
    from gemwright.data.step import Step

app = typer.Typer(name="data", help="Clean documents for training, and account for every one.", no_args_is_help=True)


class EngineName(StrEnum):
    """Where the work is done."""

    NATIVE = "native"
    RAY = "ray"


class ActionName(StrEnum):
    """What to do about personal data."""

    REDACT = "redact"
    DROP = "drop"
    KEEP = "keep"


_Input = Annotated[list[str], typer.Option("--input", help="File, folder, pattern or address; may be repeated.")]
_Field = Annotated[str, typer.Option(help="Field of a row that is its text.")]
_Workers = Annotated[int, typer.Option(min=1, help="Processes.")]
_Engine = Annotated[EngineName, typer.Option(help="native: this machine; ray: a Ray cluster.")]
_Address = Annotated[str | None, typer.Option(help="Of the Ray cluster; one is started here if left out.")]


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="FILE.py or FILE.py:FUNCTION that returns a Recipe.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; begun again with the same one, it goes on.")],
    inputs: Annotated[list[str] | None, typer.Option("--input", help="Instead of the recipe's files.")] = None,
    engine: _Engine = EngineName.NATIVE,
    address: _Address = None,
    workers: _Workers = 1,
    as_json: Json = False,
) -> None:
    """Carry out a recipe: read, filter, deduplicate, decontaminate, cut into tokens."""
    from gemwright.data.pipeline.load import load_recipe

    loaded = load_recipe(recipe)
    _carry_out(loaded.with_inputs(inputs) if inputs else loaded, out, engine, address, workers, as_json)


@app.command("filter")
def filter_(
    inputs: _Input,
    output: Output,
    rules: Annotated[
        str, typer.Option(help="Rules in order, with commas between; FineWeb's, then quality, if left out.")
    ] = "",
    language: Annotated[list[str] | None, typer.Option(help="Keep this language (en, ko, ...); repeatable.")] = None,
    block: Annotated[
        Path | None, typer.Option(help="File of words and phrases, one a line; texts with one go.")
    ] = None,
    quality: Annotated[
        Path | None, typer.Option(help="Model of `gemwright data learn`, in place of the one for English.")
    ] = None,
    min_quality: Annotated[
        float | None, typer.Option(help="Texts that score lower go; 0.2 for the package's model, 0.5 for yours.")
    ] = None,
    text_field: _Field = "text",
    workers: _Workers = 1,
    as_json: Json = False,
) -> None:
    """Drop what is no good text."""
    from gemwright.data.pipeline.recipe import Filter
    from gemwright.data.pipeline.steps import USUAL, rules_of
    from gemwright.data.rules.blocked import BlockList, read_phrases

    named = [name.strip() for name in rules.split(",") if name.strip()] or list(USUAL)
    found = rules_of(named, language or [])
    if quality or min_quality is not None:
        found = (*(rule for rule in found if rule.name != "quality"), _quality(quality, min_quality))
    if block:
        found = (*found, BlockList(read_phrases(block)))
    _one_step((Filter(found),), inputs, output, text_field, workers, as_json)


def _quality(model: Path | None, threshold: float | None) -> "Rule":
    from gemwright.data.rules import learned

    if model is None:
        return learned.quality() if threshold is None else learned.quality(threshold=threshold)
    learned.load_model(model)  # a file that is no model is told of before the work begins
    return learned.quality(str(model), 0.5 if threshold is None else threshold)


@app.command()
def dedup(
    inputs: _Input,
    output: Output,
    kinds: Annotated[str, typer.Option(help="exact, near, passages, recitation: any, in order.")] = "exact,near",
    text_field: _Field = "text",
    workers: _Workers = 1,
    as_json: Json = False,
) -> None:
    """Keep the first of equal and of nearly equal texts; cut passages that come again."""
    from gemwright.data.pipeline.steps import repeats_of

    steps = repeats_of([name.strip() for name in kinds.split(",") if name.strip()])
    _one_step(steps, inputs, output, text_field, workers, as_json)


@app.command()
def decontaminate(
    inputs: _Input,
    output: Output,
    against: Annotated[list[str], typer.Option(help="Benchmark file, folder, or folder of them; repeatable.")],
    text_field: _Field = "text",
    workers: _Workers = 1,
    as_json: Json = False,
) -> None:
    """Drop texts that hold items of benchmarks, also with some words changed."""
    from gemwright.data.leaks.search import Decontaminate

    step = Decontaminate(tuple(against))
    _one_step((step,), inputs, output, text_field, workers, as_json)


@app.command()
def learn(
    good: Annotated[list[str], typer.Option(help="Files of examples to keep; repeatable.")],
    bad: Annotated[list[str], typer.Option(help="Files of examples to drop; repeatable.")],
    out: Annotated[Path, typer.Option(help="Model to write, .npz; `filter --quality` reads it.")],
    as_json: Json = False,
) -> None:
    """Learn to tell good texts from bad ones by examples, and say how well, on a fifth of them held out."""
    from gemwright.data.rules.learned import learn_from

    held, right = learn_from(good, bad, out)
    if as_json:
        typer.echo(json.dumps({"model": str(out), "held_out": held, "area_under_curve": right}))
        return
    typer.echo(f"{out}: of {held} examples held out, a good one scores above a bad one in {right:.1%} of pairs")


@app.command()
def redact(
    inputs: _Input,
    output: Output,
    sensitive: Annotated[ActionName, typer.Option(help="Cards, accounts, national ids, keys.")] = ActionName.REDACT,
    personal: Annotated[ActionName, typer.Option(help="E-mail, phone, network addresses.")] = ActionName.REDACT,
    text_field: _Field = "text",
    workers: _Workers = 1,
    as_json: Json = False,
) -> None:
    """Put the kind's name in the place of personal data, or drop the text."""
    from gemwright.data.personal.redact import Personal
    from gemwright.data.pipeline.recipe import Filter

    step = Filter((Personal(sensitive.value, personal.value),), name="redact")
    _one_step((step,), inputs, output, text_field, workers, as_json)


def _one_step(
    steps: "Sequence[Step]", inputs: list[str], output: Path, field: str, workers: int, as_json: bool
) -> None:
    """Run steps in a folder beside the output, which goes when the output is there."""
    import shutil

    from gemwright.data.pipeline.export import export_quarantine, export_rows
    from gemwright.data.pipeline.recipe import Recipe
    from gemwright.data.pipeline.run import run_recipe
    from gemwright.data.reading.files import find_files

    recipe, files = Recipe(tuple(inputs), tuple(steps), text_field=field), find_files(inputs)
    check_output(output, files)
    if output.suffix.lower() in (".bz2", ".xz", ".parquet", ".arrow"):  # would be read as what it is named
        raise ValueError(f"{output}: what is written are JSON lines; name a .jsonl file, or .jsonl.gz or .jsonl.zst")
    folder = output.with_name(f"{output.name}.run-{recipe.fingerprint(files)[:12]}")
    with _stoppable():
        finished = run_recipe(recipe, folder, workers=workers)
    export_rows(finished.shards, output)
    export_quarantine(folder, output.with_name(output.name + ".quarantine.jsonl"))
    shutil.rmtree(folder)
    show(finished.summary(), as_json)


def _carry_out(
    recipe: "Recipe", out: Path, engine: EngineName, address: str | None, workers: int, as_json: bool
) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from gemwright.data.pipeline.run import run_recipe

    console = Console(stderr=True)
    with _stoppable(), Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        finished = run_recipe(recipe, out, engine.value, workers, address, progress)
    show(finished.summary(), as_json)


@contextmanager
def _stoppable() -> Generator[None]:
    """Ctrl-C ends the process at once: Daft's threads would abort an interpreter that ends in order."""
    try:
        yield
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr, flush=True)
        os._exit(130)


for verb in (examples, ablate, scaling):
    app.command()(verb)
app.command("behaviours")(write_behaviours)
