"""Whether kernels for a GPU run, and how they cut a matrix: shared by all that are written with Pallas.

They serve one GPU of NVIDIA's, where a program sees no other: a kernel's arrays are not divided among devices.
"""

import os
from collections.abc import Sequence
from math import log
from typing import NamedTuple

import jax

VARIABLE = "GEMWRIGHT_GPU_KERNELS"
"""The environment variable that switches the kernels off, or on where none would run, to look at them."""

CHOICES = ("", "off", "on")
MOST_ROWS = 1
"""Rows that a kernel takes at most: up to 8 were right on a card, but not timed; for more than one the device's own
products are made."""

_NARROWEST = 128  # inputs of a piece


class Tile(NamedTuple):
    """How a program takes its part of a matrix.

    Attributes:
      outs: outputs of a program, a power of two.
      ins: inputs of a piece, a power of two.
      ahead: pieces that are loaded before the first of them is used.
      warps: of 32 threads, to a program.
    """

    outs: int
    ins: int
    ahead: int
    warps: int


def available() -> bool:
    """Whether kernels for a GPU are wanted; read whenever a product is traced.

    Raises:
      ValueError: `GEMWRIGHT_GPU_KERNELS` is none of `CHOICES`.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in CHOICES:
        raise ValueError(f"{VARIABLE} is {value!r}; it must be off, on, or unset")
    return value != "off" and (value == "on" or (jax.default_backend() == "gpu" and jax.device_count() == 1))


def power_in(size: int, most: int) -> int:
    """The largest power of two that divides `size`, and is no more than the power of two `most`."""
    return min(size & -size, most)


def for_rows(rows: int, wanted: Tile) -> Tile:
    """A tile wanted for one row, narrower for several: each has sums of its own, and a thread's registers are few."""
    if rows == 1:
        return wanted
    narrower = wanted.ins >> (rows - 1).bit_length()
    return wanted._replace(ins=max(64 * wanted.warps, narrower))


def tile_for(outs: Sequence[int], ins: int, wanted: Tile) -> Tile | None:
    """The wanted tile as it divides matrices of `ins` inputs; None where it would be too narrow to be worth it."""
    piece, block = power_in(ins, wanted.ins), min(power_in(out, wanted.outs) for out in outs)
    if piece < _NARROWEST:
        return None
    pieces, ahead = ins // piece, wanted.ins * wanted.ahead // piece
    nearest = min((count for count in range(1, pieces + 1) if pieces % count == 0), key=lambda n: abs(log(n / ahead)))
    return Tile(block, piece, nearest, wanted.warps)
