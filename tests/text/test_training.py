import inspect

import pytest

from gemwright.text import control
from gemwright.text.tokenizer import Tokenizer
from gemwright.text.training import train_tokenizer

from .conftest import VOCAB_SIZE, training_texts


def test_pieces_stand_at_gemmas_ids(tokenizer: Tokenizer) -> None:
    names = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
    assert [tokenizer.id(name) for name in names] == [0, 1, 2, 3, 4, 67, 68, 69]
    assert tokenizer.id(control.FILE_SEPARATOR) == 70
    assert (tokenizer.id(control.START_OF_TURN), tokenizer.id(control.END_OF_TURN), tokenizer.id("\n")) == (
        106,
        107,
        108,
    )


def test_the_vocabulary_has_the_size_asked_for(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == VOCAB_SIZE


def test_every_byte_has_a_piece(tokenizer: Tokenizer) -> None:
    assert all(tokenizer.has(f"<0x{byte:02X}>") for byte in range(256))


def test_digits_are_split(tokenizer: Tokenizer) -> None:
    assert [tokenizer.decode([i]) for i in tokenizer.encode("2024366")] == list("2024366")
    frequent = Tokenizer.from_bytes(train_tokenizer([*training_texts(), "2024 " * 5000], 900))
    assert len(frequent.encode("2024")) == 4


@pytest.mark.parametrize("run", ["\n", "\n" * 31, " " * 2, " " * 31, "\t", "\t" * 31, "<table>", "</sup>"])
def test_runs_and_tags_are_one_token(tokenizer: Tokenizer, run: str) -> None:
    assert len(tokenizer.encode(run)) == 1


def test_longer_runs_are_kept(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(" " * 70 + "\n" * 70)) == " " * 70 + "\n" * 70


def test_training_twice_gives_the_same_file() -> None:
    assert train_tokenizer(training_texts(), 900) == train_tokenizer(iter(training_texts()), 900)


def test_a_long_line_is_learned_from() -> None:
    line = " ".join(inspect.getsource(inspect).split())  # 100,000 characters: the trainer skips such a line
    assert Tokenizer.from_bytes(train_tokenizer([line], 900)).has(f"{control.WORD_BOUNDARY}the")


@pytest.mark.parametrize(
    ("texts", "size", "coverage", "complaint"),
    [
        (["a"], 599, 1.0, "504 pieces are fixed, use at least 600"),
        (["a b c"], 30_000, 1.0, "cannot train 30000 pieces on these texts: Vocabulary size too high"),
        ([], 700, 1.0, "nothing but white space"),
        ([" \n\t\n"], 700, 1.0, "nothing but white space"),
        (["a"], 700, 0.5, "character_coverage 0.5: expected 0.98 to 1"),
    ],
)
def test_impossible_requests_say_why(texts: list[str], size: int, coverage: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        train_tokenizer(texts, size, character_coverage=coverage)


def test_an_error_while_reading_keeps_its_kind() -> None:
    def texts():
        yield "something to learn from"
        raise FileNotFoundError("gone.txt")

    with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
        train_tokenizer(texts(), 700)
