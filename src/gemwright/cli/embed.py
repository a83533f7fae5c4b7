"""`gemwright embed`: texts as vectors."""

import json
from typing import Annotated

import typer

from gemwright.cli import options
from gemwright.cli.piped import piped_text


def embed(
    model: Annotated[str, typer.Argument(help="An EmbeddingGemma: a folder or a hub name.")] = "embeddinggemma-300m",
    text: Annotated[
        list[str] | None, typer.Option(help="May be repeated; else each line of standard input is a text.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="query, document, or another prompt of the model's.")] = None,
    size: Annotated[int | None, typer.Option(help="Of the vectors: 768, 512, 256 or 128.")] = None,
    dtype: options.DType = None,
    revision: options.Revision = None,
) -> None:
    """Print one JSON list of numbers a text, of length 1: the product of two says how alike the texts are."""
    texts = text or _lines()
    from gemwright.embedding import load_embedder  # after the arguments are checked: it brings JAX

    for vector in load_embedder(model, dtype=dtype, revision=revision).embed(texts, task, size):
        print(json.dumps([round(float(number), 7) for number in vector]))


def _lines() -> list[str]:
    """Only a newline ends a text: others, such as U+2028, may stand in it, and a vector each is expected."""
    return piped_text("nothing to embed: give --text, or texts on standard input").removesuffix("\n").split("\n")
