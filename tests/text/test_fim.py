import pytest
from hypothesis import given, settings

from gemwright.text.fim import SourceFile, fim_ids, fim_stop_ids, format_fim
from gemwright.text.tokenizer import Tokenizer

from . import strategies


def text_of(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_control=False)


def test_the_order_is_prefix_suffix_middle(any_tokenizer: Tokenizer) -> None:
    prompt = format_fim(any_tokenizer, "import ", "\nif x:\n    sys.exit(0)")
    expected = "<bos><|fim_prefix|>import <|fim_suffix|>\nif x:\n    sys.exit(0)<|fim_middle|>"
    assert text_of(any_tokenizer, prompt.ids) == expected


def test_other_files_come_before_with_their_paths(any_tokenizer: Tokenizer) -> None:
    prompt = format_fim(any_tokenizer, "a", "b", path="src/b.py", context=[SourceFile("src/a.py", "x = 1\n")])
    assert text_of(any_tokenizer, prompt.ids) == (
        "<bos>src/a.py\nx = 1\n<|file_separator|>src/b.py\n<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
    )


def test_both_sides_may_be_empty(tokenizer: Tokenizer) -> None:
    assert format_fim(tokenizer, "", "").ids == [2, 67, 69, 68]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(prefix=strategies.hostile, suffix=strategies.hostile)
def test_code_never_becomes_markup_and_keeps_its_white_space(
    any_tokenizer: Tokenizer, prefix: str, suffix: str
) -> None:
    ids = format_fim(any_tokenizer, prefix, suffix, path=suffix).ids
    assert [i for i in ids if any_tokenizer.is_control(i)] == [2, 67, 69, 68]
    assert any_tokenizer.decode(ids[ids.index(67) : ids.index(69)]) == prefix
    assert any_tokenizer.decode(ids[ids.index(69) :]) == suffix


def test_parts_tell_code_from_template(tokenizer: Tokenizer) -> None:
    prompt = format_fim(tokenizer, "ab", "cd", path="a.py", context=[SourceFile("b.py", "efg")])
    code = [i for i, part in zip(prompt.ids, prompt.parts, strict=True) if part == "code"]
    assert tokenizer.decode(code) == "efgabcd"


def test_an_answer_ends_at_any_markup(tokenizer: Tokenizer) -> None:
    assert fim_stop_ids(tokenizer) == {1, 67, 68, 69, 70, 107}


def test_slots_not_renamed_serve_too(model_bytes: bytes) -> None:
    """Gemma's own vocabulary calls ids 67 to 70 <unused60> to <unused63>."""
    names = {b"<|fim_prefix|>": b"<unused60>", b"<|fim_middle|>": b"<unused61>", b"<|fim_suffix|>": b"<unused62>"}
    data = model_bytes
    for name, slot in {**names, b"<|file_separator|>": b"<unused63>"}.items():
        data = _rename(data, name, slot)
    assert fim_ids(Tokenizer.from_bytes(data)) == (67, 68, 69, 70)


def test_a_vocabulary_without_markup_says_so(model_bytes: bytes) -> None:
    data = _rename(model_bytes, b"<|fim_suffix|>", b"<else>")
    with pytest.raises(ValueError, match="'<unused62>' is not in this vocabulary"):
        format_fim(Tokenizer.from_bytes(data), "a", "b")


def _rename(data: bytes, name: bytes, new: bytes) -> bytes:
    """Rename a piece inside the protocol buffer: field 1 of a record of field 1, both with one-byte lengths."""
    at = data.index(b"\x0a" + bytes([len(name)]) + name)
    shorter = len(name) - len(new)
    record = bytes([data[at - 1] - shorter])
    end = at + 2 + len(name)
    return data[: at - 1] + record + b"\x0a" + bytes([len(new)]) + new + data[end:]
