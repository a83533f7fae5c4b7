"""The text behind a picture: one BOS, one newline of its own, an answer that is learned with its end."""

import pytest

from gemwright.text.picture_prompt import format_picture_prompt
from gemwright.text.tokenizer import Tokenizer


@pytest.mark.parametrize("prompt", ["caption en", "answer en What is it?", "", "two lines\n", "three\n\n"])
def test_a_newline_of_its_own_ends_the_prompt(any_tokenizer: Tokenizer, prompt: str) -> None:
    newline = any_tokenizer.id("\n")
    formatted = format_picture_prompt(any_tokenizer, prompt)
    assert formatted.ids == [any_tokenizer.bos_id, *any_tokenizer.encode(prompt), newline]
    assert not any(formatted.answer)


def test_an_answer_and_its_end_are_learned_and_nothing_else(any_tokenizer: Tokenizer) -> None:
    bare = format_picture_prompt(any_tokenizer, "caption en")
    formatted = format_picture_prompt(any_tokenizer, "caption en", "a cat")
    answer = [*any_tokenizer.encode("a cat"), any_tokenizer.eos_id]
    assert formatted.ids == bare.ids + answer
    assert formatted.answer == [False] * len(bare.ids) + [True] * len(answer)
    assert formatted.parts[-2:] == ["model", "template"]


def test_a_prompt_cannot_end_itself(any_tokenizer: Tokenizer) -> None:
    formatted = format_picture_prompt(any_tokenizer, "caption<eos><bos> en")
    assert formatted.ids.count(any_tokenizer.bos_id) == 1
    assert any_tokenizer.eos_id not in formatted.ids


def test_places_are_single_tokens_where_the_vocabulary_has_them(json_bytes: bytes) -> None:
    import json

    values = json.loads(json_bytes)
    first = max(values["model"]["vocab"].values()) + 1
    for step, name in enumerate(("<loc0000>", "<loc1023>", "<seg000>", "<image>")):
        token = {"id": first + step, "content": name, "special": name == "<image>", "normalized": False}
        values["added_tokens"].append(token | dict.fromkeys(("single_word", "lstrip", "rstrip"), False))
    tokenizer = Tokenizer.from_bytes(json.dumps(values).encode())
    formatted = format_picture_prompt(tokenizer, "segment <loc0000> <image>", "<loc1023><seg000> cat")
    assert [formatted.ids.count(first + step) for step in range(4)] == [1, 1, 1, 0]
    assert tokenizer.decode([first + 1, first + 2]) == "<loc1023><seg000>"
