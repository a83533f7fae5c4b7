"""`gemwright merge`: a model with its adapter, as a plain model."""

from pathlib import Path
from typing import Annotated

import typer

from gemwright.cli import options


def merge(
    model: Annotated[str, typer.Argument(help="The base: a folder or a hub name, not quantised.")],
    adapter: Annotated[str, typer.Argument(help="Folder or hub name of a LoRA adapter, as PEFT writes it.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    dtype: options.DType = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the checkpoint in OUT.")] = False,
    revision: options.Revision = None,
) -> None:
    """Add a LoRA adapter to the weights of its base and write the sum as a Hugging Face folder."""
    from gemwright.checkpoints.folders import check_target
    from gemwright.checkpoints.save import save_checkpoint
    from gemwright.model import load

    check_target(out, overwrite)
    merged = load(model, dtype=dtype, revision=revision).with_adapter(adapter).merged()
    tokenizer = merged.optional_tokenizer
    save_checkpoint(out, merged.config, merged.weights, tokenizer, source=merged.folder, overwrite=overwrite)
    typer.echo(f"{out}: {merged.config.family}, {merged.weights.embedding.dtype}, {adapter} merged")
