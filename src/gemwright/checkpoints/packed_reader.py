"""A folder of packed weights: Hugging Face's files, and the weights as the CPU's kernel reads them.

The weights are one safetensors file. Its metadata tell the version of the packed layout, its
tensors have our names: `layers.0.mlp.gate.codes`, `.scales`, and norms as they are. Every tensor
begins at a multiple of 64 bytes, fillers between them, so that a mapping is used as it is.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.placing import place
from gemwright.checkpoints.safetensors_file import Entry, SafetensorsFile
from gemwright.checkpoints.stored import BFLOAT16, FLOAT32
from gemwright.core.module import Spec, map_specs, named_leaves
from gemwright.core.packed import Packed
from gemwright.kernels.packed_product import LAYOUT
from gemwright.models.family import Config, Decoder, specs_of

PACKED_FILE = "model.packed.safetensors"
FORMAT = "gemwright-packed"
FILLER = "filler."
CODES, SCALES = np.dtype(np.uint8), np.dtype(np.float16)

_AGAIN = "quantise the model again with `gemwright quantize MODEL OUT`"


def read_packed(folder: Path, config: Config) -> Decoder:
    """Map the weights of a packed folder; on the CPU nothing is copied and no page read.

    Raises:
      CheckpointError: if the file is missing, damaged, made for another layout, or not of this model.
    """
    path = folder / PACKED_FILE
    if not path.is_file():
        raise CheckpointError(f"{path}: expected here by quantization_config, found no such file; {_AGAIN}")
    file = SafetensorsFile(path)
    _check_layout(file)
    specs = specs_of(config)
    expected: dict[str, Spec] = named_leaves(map_specs(lambda name, spec: _parts(file, name, spec), specs))
    for name, spec in expected.items():
        _check_tensor(file, name, spec)
    for name in file.entries.keys() - expected.keys():
        if not name.startswith(FILLER):
            raise CheckpointError(f"{path}: tensor {name}: expected none of this name in its model, found one")
    return map_specs(lambda name, spec: _placed(file, name, spec), specs)


def _check_layout(file: SafetensorsFile) -> None:
    made, layout = file.metadata.get("format"), file.metadata.get("layout")
    if made != FORMAT:
        raise CheckpointError(f"{file.path}: expected the format {FORMAT} in its metadata, found {made!r}")
    if layout != str(LAYOUT):
        raise CheckpointError(
            f"{file.path}: made for layout {layout}; this version of Gemwright reads {LAYOUT}: {_AGAIN}"
        )


def _parts(file: SafetensorsFile, name: str, spec: Spec) -> Any:
    """What a weight's tensors must be. The width of its codes tells its bits."""
    if not spec.is_matrix:
        return spec
    entry = _entry(file, f"{name}.codes")
    bits = next((bits for bits in (4, 8) if Packed.specs(spec, bits).codes.shape == entry.shape), None)
    if bits is None:
        four, eight = (Packed.specs(spec, bits).codes.shape for bits in (4, 8))
        raise CheckpointError(
            f"{file.path}: tensor {name}.codes: expected shape {four} for 4 bits or {eight} for 8, found {entry.shape}"
        )
    return Packed.specs(spec, bits)


def _entry(file: SafetensorsFile, name: str) -> Entry:
    if name not in file.entries:
        raise CheckpointError(f"{file.path}: tensor {name}: expected one, found none; {_AGAIN}")
    return file.entries[name]


def _check_tensor(file: SafetensorsFile, name: str, spec: Spec) -> None:
    entry = _entry(file, name)
    dtypes = {"code": (CODES,), "row": (SCALES,)}.get(spec.axes[-1], (BFLOAT16, FLOAT32))
    if entry.shape != spec.shape or entry.dtype not in dtypes:
        wanted = " or ".join(map(str, dtypes))
        raise CheckpointError(
            f"{file.path}: tensor {name}: expected {wanted} of shape {spec.shape}, found {entry.dtype} {entry.shape}"
        )


def _placed(file: SafetensorsFile, name: str, spec: Spec) -> Any:
    def array(name: str) -> jax.Array:
        view = file.view(name)
        return place(view, view.dtype, None, file.release)

    if not spec.is_matrix:
        return array(name)
    return Packed(array(f"{name}.codes"), array(f"{name}.scales"), spec.shape)
