import io
import sys

import pytest

from gemwright.cli.piped import at_terminal, piped_text


def test_a_closed_standard_input_is_missing_and_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # so a shell leaves it after <&-
    assert not at_terminal()
    with pytest.raises(ValueError, match="give --prompt"):
        piped_text("give --prompt")


def test_input_that_is_no_text_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"abc\xff"), encoding="utf-8"))
    with pytest.raises(ValueError, match="standard input: expected utf-8 text, found byte 0xff at 3; convert it"):
        piped_text("")
