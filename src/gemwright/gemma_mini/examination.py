"""Models questioned: the answers they give, and the bits that documents cost them."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.checkpoints.load import load_checkpoint
from gemwright.data.packing import Batch, Tokens, rows_to_batch
from gemwright.data.skills import Question
from gemwright.models.family import Config, Decoder
from gemwright.text.chat import Message, format_chat
from gemwright.text.tokenizer import Tokenizer
from gemwright.training.step import token_losses
from gemwright.tuning.rollouts import Roller

LONGEST = 32
"""Tokens of an answer."""

_SLOTS, _ROWS = 64, 16  # answered at once; read at once
_BLOCK = 64  # tokens: prompts are given multiples of it, so that few programs are compiled


def answers(folder: Path, found: Sequence[Question], seed: Sequence[int] | None) -> list[str]:
    """What a model says to each question.

    Args:
      seed: of answers drawn at temperature 1; None takes the likeliest tokens.
    """
    model = load_checkpoint(folder)
    tokenizer = model.tokenizer
    assert tokenizer is not None
    prompts = [format_chat(tokenizer, [Message("user", one.prompt)]).ids for one in found]
    longest = -(-max(map(len, prompts)) // _BLOCK) * _BLOCK
    roller = Roller(model.weights, model.config, tokenizer.stop_ids, _SLOTS, longest, LONGEST)
    rollouts = roller.answers(model.weights, prompts, seed)
    return [tokenizer.decode([i for i in one.ids if i not in tokenizer.stop_ids]).strip() for one in rollouts]


def document_bits(folder: Path, documents: Sequence[str], length: int) -> np.ndarray[Any, Any]:
    """(N,) bits that each document costs a model, its end included.

    Args:
      length: documents are read in pieces of so many tokens, each without those before it.
    """
    model = load_checkpoint(folder)
    assert model.tokenizer is not None
    owners, rows = _rows(model.tokenizer, documents, length)
    bits = np.zeros(len(documents))
    for first in range(0, len(rows), _ROWS):
        part = rows[first : first + _ROWS]
        filled = np.concatenate([part, np.full((_ROWS - len(part), length + 1), model.tokenizer.bos_id, part.dtype)])
        nats = np.asarray(_nats(model.weights, rows_to_batch(filled, model.tokenizer.bos_id), model.config))
        np.add.at(bits, owners[first : first + _ROWS], nats[: len(part)] / math.log(2))
    return bits


def frequency_bits(stream: Tokens, tokenizer: Tokenizer, documents: Sequence[str]) -> np.ndarray[Any, Any]:
    """(N,) bits that each document costs one who knows only how frequent each token of a stream is."""
    counts = np.bincount(stream, minlength=tokenizer.vocab_size) + 1.0
    counts[tokenizer.bos_id] = 0
    with np.errstate(divide="ignore"):
        costs = -np.log2(counts / counts.sum())
    return np.array([costs[[*tokenizer.encode(text), tokenizer.eos_id]].sum() for text in documents])


def _rows(tokenizer: Tokenizer, documents: Sequence[str], length: int) -> tuple[np.ndarray[Any, Any], Tokens]:
    """Pieces behind a BOS each, filled up with more of them, which are never a target; and whose they are."""
    owners: list[int] = []
    rows: list[Tokens] = []
    for owner, text in enumerate(documents):
        ids = [*tokenizer.encode(text), tokenizer.eos_id]
        for first in range(0, len(ids), length):
            piece = [tokenizer.bos_id, *ids[first : first + length]]
            rows.append(np.array(piece + [tokenizer.bos_id] * (length + 1 - len(piece)), np.int32))
            owners.append(owner)
    return np.array(owners), np.stack(rows)


@partial(jax.jit, static_argnames="config")
def _nats(weights: Decoder, batch: Batch, config: Config) -> jax.Array:
    """(B,) of the targets that count."""
    losses = token_losses(weights, batch.inputs, batch.targets, config, batch.positions, batch.segments)
    return jnp.sum(losses * batch.weights.astype(jnp.float32), axis=1)
