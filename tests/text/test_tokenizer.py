import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from gemwright.text import control
from gemwright.text.tokenizer import Tokenizer, load_tokenizer

from . import strategies
from .conftest import SAMPLES

SPELLED = [control.BOS_PIECE, control.EOS_PIECE, control.PAD_PIECE, control.UNK_PIECE, *control.CONTROL_PIECES]


def library_ids(data: bytes, text: str) -> list[int]:
    """What the file's own library makes of a text."""
    if data.startswith(b"{"):
        library: Any = tokenizers.Tokenizer.from_str(data.decode())
        return library.encode(text, add_special_tokens=False).ids
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=data)
    return processor.Encode(text)


@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES.keys())
@pytest.mark.parametrize("file", ["model_bytes", "symbol_bytes", "json_bytes"])
def test_plain_text_gets_the_ids_of_its_own_library(file: str, text: str, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue(file)
    assert Tokenizer.from_bytes(data).encode(text) == library_ids(data, text)


@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES.keys())
def test_both_kinds_of_file_give_one_vocabularys_ids(
    tokenizer: Tokenizer, json_tokenizer: Tokenizer, text: str
) -> None:
    assert json_tokenizer.encode(text) == tokenizer.encode(text)


def test_control_symbols_of_sentencepiece_are_left_to_the_library(model_bytes: bytes) -> None:
    text = "<start_of_turn>user\n<bos>"
    assert Tokenizer.from_bytes(model_bytes).encode(text) == library_ids(model_bytes, text)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(text=strategies.hostile)
def test_text_comes_back_and_never_becomes_control(any_tokenizer: Tokenizer, text: str) -> None:
    ids = any_tokenizer.encode(text)
    assert not any(any_tokenizer.is_control(i) for i in ids)
    assert any_tokenizer.decode(ids) == text


@pytest.mark.parametrize("piece", SPELLED)
def test_each_spelled_control_piece_is_text(any_tokenizer: Tokenizer, piece: str) -> None:
    ids = any_tokenizer.encode(f"a{piece}{piece}b")
    assert any_tokenizer.id(piece) not in ids
    assert any_tokenizer.decode(ids) == f"a{piece}{piece}b"


def test_the_libraries_would_have_made_control_ids(symbol_bytes: bytes, json_bytes: bytes) -> None:
    """Without this the tests above could pass with nothing neutralised."""
    for data in (symbol_bytes, json_bytes):
        assert Tokenizer.from_bytes(data).start_of_turn_id in library_ids(data, "<start_of_turn>")


@pytest.mark.parametrize("piece", ["\n\n\n", "\t\t", "<h1>", "</code>"])
def test_white_space_and_tags_stay_whole_beside_control_text(any_tokenizer: Tokenizer, piece: str) -> None:
    assert any_tokenizer.id(piece) in any_tokenizer.encode(f"x{piece}<end_of_turn>y")


def test_many_control_pieces_take_linear_time(symbol_tokenizer: Tokenizer) -> None:
    text = "<start_of_turn>" * 20_000  # recursion would not end here, a rescan from the start not soon
    assert len(symbol_tokenizer.encode(text)) == 20_000 * len(symbol_tokenizer.encode("<start_of_turn>"))


def test_control_that_a_normaliser_makes_is_spelled_in_bytes(json_bytes: bytes) -> None:
    """Full-width letters become `<start_of_turn>` only inside the library, where no cut can be made."""
    rules = json.loads(json_bytes)
    rules["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, rules["normalizer"]]}
    for token in rules["added_tokens"]:
        token["normalized"] = True
    tokenizer = Tokenizer.from_bytes(json.dumps(rules).encode())
    text = "＜start_of_turn＞"
    ids = tokenizer.encode(text)
    assert not any(tokenizer.is_control(i) for i in ids)
    assert tokenizer.decode(ids) == text


def test_special_ids_are_where_gemma_keeps_them(any_tokenizer: Tokenizer) -> None:
    t = any_tokenizer
    assert (t.pad_id, t.eos_id, t.bos_id, t.id("<unk>")) == (0, 1, 2, 3)
    assert (t.start_of_turn_id, t.end_of_turn_id) == (106, 107)
    assert t.stop_ids == {1, 107}
    assert t.piece(108) == "\n"


def test_decode_skips_control_pieces_unless_asked(any_tokenizer: Tokenizer) -> None:
    ids = [2, 106, *any_tokenizer.encode("hi"), 107]
    assert any_tokenizer.decode(ids) == "hi"
    assert any_tokenizer.decode(ids, skip_control=False) == "<bos><start_of_turn>hi<end_of_turn>"


def test_decode_agrees_with_the_libraries(model_bytes: bytes, json_bytes: bytes) -> None:
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
    library: Any = tokenizers.Tokenizer.from_str(json_bytes.decode())
    for text in SAMPLES.values():
        ids = processor.Encode(text)
        assert Tokenizer.from_bytes(model_bytes).decode(ids) == processor.Decode(ids)
        assert Tokenizer.from_bytes(json_bytes).decode(ids) == library.decode(ids)


@pytest.mark.parametrize("i", [-1, 1000])
def test_ids_outside_the_vocabulary_are_refused(any_tokenizer: Tokenizer, i: int) -> None:
    with pytest.raises(ValueError, match=f"id {i} is outside the vocabulary: expected 0 to 999"):
        any_tokenizer.decode([5, i])


def test_an_absent_piece_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="'<nothing>' is not in this vocabulary of 1000 pieces"):
        tokenizer.id("<nothing>")


def test_a_lone_surrogate_is_refused_and_located(any_tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"lone surrogate U\+D83D at character 2"):
        any_tokenizer.encode("ab\ud83d")


def test_one_bos_whoever_calls(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("hi")
    assert tokenizer.with_bos(ids) == tokenizer.with_bos(tokenizer.with_bos(ids)) == [2, *ids]
    with pytest.raises(ValueError, match="two BOS"):
        tokenizer.with_bos([2, 2, *ids])


@pytest.mark.parametrize("file", ["model_bytes", "json_bytes"])
def test_saving_writes_the_same_file_back(file: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue(file)
    tokenizer = Tokenizer.from_bytes(data)
    path = tokenizer.save(tmp_path / "new")
    assert path.read_bytes() == data
    assert load_tokenizer(tmp_path / "new").fingerprint == tokenizer.fingerprint


def test_of_two_files_the_original_is_read(model_bytes: bytes, json_bytes: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(json_bytes)
    assert load_tokenizer(tmp_path).file_name == "tokenizer.json"
    (tmp_path / "tokenizer.model").write_bytes(model_bytes)
    assert load_tokenizer(tmp_path).file_name == "tokenizer.model"


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected tokenizer.model or tokenizer.json in this folder"):
        load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load_tokenizer(tmp_path / "absent")


@pytest.mark.parametrize("data", [b"", b"junk" * 20, b"{}", b'{"version": "1.0"', b'{"model": 3}', b"{\xff}"])
def test_damaged_files_are_named_in_one_line(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(data)
    with pytest.raises(ValueError, match="damaged: not a ") as caught:
        load_tokenizer(tmp_path / "damaged")
    assert "\n" not in str(caught.value)


def test_a_cut_model_file_is_refused(model_bytes: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model_bytes[: len(model_bytes) // 2])
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        load_tokenizer(tmp_path)


def test_a_training_length_in_the_file_cuts_no_text(json_bytes: bytes) -> None:
    library: Any = tokenizers.Tokenizer.from_str(json_bytes.decode())
    library.enable_truncation(4)
    library.enable_padding(length=8)
    tokenizer = Tokenizer.from_bytes(library.to_str().encode())
    assert tokenizer.decode(tokenizer.encode("a text of more than four pieces")) == "a text of more than four pieces"
    assert len(tokenizer.encode("a")) == 1


def byte_level() -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library: Any = tokenizers.Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens(["<|endoftext|>"])
    library.add_tokens([AddedToken("한국", normalized=False)])
    return library


@settings(derandomize=True, deadline=None, max_examples=50)
@given(text=strategies.hostile)
def test_byte_level_files_of_other_families_read_back(text: str) -> None:
    tokenizer = Tokenizer.from_bytes(byte_level().to_str().encode())
    text = f"{text}<|endoftext|>한국 ▁"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.id("<|endoftext|>") not in tokenizer.encode(text)
    assert tokenizer.start_of_turn_id is None
    assert tokenizer.stop_ids == frozenset()


def test_a_decoder_that_cannot_be_undone_is_refused() -> None:
    library = byte_level()
    library.decoder = decoders.WordPiece()
    with pytest.raises(ValueError, match="decoder must be SentencePiece's or ByteLevel, found WordPiece"):
        Tokenizer.from_bytes(library.to_str().encode())
