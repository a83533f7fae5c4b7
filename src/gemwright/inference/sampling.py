"""How the next token is chosen from logits.

Filters cut at a threshold that is searched for over the 31 bits of a non-negative float32, which
costs a few passes over the vocabulary and no sort.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import module

_LEAST = 1e-30  # smaller temperatures and shares would be 0 in float32
_MOST = 1e30  # larger temperatures would be infinite in float32
_ALL = 2**31 - 1  # tokens: more than any vocabulary has
_PART = 256  # tokens among which the likeliest is looked for at once


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. The defaults are greedy.

    Attributes:
      temperature: divides the logits; 0 takes the likeliest token.
      top_k: keep the k likeliest tokens (and ties); 0 keeps all.
      top_p: keep the smallest set of likeliest tokens with at least this share; 1 keeps all.
      min_p: keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
      repetition_penalty: divide positive and multiply negative logits of tokens already in the
        prompt or the answer (Keskar et al., arXiv 1909.05858); 1 leaves them.
      seed: same seed, same tokens, alone or in a batch; a tuple gives each row its own.

    Raises:
      ValueError: if a value is outside its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, 0.0 <= self.temperature < float("inf"), "0 or more")
        _require("top_k", self.top_k, self.top_k >= 0, "0 or more")
        _require("top_p", self.top_p, 0.0 < self.top_p <= 1.0, "above 0, at most 1")
        _require("min_p", self.min_p, 0.0 <= self.min_p <= 1.0, "between 0 and 1")
        _require("repetition_penalty", self.repetition_penalty, 0.0 < self.repetition_penalty < 1e9, "above 0")
        for seed in self.seed if isinstance(self.seed, tuple) else (self.seed,):
            _require("seed", seed, 0 <= seed < 2**32, "between 0 and 2^32 - 1")

    @property
    def filters(self) -> "Filters":
        sampled = self.temperature > 0
        return Filters(
            sampled, sampled and self.top_k > 0, sampled and self.top_p < 1, sampled and self.min_p > 0,
            self.repetition_penalty != 1,
        )  # fmt: skip

    def knobs(self, rows: int) -> "Knobs":
        """The values on the device, for a batch of this many rows."""
        return knobs_of([self] * rows, self.seeds(rows))

    def seeds(self, rows: int) -> tuple[int, ...]:
        """Each row's; raises ValueError if there are more or fewer."""
        seeds = self.seed if isinstance(self.seed, tuple) else (self.seed,) * rows
        if len(seeds) != rows:
            raise ValueError(f"seed: expected one number, or one for each of {rows} rows; found {len(seeds)}")
        return seeds


def _require(name: str, value: float, holds: bool, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {wanted}, found {value}")


GREEDY = Sampling()


@dataclass(frozen=True)
class Filters:
    """Which parts of sampling are compiled in."""

    sample: bool = False
    top_k: bool = False
    top_p: bool = False
    min_p: bool = False
    penalty: bool = False

    @staticmethod
    def union(rows: Iterable["Filters"]) -> "Filters":
        """What a batch needs whose rows need these; a row is not changed by what only others need."""
        rows = list(rows)
        return Filters(
            any(r.sample for r in rows), any(r.top_k for r in rows), any(r.top_p for r in rows),
            any(r.min_p for r in rows), any(r.penalty for r in rows),
        )  # fmt: skip


@module
class Knobs:
    """The values of a `Sampling` for each row, (B,), so that a new value needs no new program.

    Each has a value that changes nothing, for rows that a filter is not meant for: a temperature of 0
    (the likeliest token), a top_k and a top_p that no sum reaches, a min_p of 0, a penalty of 1.
    """

    temperature: jax.Array
    top_k: jax.Array
    top_p: jax.Array
    min_p: jax.Array
    repetition_penalty: jax.Array
    seeds: jax.Array


def knobs_of(rows: Sequence[Sampling], seeds: Sequence[int]) -> Knobs:
    """The values of rows that each have a sampling and a seed of their own."""

    def column(value: Callable[[Sampling], float], dtype: type[np.generic] = np.float32) -> jax.Array:
        return jax.device_put(np.array([value(row) for row in rows], dtype))

    return Knobs(
        column(lambda row: min(max(row.temperature, _LEAST), _MOST) if row.temperature else 0.0),
        column(lambda row: min(row.top_k or _ALL, _ALL), np.int32),
        column(lambda row: max(row.top_p, _LEAST) if row.top_p < 1 else 2.0),
        column(lambda row: row.min_p),
        column(lambda row: row.repetition_penalty),
        jax.device_put(np.array(seeds, np.uint32)),
    )


def choose(
    logits: jax.Array, seen: jax.Array | None, count: jax.Array, knobs: Knobs, filters: Filters
) -> tuple[jax.Array, jax.Array]:
    """Choose a token a row.

    Args:
      logits: (B, V) float32.
      seen: (B, V) booleans, tokens already in the text; needed for the penalty alone.
      count: tokens chosen before this one, of each row (B,) or of all; with the seed it fixes the draw.

    Returns:
      (B,) int32 tokens, and (B,) their log-probability under the model, before any filter.
    """
    adjusted = logits
    if filters.penalty and seen is not None:
        adjusted = penalise(logits, seen, knobs.repetition_penalty[:, None])
    if filters.sample:
        sampled = knobs.temperature[:, None] > 0
        below = adjusted - jnp.max(adjusted, axis=-1, keepdims=True)  # so that no quotient overflows upwards
        kept = keep(below / jnp.where(sampled, knobs.temperature[:, None], 1.0), knobs, filters)
        counts = jnp.broadcast_to(count, knobs.seeds.shape)
        noise = jax.vmap(lambda seed, count: _noise(seed, count, logits.shape[-1]))(knobs.seeds, counts)
        adjusted = jnp.where(sampled, kept + noise, adjusted)
    tokens = likeliest(adjusted)
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return tokens, chosen - jax.nn.logsumexp(logits, axis=-1)


def likeliest(scores: jax.Array) -> jax.Array:
    """(B,) int32: what `jnp.argmax` gives for (B, V) numbers, by the largest of each part first.

    XLA finds a maximum in vectors, but goes through the numbers one by one to learn where it stands.
    """
    width = scores.shape[-1]
    parts = -(-width // _PART)
    whole = jnp.pad(scores, ((0, 0), (0, parts * _PART - width)), constant_values=-jnp.inf)
    best = jnp.argmax(jnp.max(whole.reshape(-1, parts, _PART), axis=-1), axis=-1)
    places = jnp.minimum(best[:, None] * _PART + jnp.arange(_PART), width - 1)
    within = jnp.argmax(jnp.take_along_axis(scores, places, axis=-1), axis=-1)
    return (best * _PART + within).astype(jnp.int32)


def _noise(seed: jax.Array, count: jax.Array, size: int) -> jax.Array:
    """Gumbel noise of one row and step, whatever the rows beside it."""
    return jax.random.gumbel(jax.random.fold_in(jax.random.key(seed), count), (size,), jnp.float32)


def penalise(logits: jax.Array, seen: jax.Array, penalty: jax.Array) -> jax.Array:
    """Make seen tokens less likely (penalty above 1)."""
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def keep(logits: jax.Array, knobs: Knobs, filters: Filters) -> jax.Array:
    """(B, V) logits with -inf for the tokens that the filters drop; each filter sees what the last one kept."""
    if filters.top_k:
        shares = jax.nn.softmax(logits, axis=-1)
        threshold = _largest_threshold(shares, lambda kept: jnp.sum(kept, axis=-1) >= knobs.top_k)
        logits = jnp.where(shares >= threshold, logits, -jnp.inf)
    if filters.top_p:
        shares = jax.nn.softmax(logits, axis=-1)
        threshold = _largest_threshold(
            shares, lambda kept: jnp.sum(jnp.where(kept, shares, 0.0), axis=-1) >= knobs.top_p
        )
        logits = jnp.where(shares >= threshold, logits, -jnp.inf)
    if filters.min_p:
        shares = jax.nn.softmax(logits, axis=-1)
        floor = knobs.min_p[:, None] * jnp.max(shares, axis=-1, keepdims=True)
        logits = jnp.where(shares >= floor, logits, -jnp.inf)
    return logits


def _largest_threshold(shares: jax.Array, enough: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The largest float t for which `enough(shares >= t)` holds, (B, 1); 0 if none does.

    The bits of non-negative floats order as the floats do, so the search is over integers.
    """

    def halve(bit: jax.Array, bits: jax.Array) -> jax.Array:
        tried = bits | (jnp.int32(1) << (30 - bit))
        threshold = jax.lax.bitcast_convert_type(tried, jnp.float32)
        return jnp.where(enough(shares >= threshold)[:, None], tried, bits)

    start = jnp.zeros((shares.shape[0], 1), jnp.int32)
    return jax.lax.bitcast_convert_type(jax.lax.fori_loop(0, 31, halve, start), jnp.float32)
