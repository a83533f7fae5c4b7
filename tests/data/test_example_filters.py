"""Rows written by models: what is dropped and why, and generated manners that teach both cases."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from gemwright.data.behaviours import Kind, behaviours
from gemwright.data.example_filters import Wanted, filter_rows
from gemwright.data.pairs import pair_of
from gemwright.data.personal.redact import Personal
from gemwright.data.rows import Row
from gemwright.data.rules.blocked import BlockList, SelfIdentification
from gemwright.text.tokenizer import Tokenizer

WANTED = Wanted([Personal("drop", "drop")], [SelfIdentification(("gemwright",)), BlockList(("forbidden",))])


def rows(*values: Any) -> list[Row]:
    return [Row(Path("rows.jsonl"), number, value) for number, value in enumerate(values, 1)]


def test_each_fault_is_told_and_the_rest_stays_as_it_is() -> None:
    good = {
        "prompt": "What is the tallest animal of the world?",
        "completion": "The giraffe is the tallest one.",
        "x": 1,
    }
    turns = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I'm Claude, made by them."}]
    found = rows(
        good,
        {"prompt": "My card is 4111 1111 1111 1111, is it fine?", "completion": "It is."},
        {"messages": turns},
        {"prompt": "Say a word", "chosen": "nothing", "rejected": "the Forbidden one"},
        {"prompt": "What is the tallest animal of the world?", "completion": "The giraffe is the tallest one."},
        {"text": "no conversation"},
        {"prompt": "the forbidden word", "completion": "I know it not."},
    )
    kept, gone = filter_rows(found, WANTED)
    assert [row.number for row in kept] == [1, 7]
    assert kept[0].value is good
    reasons = {fault.row.number: fault.reason for fault in gone}
    assert reasons[2] == "personal:card number"
    assert reasons[3] == "self_identification:speaks of itself as a model"
    assert reasons[4] == "block_list:phrase"
    assert reasons[5] == "near duplicate"
    assert "expected messages" in reasons[6]


def test_exact_repeats_alone_or_none() -> None:
    same = {"prompt": "one two three four five", "completion": "six seven eight nine ten"}
    other = {**same, "completion": "six seven eight nine eleven"}
    found = rows(same, dict(same), other)
    assert len(filter_rows(found, Wanted(repeats="exact"))[0]) == 2
    assert len(filter_rows(found, Wanted(repeats="none"))[0]) == 3


@pytest.mark.parametrize("kind", ["attribution", "hedging", "refusal"])
def test_generated_rows_are_pairs_of_both_cases(kind: Kind, tiny_tokenizer: Tokenizer) -> None:
    found = list(islice(behaviours((kind,), 0), 120))
    assert found == list(islice(behaviours((kind,), 0), 120))
    for number, one in enumerate(found):
        pair_of(Row(Path("x"), number, one.as_pair()), tiny_tokenizer, 2000)
    assert all("{" not in text for one in found for text in one.as_pair().values())
    marks = {"attribution": "do not say", "hedging": "can", "refusal": "won't"}
    share = sum(marks[kind] in one.chosen for one in found) / len(found)
    assert 0.1 < share < 0.9
    assert len({one.prompt for one in found}) > 60


def test_an_attributed_answer_names_the_passage_that_holds_it() -> None:
    for one in islice(behaviours(("attribution",), 1), 100):
        if one.chosen != "The passages do not say.":
            number = one.chosen.split("[")[1][0]
            assert f"[{number}] {one.chosen.split(' [')[0]}." in one.prompt
