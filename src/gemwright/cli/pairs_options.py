"""Options of the verbs that learn from pairs."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="Folder or hub name of a tuned model; `default` is the small one.")]
Pairs = Annotated[Path, typer.Argument(help="JSON lines, JSON, Parquet or a folder: prompt, chosen, rejected.")]
Epochs = Annotated[int, typer.Option(min=1, help="How often each pair is read.")]
Rate = Annotated[float | None, typer.Option(help="Highest learning rate; by the model's width if left out.")]
Length = Annotated[int | None, typer.Option(help="Of rows, in tokens; one that the longest pair fits if left out.")]
BatchTokens = Annotated[int | None, typer.Option(help="Tokens of a step; 4096, or fewer for little data.")]
EvalFile = Annotated[Path | None, typer.Option("--eval", help="Pairs to measure on.")]
HeldOut = Annotated[float, typer.Option(help="Without --eval: share of the pairs to measure on.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out; they go to OUT.bad.jsonl.")]
SaveEvery = Annotated[int, typer.Option(min=1, help="Steps between saved states.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what OUT holds.")]
Lora = Annotated[int, typer.Option(help="Rank of LoRA; left out, all weights are trained.")]
Dora = Annotated[bool, typer.Option("--dora", help="With --lora: DoRA.")]
Bits = Annotated[int | None, typer.Option(help="With --lora: 4 or 8 of the base (QLoRA).")]
Targets = Annotated[list[str] | None, typer.Option(help="With --lora: weights, as `*.attention.*`.")]
