"""Texts as vectors, with EmbeddingGemma: near each other where the texts mean the like."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.checkpoints.hub import resolve
from gemwright.checkpoints.load import check_vocabulary
from gemwright.checkpoints.sentence_folder import read_sentence_folder
from gemwright.compilation import cache_compilations
from gemwright.models.embedding_gemma import Config, EmbeddingGemma
from gemwright.text.tokenizer import Tokenizer, load_tokenizer

PROMPTS = {"query": "task: search result | query: ", "document": "title: none | text: "}
"""What the model was trained to see before a text, where its folder says nothing else."""

_ROWS = 8  # texts of one call
_SHORTEST = 16  # tokens; a call is padded to this times a power of two, so that few shapes are compiled


@dataclass(frozen=True)
class Embedder:
    """Make one with `gemwright.load_embedder`.

    Attributes:
      prompts: by the task, what is written before a text.
    """

    config: Config
    weights: EmbeddingGemma = field(repr=False)
    tokenizer: Tokenizer
    prompts: Mapping[str, str]

    def embed(self, texts: Sequence[str], task: str | None = None, size: int | None = None) -> np.ndarray:
        """One vector of length 1 for each text; the product of two is the cosine between them.

        Args:
          task: `query`, `document` or another of `prompts`, whose words are put before each text; None adds nothing.
          size: of the vectors, whole if None. The model was trained so that 512, 256 and 128 lose little.

        Returns:
          (texts, size) float32.

        Raises:
          ValueError: if there is no text, one is empty or too long, or the task or size is none of this model's.
        """
        size = self.config.size if size is None else size
        if not 1 <= size <= self.config.size:
            raise ValueError(f"size: expected 1 to {self.config.size}, found {size}")
        if isinstance(texts, str) or not texts:
            raise ValueError(f"texts: expected a list of at least one, found {'a single text' if texts else 'none'}")
        rows = [self._ids(number, text, self._prompt(task)) for number, text in enumerate(texts)]
        vectors = np.zeros((len(rows), self.config.size), np.float32)
        for chosen, tokens, positions in _batches(rows):
            vectors[chosen] = _embed(self.weights, tokens, positions, self.config)[: len(chosen)]
        shortened = vectors[:, :size]
        return shortened / np.maximum(np.linalg.norm(shortened, axis=1, keepdims=True), 1e-12)

    def _prompt(self, task: str | None) -> str:
        if task is not None and task not in self.prompts:
            raise ValueError(f"task: expected one of {', '.join(self.prompts)}, found {task!r}")
        return "" if task is None else self.prompts[task]

    def _ids(self, number: int, text: str, prompt: str) -> list[int]:
        if not text.strip():
            raise ValueError(f"text {number}: expected words to embed, found none")
        ids = [*self.tokenizer.with_bos(self.tokenizer.encode(prompt + text)), self.tokenizer.eos_id]
        if len(ids) > self.config.text.max_positions:
            raise ValueError(
                f"text {number}: expected at most {self.config.text.max_positions} tokens, found {len(ids)}; "
                "cut it into passages"
            )
        return ids


def _batches(rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Rows of like length together: which they are, their tokens, and positions with -1 in padding."""
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    for start in range(0, len(rows), _ROWS):
        chosen = order[start : start + _ROWS]
        length = _SHORTEST
        while length < len(rows[chosen[-1]]):
            length *= 2
        tokens, positions = np.zeros((_ROWS, length), np.int32), np.full((_ROWS, length), -1, np.int32)
        for at, row in enumerate(chosen):
            tokens[at, : len(rows[row])] = rows[row]
            positions[at, : len(rows[row])] = np.arange(len(rows[row]))
        yield chosen, tokens, positions


@partial(jax.jit, static_argnames="config")
def _embed(weights: EmbeddingGemma, tokens: np.ndarray, positions: np.ndarray, config: Config) -> jax.Array:
    return weights(jnp.asarray(tokens), config, positions=jnp.asarray(positions))


def load_embedder(
    model: str | Path = "embeddinggemma-300m",
    *,
    dtype: Any = None,
    revision: str | None = None,
    token: str | None = None,
) -> Embedder:
    """Load an EmbeddingGemma.

    Args:
      model: a folder in the layout of sentence-transformers, or a hub name.
      dtype: of the weights, float32 or bfloat16; the files' own if None.
      revision, token: of the hub.

    Raises:
      CheckpointError: if the files are missing, damaged, or of another kind of model.
    """
    cache_compilations()
    folder = resolve(str(model), revision=revision, token=token)
    found, tokenizer = read_sentence_folder(folder, dtype), load_tokenizer(folder)
    check_vocabulary(folder, found.config.text, tokenizer)
    return Embedder(found.config, found.weights, tokenizer, found.prompts or PROMPTS)
