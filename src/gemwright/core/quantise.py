"""How values become codes of 4 or 8 bits: each 32 inputs of an output share a float16 scale."""

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Any

import numpy as np

from gemwright.kernels.packed_product import GROUP

Array = np.ndarray[Any, Any]

RANGES = {4: (-8, 7), 8: (-127, 127)}
"""The least and the greatest code, by bits."""

_FACTORS = {
    4: (*np.linspace(0.77, 1.02, 8), *np.linspace(-1.1, -0.85, 4)),
    8: np.linspace(1.0, 1.05, 16),
}
"""Scales that are tried, of the one that just cuts no code off; negative ones give the longer side to the smaller."""

_LEAST_SCALE = 2.0**-25  # float16 keeps no smaller one
_BLOCK = 1 << 17  # values quantised at once: they stay in the processor's cache


def quantise(matrix: Array, bits: int, importance: Array | None = None) -> tuple[Array, Array]:
    """Codes and scales of least squared error, found group by group among some scales.

    Args:
      matrix: (out, in) of any float dtype.
      bits: 4 (codes -8 to 7) or 8 (-127 to 127).
      importance: (in,) how much each input's squared error counts: its mean square in use; None counts all alike.

    Returns:
      (out, groups, 32) int8 and (out, groups) float16; a value is its code times its group's scale. Inputs that
      fill the last group have the code zero.

    Raises:
      ValueError: if bits is another number, or a value is NaN, infinite, or too large for a float16 scale.
    """
    if bits not in RANGES:
        raise ValueError(f"bits: expected 4 or 8, found {bits}")
    outs, ins = matrix.shape
    groups = -(-ins // GROUP)
    codes, scales = np.empty((outs, groups, GROUP), np.int8), np.empty((outs, groups), np.float16)
    counts = _counts(importance, ins)

    def quantise_from(start: int) -> None:
        rows = slice(start, start + step)
        codes[rows], scales[rows] = _quantise_rows(_grouped(matrix[rows]), bits, counts)

    step = max(1, _BLOCK // (groups * GROUP))
    with ThreadPoolExecutor(cpu_count()) as threads:  # NumPy lets go of the interpreter while it computes
        list(threads.map(quantise_from, range(0, outs, step)))
    return codes, scales


def dequantise(codes: Array, scales: Array, ins: int) -> Array:
    """(out, in) float32: the values that `quantise`'s codes and scales stand for."""
    wide = codes * scales.astype(np.float32)[..., None]
    return wide.reshape(len(codes), -1)[:, :ins]


def _counts(importance: Array | None, ins: int) -> Array:
    """(groups, 32) float32. No input counts for nothing: calibration may not have met it."""
    counts = np.ones(ins, np.float32) if importance is None else importance.astype(np.float32)
    counts = counts + np.float32(1e-3) * counts.mean() + np.finfo(np.float32).tiny
    return _grouped(counts[None])[0]


def _grouped(rows: Array) -> Array:
    """(rows, groups, 32) float32, with zeros in the place of inputs that are not there."""
    wide = rows.astype(np.float32)
    if not np.isfinite(wide).all() or np.abs(wide).max(initial=0) > 1e5:
        raise ValueError("expected finite values that float16 scales can hold, found NaN, infinity or above 1e5")
    return np.pad(wide, ((0, 0), (0, -wide.shape[1] % GROUP))).reshape(len(wide), -1, GROUP)


def _quantise_rows(groups: Array, bits: int, counts: Array) -> tuple[Array, Array]:
    """The best of some scales for each group, fitted to the codes that it gives."""
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=-1)[..., None], axis=-1)[..., 0]
    plain = largest / np.float32(RANGES[bits][0])  # 4-bit codes reach one further down: the largest gets -8
    best, scales = np.zeros_like(plain), plain
    for factor in _FACTORS[bits]:
        spared, fitted = _fit(groups, plain * np.float32(factor), bits, counts)
        better = spared > best
        best, scales = np.where(better, spared, best), np.where(better, fitted, scales)
    codes = _codes(groups, scales, bits)
    again = _codes(groups, _fit(groups, scales, bits, counts)[1], bits)
    better = _error(groups, *again, counts) < _error(groups, *codes, counts)
    return np.where(better[..., None], again[0], codes[0]), np.where(better, again[1], codes[1])


def _fit(groups: Array, scales: Array, bits: int, counts: Array) -> tuple[Array, Array]:
    """How much squared error the codes at a scale spare beside zeros, and the scale that fits them best."""
    codes = _rounded(groups, scales, bits)
    weighted = codes * counts
    norms = np.einsum("rgi,rgi->rg", weighted, codes)
    fitted = np.einsum("rgi,rgi->rg", weighted, groups)
    scale = np.divide(fitted, norms, out=np.zeros_like(norms), where=norms > 0)
    return fitted * scale, scale


def _codes(groups: Array, scales: Array, bits: int) -> tuple[Array, Array]:
    kept = scales.astype(np.float16)
    return _rounded(groups, kept.astype(np.float32), bits).astype(np.int8), kept


def _rounded(groups: Array, scales: Array, bits: int) -> Array:
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=np.abs(scales) > _LEAST_SCALE)
    codes = groups * inverse[..., None]
    np.rint(codes, out=codes)
    return np.clip(codes, *RANGES[bits], out=codes)


def _error(groups: Array, codes: Array, scales: Array, counts: Array) -> Array:
    misses = groups - codes * scales.astype(np.float32)[..., None]
    return np.einsum("rgi,rgi,gi->rg", misses, misses, counts)
