"""Options that several verbs share."""

from typing import Annotated

import typer

ModelArgument = Annotated[
    str | None, typer.Argument(help="A folder, a hub name or a preset; the default model if left out.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
DType = Annotated[str | None, typer.Option(help="bfloat16 or float32; the checkpoint's own if left out.")]
CacheBits = Annotated[int | None, typer.Option(help="8 halves the memory of the text's cache.")]
Draft = Annotated[str | None, typer.Option(help="A smaller model of the same vocabulary, whose guesses save time.")]
Adapter = Annotated[str | None, typer.Option(help="Folder or hub name of a LoRA adapter, as PEFT writes it.")]
Temperature = Annotated[float, typer.Option(help="0 takes the likeliest token each time.")]
TopK = Annotated[int, typer.Option(help="Keep the k likeliest tokens; 0 keeps all.")]
TopP = Annotated[float, typer.Option(help="Keep the likeliest tokens of this total share.")]
MinP = Annotated[float, typer.Option(help="Keep tokens at least this fraction as likely as the likeliest.")]
RepetitionPenalty = Annotated[float, typer.Option(help="Above 1: tokens already used become less likely.")]
Seed = Annotated[int, typer.Option(help="Same seed, same text.")]
Stop = Annotated[list[str] | None, typer.Option(help="End the text before this string; may be repeated.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
