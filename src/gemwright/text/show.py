"""What a model is really given: ids, pieces and their origin, as a table; and what it learns of them."""

import itertools
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from gemwright.text.prompt import FormattedPrompt, Part
from gemwright.text.tokenizer import Tokenizer

_STYLES: dict[Part, str] = {
    "template": "dim",
    "system": "magenta",
    "user": "cyan",
    "model": "green",
    "code": "cyan",
    "picture": "yellow",
}


def token_table(tokenizer: Tokenizer, prompt: FormattedPrompt) -> Table:
    """One line a token: position, id, piece and which part wrote it; one line for all of a picture."""
    table, before = _table("part"), 0
    for position, (i, part) in enumerate(zip(prompt.ids, prompt.parts, strict=True)):
        if i >= 0:
            table.add_row(str(position), str(i), visible_piece(tokenizer, i), part, style=_STYLES[part])
        elif i != before:
            table.add_row(str(position), "", "its soft tokens", part, style=_STYLES[part])
        before = i
    return table


def piece_table(tokenizer: Tokenizer, ids: Sequence[int]) -> Table:
    """One line a token: position, id and piece."""
    table = _table()
    for position, i in enumerate(ids):
        table.add_row(str(position), str(i), visible_piece(tokenizer, i))
    return table


def visible_piece(tokenizer: Tokenizer, i: int) -> Text:
    """A piece with line breaks and other invisible characters escaped; never read as markup."""
    return Text(repr(tokenizer.piece(i))[1:-1])


def _table(*more: str) -> Table:
    table = Table("position", "id", "piece", *more, box=None, pad_edge=False)
    for column in table.columns[:2]:
        column.justify = "right"
    return table


def learned_text(tokenizer: Tokenizer, ids: Sequence[int], learned: Sequence[bool], *, marked: bool) -> Text:
    """What a model reads, with what it learns in green; `marked` puts it in brackets too, where nothing is coloured."""
    text = Text()
    for is_learned, run in itertools.groupby(zip(ids, learned, strict=True), key=lambda one: one[1]):
        part = tokenizer.decode([i for i, _ in run], skip_control=False)
        if is_learned:
            text.append(f"\u27e6{part}\u27e7" if marked else part, style="bold green")
        else:
            text.append(part, style="dim")
    return text
