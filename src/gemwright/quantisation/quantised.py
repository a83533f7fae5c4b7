"""From a model to its quantised form: calibrate, choose the bits, quantise, and measure what was lost."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import Spec, map_specs, named_leaves
from gemwright.core.packed import Packed, pack_weight, pack_weights
from gemwright.kernels.packed_product import TILE, unpack
from gemwright.models.family import Config, Decoder, specs_of
from gemwright.quantisation.importance import importance
from gemwright.quantisation.mixed import check_average, choose_bits, sensitivities, stored_bytes

Array = np.ndarray[Any, Any]

Progress = Callable[[str], Callable[[int, int], None]]
"""Given the name of a stage, what to call with the work done and all of it."""

_SENSITIVITY_TOKENS = 1024  # one reading of them for each weight
_TILES = 64  # of a packed weight, unpacked at once


@dataclass(frozen=True)
class WeightReport:
    """One matrix, quantised.

    Attributes:
      bytes: as stored, scales included.
      error: root mean square error, relative to that of the values.
    """

    bits: int
    shape: tuple[int, ...]
    bytes: int
    error: float


@dataclass(frozen=True)
class Quantised:
    """A quantised model and what is known of it.

    Attributes:
      matrices: by name.
      error: of all matrices together, relative root mean square.
      bits_per_weight: over the matrices, scales included.
    """

    weights: Decoder
    matrices: dict[str, WeightReport]
    error: float
    bits_per_weight: float

    @property
    def bytes(self) -> int:
        return sum(matrix.bytes for matrix in self.matrices.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "weights": {name: asdict(matrix) for name, matrix in self.matrices.items()},
            "error": self.error,
            "bytes": self.bytes,
            "bits_per_weight": self.bits_per_weight,
        }


def quantise_model(
    config: Config,
    weights: Decoder,
    bits: int,
    progress: Progress,
    calibration: Array | None = None,
    bits_per_weight: float | None = None,
) -> Quantised:
    """Quantise and pack a model's matrices.

    Args:
      weights: dense.
      bits: 4 or 8.
      calibration: (rows, tokens) of ids, from which each input's importance is learnt; None takes all alike.
      bits_per_weight: more than 4 bits take, on average, scales included: the weights to which the model is most
        sensitive get 8. Needs calibration.

    Raises:
      ValueError: if bits is not 4 or 8, the average cannot be, or a weight is not finite; names it.
    """
    check_bits(bits, bits_per_weight, calibrated=calibration is not None)
    specs = specs_of(config)
    important = {} if calibration is None else importance(weights, config, calibration, progress("calibrating"))
    packed = pack_weights(specs, weights, _bits(specs, bits, important), important, progress("quantising"))
    if bits_per_weight is not None and calibration is not None:
        rows = calibration[: max(1, _SENSITIVITY_TOKENS // calibration.shape[1])]
        found = sensitivities(weights, packed, config, rows, progress("finding sensitive weights"), important)
        chosen = choose_bits(config, found, bits_per_weight)

        def widen(name: str, spec: Spec, dense: jax.Array, weight: Any) -> Any:
            return pack_weight(dense, spec, 8, important[name]) if chosen.get(name) == 8 else weight

        packed = map_specs(widen, specs, weights, packed)
    return _reported(specs, weights, packed)


def check_bits(bits: int, bits_per_weight: float | None, *, calibrated: bool) -> None:
    """Raises ValueError, before any work, as `quantise_model` does."""
    if bits not in (4, 8):
        raise ValueError(f"bits: expected 4 or 8, found {bits}")
    if bits_per_weight is None:
        return
    if bits != 4 or not calibrated:
        raise ValueError("bits per weight: mixes 4 and 8 bits by a calibration text; ask for 4 bits and give one")
    check_average(bits_per_weight)


def _bits(specs: Decoder, bits: int, important: Mapping[str, Array]) -> dict[str, int]:
    """By name. What a calibration text does not touch, such as a vision tower, gets 8: its loss is not measured."""
    names = [name for name, spec in named_leaves(specs).items() if spec.is_matrix]
    return {name: bits if not important or name in important else 8 for name in names}


def _reported(specs: Decoder, weights: Decoder, packed: Decoder) -> Quantised:
    matrices: dict[str, WeightReport] = {}
    sums = np.zeros(2)

    def add(name: str, spec: Spec, dense: jax.Array, weight: Any) -> None:
        if isinstance(weight, Packed):
            misses, squares = _squares(dense.reshape(-1, spec.fan_in), weight)
            sums[:] += misses, squares
            error = math.sqrt(misses / squares) if squares else 0.0
            matrices[name] = WeightReport(weight.bits, spec.shape, stored_bytes(spec, weight.bits), error)

    map_specs(add, specs, weights, packed)
    named: dict[str, Spec] = named_leaves(specs)
    average = 8 * sum(m.bytes for m in matrices.values()) / sum(named[name].size for name in matrices)
    return Quantised(packed, matrices, math.sqrt(sums[0] / sums[1]) if sums[1] else 0.0, average)


def _squares(matrix: jax.Array, packed: Packed) -> tuple[float, float]:
    """Sums of squared errors and of squared values."""
    sums = np.zeros(2)
    for start in range(0, len(packed.codes), _TILES):
        part = slice(start, start + _TILES)
        rows = matrix[TILE * start : TILE * (start + _TILES)]
        sums += np.asarray(_part_squares(rows, packed.codes[part], packed.scales[part]))
    return float(sums[0]), float(sums[1])


@jax.jit
def _part_squares(rows: jax.Array, codes: jax.Array, scales: jax.Array) -> jax.Array:
    wide = rows.astype(jnp.float32)
    misses = unpack(codes, scales, *rows.shape) - wide
    return jnp.stack([jnp.sum(jnp.square(misses)), jnp.sum(jnp.square(wide))])
