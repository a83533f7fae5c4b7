"""Bits of documents against plain sums over logits, and answers against the model's own."""

import math
from pathlib import Path

import jax
import numpy as np
import pytest

from gemwright.gemma_mini import language
from gemwright.gemma_mini.examination import answers, document_bits, frequency_bits
from gemwright.model import Model, load
from gemwright.text.chat import Message, format_chat

TEXTS = ["def f(x):\n    return x", "import json", "class Value:\n" * 12]


def test_the_bits_of_a_document_are_those_of_its_tokens(tiny: Model, tiny_folder: Path) -> None:
    expected = np.zeros(len(TEXTS))
    for number, text in enumerate(TEXTS):
        ids = [*tiny.tokenizer.encode(text), tiny.tokenizer.eos_id]
        for first in range(0, len(ids), 16):
            piece = [tiny.tokenizer.bos_id, *ids[first : first + 16]]
            scores = np.asarray(jax.nn.log_softmax(tiny.logits([piece])[0]))
            expected[number] -= sum(scores[place, token] for place, token in enumerate(piece[1:])) / math.log(2)
    assert document_bits(tiny_folder, TEXTS, 16) == pytest.approx(expected, rel=1e-4)


def test_frequencies_alone_cost_what_they_say(tiny: Model) -> None:
    stream = np.array([tiny.tokenizer.bos_id, *tiny.tokenizer.encode(TEXTS[0]), tiny.tokenizer.eos_id] * 50)
    counts = {token: 1 + int((stream == token).sum()) for token in range(tiny.tokenizer.vocab_size)}
    del counts[tiny.tokenizer.bos_id]
    total = sum(counts.values())
    ids = [*tiny.tokenizer.encode(TEXTS[1]), tiny.tokenizer.eos_id]
    expected = sum(-math.log2(counts[token] / total) for token in ids)
    assert frequency_bits(stream, tiny.tokenizer, [TEXTS[1]]) == pytest.approx([expected])


def test_answers_are_the_models_own(tiny_folder: Path) -> None:
    asked, model = language.exercises("train", 0, 3), load(tiny_folder)
    prompts = [format_chat(model.tokenizer, [Message("user", one.prompt)]).ids for one in asked]
    stops = model.tokenizer.stop_ids
    said = [[token for token in row if token not in stops] for row in model.generate_ids(prompts, 32)]
    assert answers(tiny_folder, asked, None) == [model.tokenizer.decode(row).strip() for row in said]
    drawn = answers(tiny_folder, asked, [1])
    assert drawn == answers(tiny_folder, asked, [1])
    assert drawn != answers(tiny_folder, asked, [2])
