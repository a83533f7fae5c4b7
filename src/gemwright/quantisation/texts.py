"""Texts to calibrate and to measure on: a user's, or those that every Python brings along."""

import hashlib
from collections.abc import Iterable
from pydoc_data.topics import topics
from typing import Any

import numpy as np

from gemwright.data.documents import Split, split_of, standard_library
from gemwright.text.tokenizer import Tokenizer

PYTHON = "the documentation and the source of the running Python"
"""What `python_texts` are, for reports."""

_LONGEST = 4_000  # characters of a document: many short ones say more than a few long ones


def python_texts(split: Split) -> list[str]:
    """The running interpreter's language reference and library source, mixed; the two splits share no document.

    The source of `heldout` is what the default model was not trained on.
    """
    reference = {f"topic/{name}": text for name, text in topics.items() if split_of(name, one_in=2) == split}
    source = {document.id: document.text for document in standard_library() if document.split == split}
    # As many of each, in an order of no meaning that is the same every time.
    chosen = [*_shuffled(reference), *_shuffled(source)[: len(reference)]]
    return [text[:_LONGEST] for _, text in sorted((_digest(name), text) for name, text in chosen)]


def _shuffled(texts: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(texts.items(), key=lambda item: _digest(item[0]))


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def windows(texts: Iterable[str], tokenizer: Tokenizer, tokens: int, length: int) -> np.ndarray[Any, Any]:
    """Rows of tokens, each beginning with BOS, the texts one after the other.

    Args:
      tokens: wanted in all; fewer if the texts are short.
      length: of a row.

    Returns:
      (rows, length) int32, at least one row.

    Raises:
      ValueError: if the texts do not fill one row.
    """
    stream: list[int] = []
    for text in texts:
        stream += tokenizer.encode(text)
        if len(stream) >= tokens:
            break
    rows = min(max(1, tokens // length), len(stream) // (length - 1))
    if not rows:
        raise ValueError(f"text: expected at least {length - 1} tokens, found {len(stream)}; give a longer one")
    parts = np.asarray(stream[: rows * (length - 1)], np.int32).reshape(rows, length - 1)
    return np.pad(parts, ((0, 0), (1, 0)), constant_values=tokenizer.bos_id)
