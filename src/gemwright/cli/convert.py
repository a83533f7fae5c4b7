"""`gemwright convert`: any checkpoint that can be read, as a Hugging Face folder or a GGUF file."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # loads slowly, and --help does not need it
    from rich.progress import Progress

    from gemwright.checkpoints.load import Checkpoint


class Dtype(StrEnum):
    """What weights can be stored as."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class GgufType(StrEnum):
    """What the matrices of a GGUF file can be stored as."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


def convert(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder (Hugging Face or Google's Flax release), GGUF file, PaliGemma's .npz, or hub name."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write, or a file if it ends in .gguf.")],
    dtype: Annotated[Dtype | None, typer.Option(help="Of the weights; as stored if left out.")] = None,
    gguf_type: Annotated[GgufType, typer.Option(help="Of the matrices in a GGUF file.")] = GgufType.Q8_0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the checkpoint in OUT.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
) -> None:
    """Write a model as a Hugging Face folder (for transformers, vLLM, Gemwright) or a GGUF file (for llama.cpp)."""
    from rich.console import Console
    from rich.progress import Progress

    from gemwright.checkpoints.folders import check_file, check_target
    from gemwright.checkpoints.hub import resolve
    from gemwright.checkpoints.load import load_checkpoint

    gguf = out.suffix == ".gguf"
    (check_file if gguf else check_target)(out, overwrite)
    folder = resolve(model, revision=revision)
    with Progress(console=Console(stderr=True)) as bars:
        loaded = load_checkpoint(folder, dtype=dtype, progress=_bar(bars, "reading"))
        if gguf:
            stored = _write_file(out, loaded, gguf_type, overwrite, _bar(bars, "writing"))
        else:
            stored = _write_folder(out, loaded, overwrite, _bar(bars, "writing"))
    tokenizer = "with its tokenizer" if loaded.tokenizer else "without a tokenizer"
    typer.echo(f"{out}: {loaded.config.family}, {stored}, {tokenizer}")


def _write_file(out: Path, loaded: "Checkpoint", kind: str, overwrite: bool, bar: Callable[[int, int], None]) -> str:
    """Type and size of what is written."""
    from gemwright.checkpoints.gguf_tower import tower_of
    from gemwright.checkpoints.gguf_writer import save_gguf
    from gemwright.looking import sees

    save_gguf(out, loaded.config, loaded.weights, loaded.tokenizer, kind, overwrite=overwrite, progress=bar)
    tower = tower_of(out) if sees(loaded.config) else None
    beside = f" and its tower {tower.name}, {tower.stat().st_size / 1e9:.2f} GB" if tower else ""
    return f"{kind}, {out.stat().st_size / 1e9:.2f} GB{beside}"


def _write_folder(out: Path, loaded: "Checkpoint", overwrite: bool, bar: Callable[[int, int], None]) -> str:
    """Type and size of what is written."""
    from gemwright.checkpoints.save import save_checkpoint

    save_checkpoint(
        out,
        loaded.config,
        loaded.weights,
        loaded.tokenizer,
        source=loaded.folder,
        overwrite=overwrite,
        progress=bar,
    )
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    return f"{loaded.weights.embedding.dtype}, {size / 1e9:.2f} GB"


def _bar(bars: "Progress", name: str) -> Callable[[int, int], None]:
    task = bars.add_task(name, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)
