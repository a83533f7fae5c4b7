import pytest
from hypothesis import given, settings

from gemwright.text.cutting import ControlCutter

from . import strategies


@pytest.mark.parametrize(
    ("names", "text", "parts"),
    [
        (["<a>"], "x<a>y<a>", ["x<", "a>y<", "a>"]),
        (["<a>"], "<<a>", ["<<", "a>"]),
        (["abc", "bcd"], "abcd", ["a", "b", "cd"]),  # overlapping: a cut in one must not leave the other
        (["[@]", "^"], "[@] ^", ["[", "@] ^", ""]),
        (["", "<a>"], "plain", ["plain"]),
        ([], "<a>", ["<a>"]),
    ],
)
def test_each_name_is_cut_after_its_first_character(names: list[str], text: str, parts: list[str]) -> None:
    assert list(ControlCutter(names).parts(text)) == parts


@settings(derandomize=True, deadline=None, max_examples=100)
@given(text=strategies.hostile)
def test_no_part_spells_a_name_and_nothing_is_lost(text: str) -> None:
    names = ["<bos>", "<start_of_turn>", "<|fim_prefix|>", "[@BOS@]"]
    parts = list(ControlCutter(names).parts(text))
    assert "".join(parts) == text
    assert not any(name in part for name in names for part in parts)
