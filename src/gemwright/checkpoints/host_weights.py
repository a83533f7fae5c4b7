"""The weights of a model on their way to a file: checked, by their names there, one at a time on the host."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_tensors import stored_shape
from gemwright.checkpoints.stored import BFLOAT16, FLOAT32
from gemwright.core.module import Spec, named_leaves
from gemwright.core.names import NameTable, translate
from gemwright.models.family import Config, Decoder, specs_of


@dataclass(frozen=True)
class HostWeight:
    """A weight of ours, and its shape in the file."""

    array: jax.Array
    shape: tuple[int, ...]

    def values(self) -> np.ndarray[Any, Any]:
        """On the host; on a CPU no copy."""
        # a new array on the CPU: reading the values of another device would keep a copy beside them
        here = jax.device_put(self.array, jax.local_devices(backend="cpu")[0])
        return np.asarray(here).reshape(self.shape)


def host_weights(config: Config, weights: Decoder, tables: Mapping[str, NameTable]) -> dict[str, HostWeight]:
    """The weights by their names in a file.

    Args:
      tables: of names, by family.

    Raises:
      CheckpointError: if the weights do not fit the constants.
    """
    if config.family not in tables:
        raise CheckpointError(f"family {config.family!r}: expected one of {', '.join(tables)}")
    specs: dict[str, Spec] = named_leaves(specs_of(config))
    arrays = named_leaves(weights)
    if any(name.endswith("embedding.codes") for name in arrays):
        raise CheckpointError(
            "expected dense weights to save, found quantised ones; take the model they were made from"
        )
    for name in sorted(specs.keys() ^ arrays.keys()):
        raise CheckpointError(f"weight {name}: expected {'none' if name in arrays else 'one'} by the configuration")
    for name, spec in specs.items():
        _check_weight(name, spec, arrays[name])
    names = translate(specs, tables[config.family])
    return {names[name]: HostWeight(arrays[name], stored_shape(spec)) for name, spec in specs.items()}


def _check_weight(name: str, spec: Spec, array: jax.Array) -> None:
    if array.shape != spec.shape:
        raise CheckpointError(f"weight {name}: expected shape {spec.shape}, found {array.shape}")
    if array.dtype not in (BFLOAT16, FLOAT32):
        raise CheckpointError(f"weight {name}: expected bfloat16 or float32, found {array.dtype}; convert it first")
