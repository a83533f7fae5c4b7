"""`gemwright quantize`: a model with weights of 4 or 8 bits, packed for the CPU, and what that costs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemwright.cli import options, strict_json

if TYPE_CHECKING:  # loads slowly, and --help does not need it
    from gemwright.checkpoints.load import Checkpoint
    from gemwright.data.documents import Split
    from gemwright.quantisation.compare import Comparison
    from gemwright.quantisation.quantised import Quantised

_ROW = 512  # tokens read at once, or the model's whole context if that is less


def quantize(
    model: Annotated[str, typer.Argument(help="Folder, GGUF file or hub name; `default` is the small model.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    bits: Annotated[int, typer.Option(help="4 or 8.")] = 4,
    bits_per_weight: Annotated[
        float | None, typer.Option(help="4.5 to 8.5, scales included: 8 bits where 4 cost most.")
    ] = None,
    text: Annotated[Path | None, typer.Option(help="To measure on; Python's own texts if left out.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="To calibrate on; Python's own texts if left out.")] = None,
    tokens: Annotated[int, typer.Option(help="Of each text, at most.", min=2)] = 4096,
    max_perplexity_rise: Annotated[float, typer.Option(help="Percent; above it nothing is written.")] = 5.0,
    force: Annotated[bool, typer.Option("--force", help="Write it all the same.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the checkpoint in OUT.")] = False,
    revision: options.Revision = None,
    as_json: options.AsJson = False,
) -> None:
    """Quantise a model, report the errors and what they do to its guesses, and write it as a folder that loads."""
    from gemwright.checkpoints.folders import check_target
    from gemwright.checkpoints.packed_writer import save_packed
    from gemwright.quantisation.quantised import check_bits

    check_target(out, overwrite)
    check_bits(bits, bits_per_weight, calibrated=True)
    loaded = _load(model, revision)
    calibration_rows = _rows(loaded, calibration, tokens, "train")
    measured_rows = _rows(loaded, text, tokens, "heldout")
    found, measured = _quantise(loaded, bits, bits_per_weight, calibration_rows, measured_rows)
    read = str(text) if text else _python()
    if as_json:
        print(strict_json.dumps({"text": read, **found.to_json(), "measured": measured and measured.to_json()}))
    else:
        _show(found, measured, read)
    if not force:
        _check(measured, max_perplexity_rise)
    save_packed(out, loaded.config, found.weights, loaded.tokenizer, source=loaded.folder, overwrite=overwrite)
    if not as_json:
        print(f"{out}: written; gemwright chat {out}")


def _load(model: str, revision: str | None) -> "Checkpoint":
    from gemwright.checkpoints.hf_config import is_packed
    from gemwright.checkpoints.hub import resolve
    from gemwright.checkpoints.load import load_checkpoint
    from gemwright.model import DEFAULT_MODEL

    folder = DEFAULT_MODEL if model == "default" else resolve(model, revision=revision)
    if is_packed(folder):
        raise ValueError(f"{folder}: expected dense weights, found packed ones; take the model they were made from")
    return load_checkpoint(folder)


def _rows(loaded: "Checkpoint", path: Path | None, tokens: int, split: "Split") -> Any:
    """Token ids of a text; None for a model without a tokenizer."""
    from gemwright.quantisation.texts import python_texts, windows

    if loaded.tokenizer is None:
        return None
    try:
        texts = [path.read_text(encoding="utf-8")] if path else python_texts(split)
        return windows(texts, loaded.tokenizer, tokens, min(_ROW, tokens, loaded.config.max_positions))
    except ValueError as error:
        raise ValueError(f"{path or _python()}: {error}") from None


def _quantise(
    loaded: "Checkpoint", bits: int, bits_per_weight: float | None, calibration: Any, rows: Any
) -> "tuple[Quantised, Comparison | None]":
    """The quantised model, and how it reads the text, with a bar for each stage."""
    from rich.console import Console
    from rich.progress import Progress

    from gemwright.quantisation.compare import compare
    from gemwright.quantisation.quantised import quantise_model

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:

        def stage(name: str) -> Callable[[int, int], None]:
            task = bars.add_task(name, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        found = quantise_model(loaded.config, loaded.weights, bits, stage, calibration, bits_per_weight)
        if rows is None:
            return found, None
        return found, compare(loaded.weights, found.weights, loaded.config, rows, stage("measuring"))


def _show(found: "Quantised", measured: "Comparison | None", text: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("weight", "bits", "shape", "MB", "error")
    for name, matrix in found.matrices.items():
        shape = " x ".join(f"{size:,}" for size in matrix.shape)
        table.add_row(name, str(matrix.bits), shape, f"{matrix.bytes / 1e6:,.2f}", f"{matrix.error:.3%}")
    table.add_section()
    table.add_row("all", f"{found.bits_per_weight:.2f}", "", f"{found.bytes / 1e6:,.2f}", f"{found.error:.3%}")
    console = Console()
    console.print(table)
    if measured is None:
        return
    lines = Table("on the text", f"{text}, {measured.tokens:,} tokens")
    lines.add_row("perplexity", f"{measured.perplexity:.4f}")
    lines.add_row("quantised", f"{measured.other_perplexity:.4f} ({measured.rise:+.2%})")
    lines.add_row("KL divergence", f"{measured.divergence:.6f} nats a token")
    lines.add_row("same likeliest token", f"{measured.agreement:.2%}")
    console.print(lines)


def _check(measured: "Comparison | None", limit: float) -> None:
    """Raises ValueError if the model lost too much, or nobody can tell."""
    if measured is None:
        raise ValueError("the model has no tokenizer with which a text could be read; --force writes it unmeasured")
    if not 100 * measured.rise <= limit:  # also if it is not a number
        raise ValueError(
            f"perplexity rises by {100 * measured.rise:.2f}%, more than {limit:g}%: nothing was written; take more "
            "bits (--bits 8, --bits-per-weight), allow it (--max-perplexity-rise), or --force"
        )


def _python() -> str:
    from gemwright.quantisation.texts import PYTHON

    return PYTHON
