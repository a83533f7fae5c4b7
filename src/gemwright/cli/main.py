"""The `gemwright` command: one file a verb, assembled here."""

import io
import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from gemwright.cli import data, tokenizer
from gemwright.cli.bench import bench
from gemwright.cli.chat import chat
from gemwright.cli.convert import convert
from gemwright.cli.dpo import dpo
from gemwright.cli.embed import embed
from gemwright.cli.generate import generate
from gemwright.cli.merge import merge
from gemwright.cli.models import models
from gemwright.cli.pretrain import pretrain
from gemwright.cli.quantize import quantize
from gemwright.cli.recipe import recipe
from gemwright.cli.reward import reward
from gemwright.cli.rlhf import rlhf
from gemwright.cli.sft import sft
from gemwright.cli.shield import shield
from gemwright.cli.summary import summary


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"gemwright {metadata.version('gemwright')}")
        raise typer.Exit


app = typer.Typer(
    name="gemwright",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """The whole life of a Gemma model. Verbs that take a MODEL use the small default one without it."""


USE = (chat, generate, embed, shield, models, summary, convert, quantize, bench)
TRAIN = (pretrain, sft, reward, dpo, rlhf, merge, recipe)

for verb in (*USE, *TRAIN):
    app.command()(verb)
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command. What a user can mend is one line on standard error and exit code 1, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # what the terminal's encoding lacks shall end no answer
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        if isinstance(error, BrokenPipeError):  # the reader, `head` for one, has what it wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except MemoryError:
        print("error: not enough memory for this; `gemwright summary MODEL` tells what it needs", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
