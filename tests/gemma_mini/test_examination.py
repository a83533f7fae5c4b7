"""Bits of documents against plain sums over logits, and answers against the model's own."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from gemwright.gemma_mini import language
from gemwright.gemma_mini.examination import answers, document_bits, frequency_bits
from gemwright.model import Model
from gemwright.text.chat import Message, format_chat
from gemwright.tuning.rollouts import Roller, Rollout

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


def test_questions_are_asked_in_turns_of_chat_and_answers_end_before_the_stop_token(
    tiny: Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, heard = language.exercises("train", 0, 3), list[Any]()

    def said(_: Roller, weights: Any, prompts: Sequence[Sequence[int]], seed: Any) -> list[Rollout]:
        heard.extend([prompts, seed])
        ends = ([tiny.tokenizer.eos_id], sorted(tiny.tokenizer.stop_ids)[-1:], [])
        texts = [tiny.tokenizer.encode(f"{number} apples ") for number in range(3)]
        return [Rollout(prompts[n], [*texts[n], *ends[n]], [], "stop") for n in range(3)]

    monkeypatch.setattr(Roller, "answers", said)
    assert answers(tiny_folder, asked, [4]) == ["0 apples", "1 apples", "2 apples"]
    assert heard == [[format_chat(tiny.tokenizer, [Message("user", one.prompt)]).ids for one in asked], [4]]
