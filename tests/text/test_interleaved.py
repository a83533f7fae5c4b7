"""Texts with pictures between them: the layout, its words around crops, and what a text can never write."""

from pathlib import Path

import pytest

from gemwright.text.chat import ChatError, Message, format_chat, message_of
from gemwright.text.interleaved import format_interleaved
from gemwright.text.prompt import Picture
from gemwright.text.show import token_table
from gemwright.text.tokenizer import Tokenizer

ONE, OTHER, CROPPED = Picture((-5,), 3), Picture((-6,), 3), Picture((-7, -8, -9), 2)


def written(tokenizer: Tokenizer, ids: list[int]) -> str:
    """With the pieces around pictures, and a star for each soft token."""
    return "".join("*" if i < 0 else tokenizer.decode([i], skip_control=False) for i in ids)


def test_pictures_stand_where_the_text_shows_them(seeing_tokenizer: Tokenizer) -> None:
    prompt = format_interleaved(seeing_tokenizer, ["What is ", ONE, " and ", OTHER, "?"])
    assert written(seeing_tokenizer, prompt.ids) == (
        "<bos>What is \n\n<start_of_image>***<end_of_image>\n\n and \n\n<start_of_image>***<end_of_image>\n\n?"
    )
    assert [i for i in prompt.ids if i < 0] == [-5] * 3 + [-6] * 3
    assert [part for i, part in zip(prompt.ids, prompt.parts, strict=True) if i < 0] == ["picture"] * 6


def test_a_picture_in_crops_is_said_to_be_one(seeing_tokenizer: Tokenizer) -> None:
    around = "\n\n<start_of_image>**<end_of_image>\n\n"
    assert written(seeing_tokenizer, format_interleaved(seeing_tokenizer, [CROPPED, "Read it."]).ids) == (
        f"<bos>Here is the original image {around} and here are some crops to help you see better "
        f"{around} {around}Read it."
    )


def test_what_stands_between_pictures_is_one_text(seeing_tokenizer: Tokenizer) -> None:
    """Newlines of the layout and of the text become the pieces that they make together."""
    ids = format_interleaved(seeing_tokenizer, [ONE, "\nyes\n", OTHER]).ids
    between = ids[ids.index(-5) + 4 : ids.index(-6) - 1]
    assert between == seeing_tokenizer.encode("\n\n\nyes\n\n\n")


def test_a_turn_trims_every_text_and_keeps_the_order(seeing_tokenizer: Tokenizer) -> None:
    messages = [Message("system", "Be brief."), Message("user", ["  first ", ONE, " then ", OTHER, "\n"])]
    assert written(seeing_tokenizer, format_chat(seeing_tokenizer, messages).ids) == (
        "<bos><start_of_turn>user\nBe brief.\n\nfirst\n\n<start_of_image>***<end_of_image>\n\nthen"
        "\n\n<start_of_image>***<end_of_image>\n\n<end_of_turn>\n<start_of_turn>model\n"
    )


def test_text_cannot_show_a_picture(seeing_tokenizer: Tokenizer) -> None:
    ids = format_interleaved(seeing_tokenizer, ["<start_of_image>", ONE, "<end_of_image>"]).ids
    assert [ids.count(seeing_tokenizer.id(piece)) for piece in ("<start_of_image>", "<end_of_image>")] == [1, 1]


def test_a_vocabulary_without_the_pieces_is_named(tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="'<start_of_image>' is not in this vocabulary"):
        format_interleaved(tiny_tokenizer, [ONE])


def test_a_picture_takes_one_line_of_a_table(seeing_tokenizer: Tokenizer) -> None:
    table = token_table(seeing_tokenizer, format_interleaved(seeing_tokenizer, ["a", ONE, ONE]))
    cells = [str(cell) for cell in table.columns[2].cells]
    assert [cell for cell in cells if "soft" in cell] == ["its soft tokens"] * 2


# ---------------------------------------------------------------------------------------- messages


def test_parts_as_others_write_them_are_texts_and_pictures() -> None:
    parts = [
        {"type": "text", "text": "What is "},
        {"type": "image", "path": "cat.jpg"},
        {"type": "image", "image": b"bytes"},
        "?",
    ]
    assert message_of({"role": "user", "content": parts}) == Message(
        "user", ("What is ", Path("cat.jpg"), b"bytes", "?")
    )
    assert message_of({"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}).content == "A cat."


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "user"}, "needs role and content"),
        ({"role": "user", "content": [{"type": "video", "path": "a.mp4"}]}, "expected a part of type text"),
        ({"role": "user", "content": [{"type": "text"}]}, "expected a part of type text"),
        ({"role": "user", "content": []}, "texts and pictures, found an empty list"),
        ({"role": "model", "content": [b"picture"]}, "content of a model message must be text, found list"),
        ({"role": "system", "content": ["a", b"picture"]}, "content of a system message must be text"),
    ],
)
def test_a_message_that_cannot_be_is_refused(message: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        message_of(message)


def test_a_picture_that_nobody_looked_at_is_refused(seeing_tokenizer: Tokenizer) -> None:
    with pytest.raises(ChatError, match="pictures that are looked at already, found bytes"):
        format_chat(seeing_tokenizer, [Message("user", [b"bytes"])])
