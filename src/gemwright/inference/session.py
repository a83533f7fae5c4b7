"""A batch of sequences in the cache: extended by tokens, rewound, asked for the next logits.

Token ids only; nothing here knows text. Programs are compiled for a few chunk lengths and cache
sizes, whatever the length of a prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gemwright.core.cache import LayerCache
from gemwright.core.module import module
from gemwright.inference.memory import MemoryShort, check_room
from gemwright.models.family import Cache, Config, Decoder, goes_back_from, new_cache

CHUNKS = (16, 64, 256)
"""Lengths of the compiled prefill programs: a prompt is cut into the longest and padded to one."""

_SMALLEST_CAPACITY = 256


@module
class Sequences:
    """What the device keeps of a batch.

    Attributes:
      caches: one a layer.
      last: (B, D) final hidden state of each row's last token.
    """

    caches: Cache
    last: jax.Array


@dataclass(frozen=True)
class _Left:
    """A row as it was left, in a copy of its own."""

    tokens: list[int]
    state: Sequences
    capacity: int


class ContextFull(ValueError):
    """The tokens do not fit the model's context."""


class Session:
    """Rows of token ids with their cache, for one model."""

    def __init__(
        self, weights: Decoder, config: Config, rows: int, capacity: int = 0, cache_bits: int | None = None
    ) -> None:
        """Start with empty rows.

        Args:
          capacity: tokens expected; the cache grows beyond them when it must.
          cache_bits: 8 keeps keys and values as int8 with a scale for each head of a token; None as the weights are.

        Raises:
          MemoryShort: if the cache does not fit the memory that is free; says how much it needs.
          ValueError: if `cache_bits` is another number.
        """
        self.weights, self.config, self.rows, self.cache_bits = weights, config, rows, cache_bits
        self.tokens: list[list[int]] = [[] for _ in range(rows)]
        self.capacity = self._bucket(max(capacity, 1))
        self.state = self._empty()
        self._left: _Left | None = None

    def extend(self, tokens: Sequence[Sequence[int]]) -> None:
        """Read more tokens into each row.

        Raises:
          ContextFull: if a row would outgrow the model's context; nothing is read then.
          ValueError: if a token is not in the vocabulary.
        """
        self._check(tokens)
        self.reserve(max(len(row) + len(new) for row, new in zip(self.tokens, tokens, strict=True)))
        starts = [len(row) for row in self.tokens]
        longest = max(len(new) for new in tokens)
        done = 0
        while done < longest:
            length = chunk_length(longest - done)
            ids, positions = padded([new[done : done + length] for new in tokens], [s + done for s in starts], length)
            self.state = _read(self.weights, self.state, ids, positions, self.config)
            done += length
        for row, new in zip(self.tokens, tokens, strict=True):
            row.extend(new)

    def step(self, tokens: jax.Array, running: Sequence[bool]) -> None:
        """Read one token into each row that is still running, from the device: the decode step."""
        lengths = [len(row) if on else -1 for row, on in zip(self.tokens, running, strict=True)]
        self.reserve(max(lengths) + 1)
        positions = np.array([[length] for length in lengths], np.int32)
        self.state = _read(self.weights, self.state, tokens[:, None], positions, self.config)
        self.note(np.asarray(tokens).tolist(), running)

    def note(self, tokens: Sequence[int], running: Sequence[bool]) -> None:
        """Keep in mind one token a row that is still running; the state has read it."""
        for row, token, on in zip(self.tokens, tokens, running, strict=True):
            row.extend([token] if on else [])

    def logits(self) -> jax.Array:
        """(B, V) float32: what follows each row's last token."""
        return _head(self.weights, self.state.last, self.config)

    def advance_to(self, tokens: Sequence[int]) -> int:
        """Make the only row hold `tokens`, keeping what it shares with them; returns how many were kept.

        A ring that has turned has lost what it would need to go back, and starts anew then. A family whose rows can
        never be cut goes back to what this method last left: its state is small, and kept beside the row's.
        """
        shared = self.go_back_to(tokens)
        self.extend([tokens[shared:]])
        if not self.goes_back_from:
            self._left = _Left(list(tokens), jax.tree.map(jnp.copy, self.state), self.capacity)
        return shared

    def go_back_to(self, tokens: Sequence[int]) -> int:
        """Cut the only row to what it shares with `tokens`, as far as it can be cut; returns how much is left."""
        (row,) = self.tokens
        shared = shared_prefix(row, tokens[:-1])  # the last token is read again, for its logits
        return self._rewind(shared) if shared < len(row) else shared

    def _rewind(self, length: int) -> int:
        (row,) = self.tokens
        left, self._left = self._left, None
        if left and len(left.tokens) <= length:
            self.tokens, self.state, self.capacity = [left.tokens], left.state, left.capacity
            return len(left.tokens)
        length = length if len(row) <= self.goes_back_from else 0
        self.tokens = [row[:length]]
        caches = tuple(cache.forget(length) for cache in self.state.caches)
        self.state = Sequences(caches, self.state.last)
        return length

    @property
    def goes_back_from(self) -> int:
        """The longest row that can be cut anywhere; 0 if none can."""
        return goes_back_from(self.config)

    @property
    def takes_guesses(self) -> bool:
        """Whether tokens that turn out wrong can be taken back."""
        return self.goes_back_from > 0

    def seen(self) -> np.ndarray:
        """(rows, V) of booleans: which tokens each row holds; pictures, whose numbers are negative, are none."""
        seen = np.zeros((self.rows, self.config.vocab_size), bool)
        for row, tokens in enumerate(self.tokens):
            seen[row, [token for token in tokens if token >= 0]] = True
        return seen

    def clear(self) -> None:
        """Empty all rows, in a new cache."""
        self.tokens = [[] for _ in range(self.rows)]
        self.state, self._left = self._empty(), None

    def _check(self, tokens: Sequence[Sequence[int]]) -> None:
        for row, new in zip(self.tokens, tokens, strict=True):
            wrong = [token for token in new if not 0 <= token < self.config.vocab_size]
            if wrong:
                raise ValueError(f"token {wrong[0]} is not in the vocabulary of {self.config.vocab_size}")
            if not row and not new:
                raise ValueError("a row needs at least one token; begin it with BOS")
            if len(row) + len(new) > self.config.max_positions:
                needed, limit = len(row) + len(new), self.config.max_positions
                raise ContextFull(f"{needed} tokens do not fit the context of {limit}: shorten the text")

    def _bucket(self, needed: int) -> int:
        capacity = _SMALLEST_CAPACITY
        while capacity < needed:
            capacity *= 2
        return min(capacity, max(self.config.max_positions, 1))

    def reserve(self, needed: int) -> None:
        """Make room for rows of this many tokens; raises ContextFull or MemoryShort if there is none."""
        if needed > self.config.max_positions:
            raise ContextFull(f"the context of {self.config.max_positions} tokens is full")
        if needed > self.capacity:
            before, self.capacity = self.capacity, self._bucket(needed)
            try:
                grown = self._empty()
            except MemoryShort:
                self.capacity = before
                raise
            caches = tuple(_move(old, new) for old, new in zip(self.state.caches, grown.caches, strict=True))
            self.state = Sequences(caches, self.state.last)

    def _empty(self) -> Sequences:
        sizes = (self.rows, self.capacity, self.config, self.weights.embedding.dtype, self.cache_bits)
        shapes = jax.eval_shape(lambda: _empty(*sizes))
        check_room(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes)), self.rows, self.capacity)
        return _empty(*sizes)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _empty(rows: int, capacity: int, config: Config, dtype: jnp.dtype, bits: int | None) -> Sequences:
    """One program for all arrays: a fresh process compiles none for each."""
    return Sequences(new_cache(config, rows, capacity, dtype, bits), jnp.zeros((rows, config.embed_dim), dtype))


def chunk_length(tokens: int) -> int:
    """The compiled length that serves this many tokens, or as many of them as it can."""
    return next((length for length in CHUNKS if length >= tokens), CHUNKS[-1])


def read(weights: Decoder, state: Sequences, tokens: ArrayLike, positions: ArrayLike, config: Config) -> Sequences:
    """The state after (B, T) more tokens; position -1 marks padding, and a row of nothing else stays as it is."""
    tokens, positions = jnp.asarray(tokens), jnp.asarray(positions)
    hidden, caches = weights(tokens, config, positions=positions, cache=state.caches)
    assert caches is not None
    newest = jnp.argmax(positions, axis=1)
    any_read = jnp.max(positions, axis=1) >= 0
    last = jnp.take_along_axis(hidden, newest[:, None, None], axis=1)[:, 0]
    return Sequences(caches, jnp.where(any_read[:, None], last, state.last))


_read = jax.jit(read, static_argnames="config", donate_argnames="state")


@partial(jax.jit, static_argnames="config")
def _head(weights: Decoder, last: jax.Array, config: Config) -> jax.Array:
    return weights.logits(last, config)


def padded(rows: list[Sequence[int]], starts: list[int], length: int) -> tuple[ArrayLike, ArrayLike]:
    """(B, length) ids and positions; padding has position -1. A jitted function takes NumPy's arrays soonest."""
    ids = np.zeros((len(rows), length), np.int32)
    positions = np.full((len(rows), length), -1, np.int32)
    for index, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[index, : len(row)] = row
        positions[index, : len(row)] = np.arange(start, start + len(row))
    return ids, positions


def shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two rows begin with alike."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@partial(jax.jit, donate_argnums=1)
def _move(old: LayerCache, new: LayerCache) -> LayerCache:
    """Copy a cache into a larger one."""
    return old.grown(new)  # pyright: ignore[reportArgumentType]  # both are of one layer, and so of one kind
