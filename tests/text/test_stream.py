import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.text.stream import StopStrings, StreamDecoder
from gemwright.text.tokenizer import Tokenizer

from .conftest import SAMPLES, VOCAB_SIZE

ids = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=40)
# Byte pieces on their own: broken characters of every kind are then common.
byte_ids = st.lists(st.integers(230, 520), max_size=40)
stops = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def streamed(tokenizer: Tokenizer, ids: list[int], *, skip_control: bool = True) -> list[str]:
    stream = StreamDecoder(tokenizer, skip_control=skip_control)
    return [*(stream.push(i) for i in ids), stream.flush()]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(ids=st.one_of(ids, byte_ids), skip_control=st.booleans())
def test_streaming_gives_what_decoding_gives(any_tokenizer: Tokenizer, ids: list[int], skip_control: bool) -> None:
    whole = any_tokenizer.decode(ids, skip_control=skip_control)
    assert "".join(streamed(any_tokenizer, ids, skip_control=skip_control)) == whole


@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES.keys())
def test_no_half_character_is_shown(any_tokenizer: Tokenizer, text: str) -> None:
    parts = streamed(any_tokenizer, any_tokenizer.encode(text))
    assert "\ufffd" not in "".join(parts)
    assert "".join(parts) == text


def test_bytes_of_a_korean_syllable_wait_for_each_other(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.id(f"<0x{byte:02X}>") for byte in "뷁".encode()]
    assert streamed(tokenizer, ids) == ["", "", "뷁", ""]


def test_an_unfinished_character_shows_at_the_end(tokenizer: Tokenizer) -> None:
    assert streamed(tokenizer, [tokenizer.id("<0xEB>")]) == ["", "\ufffd"]


def test_an_emoji_of_several_code_points_arrives_whole(tokenizer: Tokenizer) -> None:
    family = "👨‍👩‍👧‍👦"
    assert "".join(streamed(tokenizer, tokenizer.encode(family))) == family


def test_streaming_takes_linear_time(tokenizer: Tokenizer) -> None:
    """Decoding the answer anew at each step would take some 10^10 piece look-ups here, hours."""
    long = tokenizer.encode("word ") * 100_000
    start = time.perf_counter()
    assert len("".join(streamed(tokenizer, long))) == 500_000
    assert time.perf_counter() - start < 20


def test_text_before_a_stop_string_is_shown_and_the_rest_is_not() -> None:
    stop = StopStrings(["\nUser:"])
    assert [stop.push(part) for part in ("Hello", "\nUs", "er: hi", "more")] == ["Hello", "", "", ""]
    assert stop.found == "\nUser:"
    assert stop.flush() == ""


def test_text_that_only_begins_like_a_stop_string_is_shown_later() -> None:
    stop = StopStrings(["abc"])
    assert [stop.push(part) for part in ("xab", "abd")] == ["x", "ababd"]
    assert stop.found is None
    assert stop.push("ab") + stop.flush() == "ab"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        StopStrings(["ok", ""])


@settings(derandomize=True, deadline=None, max_examples=300)
@given(text=st.text("ab\n", max_size=20), strings=stops, cuts=st.lists(st.integers(1, 5), max_size=20))
def test_stopping_does_not_depend_on_how_text_arrives(text: str, strings: list[str], cuts: list[int]) -> None:
    whole, pieces = StopStrings(strings), StopStrings(strings)
    expected = whole.push(text) + whole.flush()
    shown, rest = "", text
    for cut in [*cuts, len(text)]:
        shown += pieces.push(rest[:cut])
        rest = rest[cut:]
        assert not any(string in shown for string in strings)
    assert shown + pieces.flush() == expected
    assert pieces.found == whole.found
    assert (whole.found is not None) == any(string in text for string in strings)
