"""What a model is made of and what it needs, read from its Specs without allocating."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gemwright.core.module import Spec, named_leaves
from gemwright.models.family import Config, new_cache, specs_of

BYTES_PER_WEIGHT = {"bf16": 2.0, "int8": 1.0, "int4": 0.5}
"""Of the weights alone: a quantised file adds its scales."""


@dataclass(frozen=True)
class Summary:
    """A model in numbers; all sizes in bytes.

    Attributes:
      weights: name and shape of every weight.
      embedding, other: parameters; their sum is `total`.
      asset_bytes: size of the weights by format.
      cache_bytes: size of one sequence's cache by context length, of bf16 keys and values.
    """

    config: Config
    weights: dict[str, tuple[int, ...]]
    embedding: int
    other: int
    asset_bytes: dict[str, int]
    cache_bytes: dict[int, int]

    @property
    def total(self) -> int:
        return self.embedding + self.other

    def to_json(self) -> dict[str, Any]:
        return {
            "config": {"family": self.config.family, **dataclasses.asdict(self.config)},
            "parameters": {"embedding": self.embedding, "other": self.other, "total": self.total},
            "asset_bytes": self.asset_bytes,
            "cache_bytes": {str(length): size for length, size in self.cache_bytes.items()},
            "weights": {name: list(shape) for name, shape in self.weights.items()},
        }


def summarise(config: Config, lengths: Sequence[int] = ()) -> Summary:
    """Count a model of this config; `lengths` of texts for the cache, or shares of its context."""
    specs: dict[str, Spec] = named_leaves(specs_of(config))
    sizes = {name: spec.size for name, spec in specs.items()}
    embedding = sum(size for name, size in sizes.items() if name.rpartition(".")[2] == "embedding")
    total = sum(sizes.values())
    return Summary(
        config=config,
        weights={name: spec.shape for name, spec in specs.items()},
        embedding=embedding,
        other=total - embedding,
        asset_bytes={kind: int(total * each) for kind, each in BYTES_PER_WEIGHT.items()},
        cache_bytes={length: cache_bytes(config, length) for length in lengths or _context_lengths(config)},
    )


def cache_bytes(config: Config, length: int) -> int:
    """Bytes of keys, values and states for one sequence of this many tokens; windowed layers stop growing."""
    leaves = jax.tree.leaves(jax.eval_shape(lambda: new_cache(config, 1, length, jnp.dtype(jnp.bfloat16))))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))


def _context_lengths(config: Config) -> list[int]:
    shares = [config.max_positions // divisor for divisor in (8, 4, 2, 1)]
    return sorted({length for length in shares if length})
