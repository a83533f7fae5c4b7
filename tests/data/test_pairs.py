"""Pairs: the shapes of rows, what is learned of them, rows that are refused, and how they stand in rows."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemwright.data.example_rows import ExampleRows
from gemwright.data.example_sides import sides_of
from gemwright.data.examples import read_made
from gemwright.data.pair_rows import pair_layout, pair_size
from gemwright.data.pairs import Pair, pair_of
from gemwright.data.rows import Row
from gemwright.text.tokenizer import Tokenizer


def made(tokenizer: Tokenizer, value: Any, longest: int = 128) -> Pair:
    return pair_of(Row(Path("pairs.jsonl"), 3, value), tokenizer, longest)


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


def learned(tokenizer: Tokenizer, example: Any) -> str:
    return tokenizer.decode([i for i, yes in zip(example.ids, example.learned, strict=True) if yes]).strip()


def test_the_known_shapes_are_one_pair(tiny_tokenizer: Tokenizer) -> None:
    text = made(tiny_tokenizer, {"prompt": "import", "chosen": "json", "rejected": "class"})
    for value in (
        {"prompt": turns("import"), "chosen": "json", "rejected": turns("", "class")[1:]},
        {"chosen": turns("import", "json"), "rejected": turns("import", "class")},
        {"chosen": "\n\nHuman: import\n\nAssistant: json", "rejected": "\n\nHuman: import\n\nAssistant: class"},
    ):
        assert made(tiny_tokenizer, value) == text
    assert (text.margin, text.tie, text.place) == (0, False, "pairs.jsonl, row 3")
    assert text.chosen.ids[: text.prompt] == text.rejected.ids[: text.prompt]
    assert made(tiny_tokenizer, {"prompt": "a", "chosen": "b", "rejected": "c", "margin": 2, "tie": True}).margin == 2


def test_only_what_follows_the_prompt_is_learned(tiny_tokenizer: Tokenizer) -> None:
    """Earlier turns of the model belong to both sides."""
    shared = ["import", "json", "return"]
    pair = made(tiny_tokenizer, {"chosen": turns(*shared, "self"), "rejected": turns(*shared, "value")})
    assert [learned(tiny_tokenizer, side) for side in pair.sides] == ["self", "value"]
    later = made(tiny_tokenizer, {"chosen": turns("a", "b", "c", "d"), "rejected": turns("a", "e", "c", "f")})
    assert learned(tiny_tokenizer, later.chosen).split() == ["b", "d"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"prompt": "a", "chosen": "b"}, r"expected an object with chosen and rejected, found \['chosen', 'prompt'\]"),
        ([], "found list"),
        ({"prompt": "a", "chosen": "same", "rejected": " same "}, "chosen and rejected are equal"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "rejected: turn 2: the model's text is empty"),
        ({"prompt": "a", "chosen": turns("", "b"), "rejected": "c"}, "chosen: turn 2: the user's text is empty"),
        ({"chosen": turns("a", "b"), "rejected": turns("c", "d")}, "begin with different turns"),
        ({"chosen": turns("a", "b", "c"), "rejected": turns("a", "d")}, "chosen: turn 3 is user, and the last"),
        ({"chosen": [{"role": "boss", "content": "a"}], "rejected": "b"}, "turn 1: role must be"),
        ({"chosen": "no turns", "rejected": "b"}, "chosen: expected messages, or a text beginning with 'Human:'"),
        ({"prompt": "a", "chosen": 3, "rejected": "b"}, "chosen: expected a list of turns, found int"),
        ({"prompt": "a", "chosen": "b " * 200, "rejected": "b"}, "chosen: expected at most 128 tokens"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "margin": -1}, "margin: expected a number of 0 or more"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "tie": "no"}, "tie: expected true or false"),
    ],
)
def test_a_row_that_cannot_be_learned_from_says_why(tiny_tokenizer: Tokenizer, value: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        made(tiny_tokenizer, value)


def test_faults_name_their_rows_and_the_same_prompt_is_on_one_side(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [{"prompt": f"a{n % 10}", "chosen": f"b{n}", "rejected": f"c{n}"} for n in range(40)]
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, [*rows, {"prompt": "x"}])).encode()))

    def make(row: Row) -> Pair:
        return pair_of(row, tiny_tokenizer, 128)

    assert [str(fault)[-65:] for fault in read_made(path, make)[1]] == [
        "row 41: expected an object with chosen and rejected, found ['prompt']"[-65:]
    ]

    def key(pair: Pair) -> tuple[int, ...]:
        return tuple(pair.chosen.ids[: pair.prompt])

    sides = sides_of(path, None, make, key, share=0.3, seed=0, bad_rows=tmp_path / "bad.jsonl")
    assert len(sides.held_out) == 12
    assert not set(map(key, sides.learned)) & set(map(key, sides.held_out))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"expected a whole \.gz file, found one that is truncated"):
        read_made(path, make)


def test_batches_hold_each_pair_once_with_its_ends(tiny_tokenizer: Tokenizer) -> None:
    words = ["import", "json", "class", "return", "value", "self"]
    pairs = [made(tiny_tokenizer, {"prompt": a, "chosen": f"{b} {a}", "rejected": b}) for a in words for b in words]
    rows = ExampleRows(pairs, (128,), 512, 1, layout=pair_layout(pairs))
    assert 0.5 < rows.share_filled <= 1
    seen: list[int] = []
    for step in range(len(rows.steps)):
        batch = rows.batch(step, 4, 128)
        for row, place in zip(*np.nonzero(batch.pairs), strict=True):
            pair = pairs[batch.numbers[row, place]]
            seen.append(int(batch.numbers[row, place]))
            for side, example in enumerate(pair.sides):
                own = batch.segments[row] == 2 * place + side + 1
                assert batch.inputs[row][own].tolist() == example.ids
                assert batch.positions[row][own].tolist() == list(range(len(example.ids)))
                assert batch.weights[row][own].tolist() == [*map(int, example.learned[1:]), 0]
                assert batch.ends[row, place, side] == np.flatnonzero(own)[-1]
        assert (batch.segments > 0).sum() == sum(pair_size(pairs[n]) for n in batch.numbers[batch.pairs == 1])
    assert sorted(seen) == list(range(len(pairs)))
