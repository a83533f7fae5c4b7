"""`gemwright tokenizer`: train one, compare two, look at one."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # the libraries behind these load slowly, and --help needs none of them
    from rich.table import Table

    from gemwright.text.compare import Comparison

app = typer.Typer(name="tokenizer", help="Train a tokenizer, compare two, show what one does.", no_args_is_help=True)

_TokenizerPath = Annotated[Path, typer.Argument(help="tokenizer.model, tokenizer.json or a folder with one.")]


@app.command()
def train(
    inputs: Annotated[list[Path], typer.Argument(help="Text files, JSON lines files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for tokenizer.model; made if missing.")],
    vocab_size: Annotated[int, typer.Option(help="Pieces in all, at least 600.")] = 32000,
    character_coverage: Annotated[float, typer.Option(help="Share of characters with a piece of their own.")] = 0.9995,
) -> None:
    """Learn a tokenizer with Gemma's settings from text (documents held out are left out)."""
    from rich.console import Console

    from gemwright.text.tokenizer import Tokenizer
    from gemwright.text.training import train_tokenizer

    target = out / "tokenizer.model"
    if target.exists():
        raise FileExistsError(f"{target} is there already; choose another --out or remove it first")
    with Console(stderr=True).status("reading") as status:
        texts = _counted(_texts(inputs), lambda n: status.update(f"{n} documents read, learning {vocab_size} pieces"))
        data = train_tokenizer(texts, vocab_size, character_coverage=character_coverage)
    tokenizer = Tokenizer.from_bytes(data)
    tokenizer.save(out)
    typer.echo(f"{target}: {tokenizer.vocab_size} pieces, SHA-256 {tokenizer.fingerprint}")


@app.command()
def compare(
    a: _TokenizerPath,
    b: _TokenizerPath,
    files: Annotated[list[Path], typer.Option("--files", help="Text files or folders, one language a file.")],
    more: Annotated[list[Path] | None, typer.Argument(hidden=True)] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw bytes per token into this image.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Count tokens, bytes per token and the relative cost B/A by language."""
    from rich.console import Console

    from gemwright.text.compare import compare_tokenizers, plot_comparison, total
    from gemwright.text.tokenizer import load_tokenizer

    # --files takes one value; those that follow it, as a shell writes them out, arrive as arguments
    rows = compare_tokenizers(load_tokenizer(a), load_tokenizer(b), [*files, *(more or ())])
    if plot is not None:
        plot_comparison(rows, (str(a), str(b)), plot)
    if as_json:
        typer.echo(json.dumps([row.to_json() for row in (*rows, total(rows))], indent=2))
    else:
        Console().print(_comparison_table([*rows, total(rows)], f"A = {a}, B = {b}"))


@app.command()
def encode(tokenizer: _TokenizerPath, text: Annotated[str, typer.Argument(help="Text to cut into pieces.")]) -> None:
    """Show the ids and pieces of a text."""
    from rich.console import Console

    from gemwright.text.show import piece_table
    from gemwright.text.tokenizer import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    Console().print(piece_table(loaded, loaded.encode(text)))


def _texts(inputs: list[Path]) -> Iterator[str]:
    from gemwright.data.documents import ROWS, read_folder, read_json_lines

    for path in inputs:
        if path.is_dir():
            documents = read_folder(path)
        elif path.name.endswith(ROWS):
            documents = read_json_lines(path)
        else:
            yield _read_text(path)
            continue
        yield from (document.text for document in documents if document.split == "train")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, found another encoding at byte {error.start}") from None


def _counted(texts: Iterable[str], report: Callable[[int], None]) -> Iterator[str]:
    for number, text in enumerate(texts, 1):
        report(number)
        yield text


def _comparison_table(rows: "list[Comparison]", caption: str) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, caption=Text(caption), caption_justify="left")
    table.add_column("language")
    for name in ("bytes", "tokens A", "tokens B", "bytes/token A", "bytes/token B", "cost B/A"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = (f"{n:,}" for n in (row.bytes, row.tokens_a, row.tokens_b))
        ratios = (f"{n:.2f}" for n in (row.bytes_per_token_a, row.bytes_per_token_b, row.relative_cost))
        table.add_row(Text(row.language), *counts, *ratios)
    return table
