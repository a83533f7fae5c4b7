"""Rows of data files as examples: every shape, and every way in which one can be wrong."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.data.examples import ExamplesError, check_faults, messages_of, read_examples, write_faults
from gemwright.data.rows import read_rows
from gemwright.text.chat import ChatError, Message
from gemwright.text.tokenizer import Tokenizer

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
SHARE_GPT = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}
PAIR = {"prompt": "Hi", "completion": "Hello!"}
LISTS = {"prompt": CHAT["messages"][:1], "completion": CHAT["messages"][1:]}
WANTED = [Message("user", "Hi"), Message("model", "Hello!")]


def turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


@pytest.mark.parametrize("row", [CHAT, SHARE_GPT, PAIR, LISTS, {**CHAT, "id": 7}])
def test_every_shape_is_the_same_conversation(row: dict[str, Any]) -> None:
    assert messages_of(row) == WANTED


def test_a_system_turn_stands_first_in_the_users(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "system", "content": "Be brief."}, *CHAT["messages"]]}))
    (example,), bad = read_examples(file, tiny_tokenizer, 128)
    assert (bad, example.row, example.file) == ([], 1, file)
    assert "user\nBe brief.\n\nHi" in tiny_tokenizer.decode(example.ids)
    learned = [i for i, one in zip(example.ids, example.learned, strict=True) if one]
    assert tiny_tokenizer.decode(learned, skip_control=False) == "Hello!<end_of_turn>\n"


WRONG = {
    "messages": "expected an object with messages, found str",
    "[1]": None,
    '{"content": "x"}': "found the keys ['content']",
    '{"text": "  "}': "text: expected a document, found '  '",
    '{"text": ["x"]}': "text: expected a document, found ['x']",
    '{"text": "\\ud800"}': "text: half a surrogate pair",
    '{"messages": "x"}': "messages: expected a list of turns, found str",
    '{"messages": []}': "a conversation needs a user message, found none",
    '{"messages": [3]}': "turn 1: expected an object, found int",
    '{"messages": [{"role": "user"}]}': "turn 1: a message needs role and content, found ['role']",
    '{"messages": [{"role": ["user"], "content": "x"}]}': "turn 1: role must be a text",
    '{"messages": [{"role": "user", "content": 3}]}': "turn 1: content of a user message must be text",
    '{"messages": [{"role": "tool", "content": "x"}]}': "turn 1: role must be system, user or model",
    '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": null}]}': "turn 2: a message",
    '{"messages": [{"role": "user", "content": "x"}, {"role": "model", "content": "y", "weight": 0}]}': "weight 0",
    '{"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}]}': "turn 1: expected text",
    '{"conversations": [{"from": "bot", "value": "x"}]}': "turn 1: from must be system, human or gpt, found 'bot'",
    '{"conversations": [{"from": "human"}]}': "turn 1: a turn needs from and value",
    '{"prompt": "x", "completion": "  "}': "turn 2: the model's text is empty",
    '{"prompt": "x", "completion": 3}': "completion: expected a list of turns, found int",
    '{"prompt": "\\ud800", "completion": "x"}': "turn 1: half a surrogate pair",
    json.dumps(turns("user")): "turn 1 is user, and the last: expected the model's answer",
    json.dumps(turns("user", "user", "model")): "turn 2 is user: expected model",
    json.dumps(turns("model")): "turn 1 is model: expected user",
    json.dumps(turns("user", "system", "model")): "turn 2 is system",
    json.dumps({"prompt": "import json " * 90, "completion": "x"}): "expected at most 128 tokens, found",
    '{"prompt": "x"': "expected one JSON object a line, found an error at character",
    "[" * 100_000: "found what no reader takes",
}


@pytest.mark.parametrize(("text", "reason"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_wrong_is_named_with_its_row(
    text: str, reason: str | None, tmp_path: Path, tiny_tokenizer: Tokenizer
) -> None:
    """A good row stands before and after it, so that the number is its own, and one bad row spoils no other."""
    text = json.dumps(text) if text == "messages" else text
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join([json.dumps(CHAT), "", text, json.dumps(PAIR)]))
    good, bad = read_examples(file, tiny_tokenizer, 128)
    assert [example.row for example in good] == [1, 4]
    assert str(bad[0]).startswith(f"{file}, row 3: {'' if reason else 'expected an object'}")
    assert (reason or "found list") in bad[0].reason


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"prompt": "x", "completion": "y"}\r\n{"prompt": "\xe9"}\r\n')
    good, bad = read_examples(file, tiny_tokenizer, 128)
    assert [example.row for example in good] == [1]
    assert "byte 13 is not UTF-8 (0xe9): save the file as UTF-8" in bad[0].reason
    write_faults(bad, tmp_path / "bad.jsonl")
    (record,) = map(json.loads, (tmp_path / "bad.jsonl").read_text().splitlines())
    assert record == {"file": str(file), "row": 2, "reason": bad[0].reason, "text": '{"prompt": "\\xe9"}'}


def test_faults_are_listed_and_counted(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(["{}"] * 12))
    _, bad = read_examples(file, tiny_tokenizer, 128)
    with pytest.raises(ExamplesError, match=r"^12 of 15 rows cannot be learned from; mend them:\n  .*row 1: ") as error:
        check_faults(bad, 15, "mend them")
    assert str(error.value).endswith("and 2 more")


def test_a_document_is_learned_whole_beside_conversations(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, [{"text": "import a", "source": "x"}, PAIR, {"text": "y" * 999}])))
    good, bad = read_examples(file, tiny_tokenizer, 100)
    assert good[0].ids == [tiny_tokenizer.bos_id, *tiny_tokenizer.encode("import a"), tiny_tokenizer.eos_id]
    assert good[0].learned == [False, *[True] * (len(good[0].ids) - 1)]
    assert len(good) == 2
    assert "divide the document" in bad[0].reason


def test_a_separator_within_a_text_ends_no_line(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps({"prompt": "a\u2028b\u0085c", "completion": "d"}, ensure_ascii=False), encoding="utf-8")
    assert len(read_examples(file, tiny_tokenizer, 128)[0]) == 1


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_any_bytes_are_rows_or_faults(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("any") / "data.jsonl"
    file.write_bytes(data)
    rows = list(read_rows(file))
    assert len(rows) == sum(bool(line.strip()) for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "messages", "type", "text"]), inner)
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(["messages", "conversations", "prompt", "completion"]), json_values))
def test_any_row_is_a_conversation_or_refused_by_name(row: dict[str, Any]) -> None:
    with suppress(ExamplesError, ChatError):
        assert all(isinstance(message, Message) for message in messages_of(row))


# -------------------------------------------------------------------------------------------- kinds


def test_parquet_and_what_the_datasets_library_saves(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    """Columns that a row does not use hold nothing there; of splits, the training one is read."""
    table = pyarrow.Table.from_pylist([{**CHAT, "prompt": None}, {**CHAT, "messages": CHAT["messages"] * 2}])
    data = tmp_path / "hub" / "data"
    data.mkdir(parents=True)
    pyarrow.parquet.write_table(table, data / "train-00000-of-00001.parquet")
    pyarrow.parquet.write_table(table.slice(0, 0), data / "test-00000-of-00001.parquet")
    saved = tmp_path / "saved" / "train"
    saved.mkdir(parents=True)
    (saved / "state.json").write_text("{}")
    (saved / "dataset_info.json").write_text("{}")
    with pyarrow.ipc.new_stream(saved / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    for folder in (tmp_path / "hub", tmp_path / "saved"):
        good, bad = read_examples(folder, tiny_tokenizer, 128)
        assert ([example.row for example in good], bad) == ([1, 2], [])
        assert good[0].ids == good[1].ids[: len(good[0].ids)]


def test_a_json_list_and_a_folder_of_files(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    (tmp_path / "b.json").write_text(json.dumps([CHAT, PAIR]))
    (tmp_path / "a.jsonl").write_text(json.dumps(PAIR))
    good, _ = read_examples(tmp_path, tiny_tokenizer, 128)
    assert [(example.file.name, example.row) for example in good] == [("a.jsonl", 1), ("b.json", 1), ("b.json", 2)]
    assert len({tuple(example.ids) for example in good}) == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("data.csv", b"a,b", "expected one of .jsonl"),
        ("data.parquet", b"PAR1", "damaged, or of another kind, after row 0"),
        ("data.arrow", b"no arrow", "damaged, or of another kind, after row 0"),
        ("data.json", b"[1, 2", "expected a JSON list of objects, found an error"),
        ("data.jsonl", b"\n", "expected examples, found no rows"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    name: str, content: bytes, reason: str, tmp_path: Path, tiny_tokenizer: Tokenizer
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*{reason}"):
        read_examples(tmp_path / name, tiny_tokenizer, 128)


def test_missing_and_empty_folders_are_refused(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"none: no such file or folder"):
        read_examples(tmp_path / "none", tiny_tokenizer, 128)
    with pytest.raises(ValueError, match=r"expected files of rows .*found none"):
        read_examples(tmp_path, tiny_tokenizer, 128)
