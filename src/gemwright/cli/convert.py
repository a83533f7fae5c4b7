"""`gemwright convert`: any checkpoint that can be read, as a Hugging Face folder."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # loads slowly, and --help does not need it
    from rich.progress import Progress


class Dtype(StrEnum):
    """What weights can be stored as."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


def convert(
    model: Annotated[str, typer.Argument(help="Folder (Hugging Face or Google's Flax release) or name on the hub.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    dtype: Annotated[Dtype | None, typer.Option(help="Of the weights; as stored if left out.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the checkpoint in OUT.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
) -> None:
    """Write a model as a Hugging Face folder, which transformers, vLLM and Gemwright load."""
    from rich.console import Console
    from rich.progress import Progress

    from gemwright.checkpoints.hub import resolve
    from gemwright.checkpoints.load import load_checkpoint
    from gemwright.checkpoints.save import save_checkpoint

    folder = resolve(model, revision=revision)
    with Progress(console=Console(stderr=True)) as bars:
        loaded = load_checkpoint(folder, dtype=dtype, progress=_bar(bars, "reading"))
        save_checkpoint(
            out,
            loaded.config,
            loaded.weights,
            loaded.tokenizer,
            source=folder,
            overwrite=overwrite,
            progress=_bar(bars, "writing"),
        )
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    tokenizer = "with its tokenizer" if loaded.tokenizer else "without a tokenizer"
    typer.echo(f"{out}: {loaded.config.family}, {loaded.weights.embedding.dtype}, {size / 1e9:.2f} GB, {tokenizer}")


def _bar(bars: "Progress", name: str) -> Callable[[int, int], None]:
    task = bars.add_task(name, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)
