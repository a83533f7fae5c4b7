"""Texts to calibrate and to measure on are apart, the same every time, and cut into full rows."""

import numpy as np
import pytest

from gemwright.quantisation.texts import python_texts, windows
from gemwright.text.tokenizer import Tokenizer


def test_pythons_texts_are_apart_mixed_and_the_same_every_time() -> None:
    measured, calibrated = python_texts("heldout"), python_texts("train")
    assert not set(measured) & set(calibrated)
    assert measured == python_texts("heldout")
    assert len(measured) > 20


def test_rows_are_full_and_begin_with_bos(tiny_tokenizer: Tokenizer) -> None:
    texts = ["def f(x):\n    return x\n" * 20, "class A:\n    pass\n" * 20]
    rows = windows(texts, tiny_tokenizer, 64, 16)
    assert (rows.shape, rows.dtype) == ((4, 16), np.int32)
    assert (rows[:, 0] == tiny_tokenizer.bos_id).all()
    assert rows[:, 1:].ravel().tolist() == tiny_tokenizer.encode(texts[0])[:60]
    assert windows(["def f(x):\n"] * 4, tiny_tokenizer, 10_000, 8).size <= 40


def test_a_text_that_fills_no_row_is_refused(tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"expected at least 511 tokens, found \d+; give a longer one"):
        windows(["short"], tiny_tokenizer, 4096, 512)
