"""`gemwright data examples` and `behaviours`: rows to tune on, filtered and generated."""

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gemwright.cli.data_summary import Json, Output, check_output, show


class RepeatsName(StrEnum):
    """Which rows that come again go."""

    NEAR = "near"
    EXACT = "exact"
    NONE = "none"


def examples(
    data: Annotated[Path, typer.Argument(help="Conversations or pairs: JSON lines, JSON, Parquet or a folder.")],
    output: Output,
    personal: Annotated[bool, typer.Option(help="Drop rows with personal data.")] = True,
    own_name: Annotated[list[str] | None, typer.Option(help="What the model may call itself; repeatable.")] = None,
    block: Annotated[Path | None, typer.Option(help="Words and phrases, one a line; answers with one go.")] = None,
    unsafe: Annotated[
        Path | None, typer.Option(help="Model of `gemwright data learn`: high scores are unsafe.")
    ] = None,
    most_unsafe: Annotated[float, typer.Option(help="Answers that score higher go.")] = 0.5,
    repeats: Annotated[RepeatsName, typer.Option(help="Rows that come again, nearly or exactly.")] = RepeatsName.NEAR,
    as_json: Json = False,
) -> None:
    """Drop examples and pairs with personal data, unsafe answers, a wrong self or repeats."""
    from collections import Counter

    from gemwright.data.example_filters import Wanted, filter_rows, line_of
    from gemwright.data.examples import write_faults
    from gemwright.data.personal.redact import Personal
    from gemwright.data.rows import data_files, read_rows
    from gemwright.data.rules.blocked import BlockList, SelfIdentification, read_phrases
    from gemwright.data.rules.learned import Learned

    check_output(output, data_files(data))
    words = read_phrases(block) if block else ()
    answers = [
        SelfIdentification(tuple(name.lower() for name in own_name or [])),
        *([BlockList(words)] if words else []),
        *([Learned(str(unsafe), "above", most_unsafe, name="unsafe")] if unsafe else []),
    ]
    everywhere = [Personal("drop", "drop")] if personal else []
    kept, gone = filter_rows(list(read_rows(data)), Wanted(everywhere, answers, repeats.value))
    _write(output, map(line_of, kept))
    write_faults(gone, output.with_name(output.name + ".quarantine.jsonl"))
    reasons = Counter(fault.reason for fault in gone)
    dropped = dict(reasons.most_common())
    show({"in": len(kept) + len(gone), "dropped": dropped, "quarantined": {}, "kept": len(kept), "counts": {}}, as_json)


def write_behaviours(
    output: Output,
    kinds: Annotated[str, typer.Option(help="Any of these, with commas between.")] = "attribution,hedging,refusal",
    count: Annotated[int, typer.Option(min=1, help="Rows.")] = 300,
    pairs: Annotated[bool, typer.Option(help="Pairs, for reward and dpo; else examples, for sft.")] = True,
    seed: Annotated[int, typer.Option(help="Same seed, same rows.")] = 0,
) -> None:
    """Write examples of naming sources, of saying what cannot be known, and of declining."""
    from itertools import islice
    from typing import get_args

    from gemwright.data.behaviours import Kind, behaviours

    named = tuple(name.strip() for name in kinds.split(",") if name.strip())
    if not named or not set(named) <= set(get_args(Kind)):
        raise ValueError(f"--kinds: expected some of {', '.join(get_args(Kind))}, found {kinds!r}")
    chosen: Any = named
    rows = islice(behaviours(chosen, seed), count)
    _write(output, (json.dumps(row.as_pair() if pairs else row.as_example()) + "\n" for row in rows))
    typer.echo(f"{output}: {count} rows of {', '.join(named)}")


def _write(output: Path, lines: Iterable[str]) -> None:
    """Whole or not at all; compressed if the name ends in .gz or .zst."""
    from gemwright.data.pipeline.export import open_lines
    from gemwright.data.pipeline.shards import write_whole

    def write(partial: Path) -> None:
        with open_lines(partial, output.suffix) as file:
            for line in lines:
                file.write(line.encode())

    write_whole(output, write)
