import io

from rich.console import Console
from rich.table import Table

from gemwright.text.chat import Message, format_chat
from gemwright.text.show import piece_table, token_table
from gemwright.text.tokenizer import Tokenizer


def printed(table: Table) -> list[list[str]]:
    output = io.StringIO()
    Console(file=output, width=200).print(table)
    return [line.split() for line in output.getvalue().splitlines()[1:]]


def test_the_table_shows_ids_pieces_and_the_template(tokenizer: Tokenizer) -> None:
    prompt = format_chat(tokenizer, [Message("user", "7")])
    seven = tokenizer.id("7")
    rows = printed(token_table(tokenizer, prompt))
    assert [int(row[1]) for row in rows] == prompt.ids
    assert rows[0] == ["0", "2", "<bos>", "template"]
    assert [row for row in rows if row[-1] == "user"] == [[str(prompt.ids.index(seven)), str(seven), "7", "user"]]


def test_line_breaks_are_escaped_and_brackets_are_no_markup(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.id("\n\n"), tokenizer.id("[@BOS@]")]
    assert [row[2] for row in printed(piece_table(tokenizer, ids))] == ["\\n\\n", "[@BOS@]"]
