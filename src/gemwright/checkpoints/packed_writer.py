"""Write a folder of packed weights; `packed_reader.py` says what is in it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.folders import check_room, whole_folder
from gemwright.checkpoints.hf_config import PACKED, config_json
from gemwright.checkpoints.packed_reader import CODES, FILLER, FORMAT, PACKED_FILE
from gemwright.checkpoints.placing import ALIGNMENT
from gemwright.checkpoints.safetensors_writer import Declared, write_tensors
from gemwright.checkpoints.save import token_ids, write_beside_weights
from gemwright.core.module import named_leaves, named_weights
from gemwright.core.packed import Packed
from gemwright.kernels.packed_product import LAYOUT
from gemwright.models.family import Config, Decoder, specs_of
from gemwright.text.tokenizer import Tokenizer


def save_packed(
    folder: Path,
    config: Config,
    weights: Decoder,
    tokenizer: Tokenizer | None = None,
    *,
    source: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a packed model as a folder that loads at once. It appears whole or not at all.

    Args:
      weights: as `pack_weights` gives them.
      tokenizer, source, overwrite: as `save_checkpoint` takes them.

    Raises:
      CheckpointError: if a matrix is not packed, the folder may not be replaced, or the disk has no room.
    """
    specs = specs_of(config)
    matrices = {name for name, spec in named_leaves(specs).items() if spec.is_matrix}
    for name, weight in named_weights(specs, weights).items():
        if name in matrices and not isinstance(weight, Packed):
            raise CheckpointError(f"weight {name}: expected a packed one, found {weight.dtype}; pack_weights packs it")
    arrays: dict[str, jax.Array] = named_leaves(weights)
    ids = token_ids(config, tokenizer)
    stored_config = {**config_json(config, "bfloat16", ids), "quantization_config": PACKED}
    check_room(folder, sum(array.nbytes for array in arrays.values()))
    metadata = {"format": FORMAT, "layout": str(LAYOUT)}
    with whole_folder(folder, overwrite=overwrite) as partial:
        write_beside_weights(partial, stored_config, ids, tokenizer, source)
        for _ in write_tensors(partial / PACKED_FILE, _declared(arrays), lambda n: _values(arrays, n), metadata):
            pass


def _declared(arrays: Mapping[str, jax.Array]) -> Iterator[Declared]:
    """The tensors, each of an odd size followed by bytes that fill it up."""
    for name, array in arrays.items():
        yield Declared(name, np.dtype(array.dtype), array.shape)
        if missing := -array.nbytes % ALIGNMENT:
            yield Declared(FILLER + name, CODES, (missing,))


def _values(arrays: Mapping[str, jax.Array], name: str) -> np.ndarray[Any, Any]:
    if name.startswith(FILLER):
        return np.zeros(-arrays[name.removeprefix(FILLER)].nbytes % ALIGNMENT, CODES)
    return np.asarray(arrays[name])
