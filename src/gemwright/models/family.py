"""All families under one roof: what the other rooms ask of a model, whatever its architecture.

A family is a file of this room with its own `Config` and modules, and one entry in `FAMILIES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

from gemwright.core.cache import LayerCache
from gemwright.core.names import NameTable
from gemwright.core.weights import Weight
from gemwright.models import gemma, gemma3, gemma3_vision, griffin, paligemma, seeing
from gemwright.text import control

Cache = tuple[LayerCache, ...]
"""One a layer."""


class Config(Protocol):
    """What every family's constants say. Each is a frozen dataclass, and of its own family's type."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def family(self) -> str:
        """A key of `FAMILIES`: the `model_type` of Hugging Face files where that tells families apart."""
        ...

    @property
    def vocab_size(self) -> int: ...
    @property
    def embed_dim(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def max_positions(self) -> int:
        """The longest text."""
        ...


class Decoder(Protocol):
    """A module from token ids to scores of the next one. Its `config` is the one that it was made for."""

    @property
    def embedding(self) -> Weight:
        """(V, D), also the head."""
        ...

    def __call__(
        self,
        tokens: jax.Array,
        config: Any,
        *,
        positions: jax.Array | None = None,
        segments: jax.Array | None = None,
        cache: Any = None,
    ) -> tuple[jax.Array, Cache | None]:
        """(B, T) tokens -> (B, T, D) hidden states and the cache with these tokens in it, as `Gemma` says."""
        ...

    def logits(self, hidden: jax.Array, config: Any) -> jax.Array:
        """(..., D) -> (..., V) float32."""
        ...


@dataclass(frozen=True)
class Family:
    """What stands in a family's file; all functions take its `Config`.

    Attributes:
      specs: the model filled with Specs.
      new_cache: an empty one for (rows, capacity, dtype, bits of keys and values or None).
      goes_back_from: the longest row that can be cut anywhere.
      names: a weight's name here, and in a Hugging Face checkpoint.
      end_of_turn: the id of that piece in the vocabulary.
    """

    specs: Callable[[Any], Decoder]
    new_cache: Callable[[Any, int, int, jnp.dtype, int | None], Cache]
    goes_back_from: Callable[[Any], int]
    names: NameTable
    end_of_turn: int = control.END_OF_TURN_ID


FAMILIES: dict[str, Family] = (
    {
        name: Family(gemma.Gemma.specs, gemma.new_cache, gemma.goes_back_from, names)
        for name, names in gemma.HUGGING_FACE_NAMES.items()
    }
    | {
        name: Family(gemma3.Gemma3.specs, gemma.new_cache, gemma.goes_back_from, names, gemma3.END_OF_TURN_ID)
        for name, names in gemma3.HUGGING_FACE_NAMES.items()
    }
    | {
        name: Family(griffin.Griffin.specs, griffin.new_cache, griffin.goes_back_from, names)
        for name, names in griffin.HUGGING_FACE_NAMES.items()
    }
    | {
        name: Family(paligemma.PaliGemma.specs, seeing.new_cache, seeing.goes_back_from, names)
        for name, names in paligemma.HUGGING_FACE_NAMES.items()
    }
    | {
        name: Family(
            gemma3_vision.Gemma3Vision.specs,
            seeing.new_cache,
            seeing.goes_back_from,
            names,
            gemma3.END_OF_TURN_ID,
        )
        for name, names in gemma3_vision.HUGGING_FACE_NAMES.items()
    }
)

PRESETS: dict[str, Config] = {
    **gemma.PRESETS,
    **griffin.PRESETS,
    **gemma3.PRESETS,
    **gemma3_vision.PRESETS,  # in the place of their decoders
    **paligemma.PRESETS,
}
"""The published models, each whole."""


def specs_of(config: Config) -> Decoder:
    """The model of these constants, filled with Specs."""
    return FAMILIES[config.family].specs(config)


def new_cache(config: Config, rows: int, capacity: int, dtype: Any, bits: int | None = None) -> Cache:
    """An empty cache for rows of up to `capacity` tokens; 8 `bits` keep keys and values as int8."""
    return FAMILIES[config.family].new_cache(config, rows, capacity, dtype, bits)


def goes_back_from(config: Config) -> int:
    """The longest row that can be cut anywhere; 0 if none can, nor a wrong guess be taken back."""
    return FAMILIES[config.family].goes_back_from(config)


def stop_ids(config: Config) -> tuple[int, ...]:
    """Where an answer ends, for a model without a tokenizer: EOS and the end of a turn, as far as it has them."""
    return tuple(stop for stop in (control.EOS, FAMILIES[config.family].end_of_turn) if stop < config.vocab_size)
