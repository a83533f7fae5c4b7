"""The shared library of native kernels: where it is, whether it loads, which instructions it may use."""

import ctypes
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import jax

import gemwright.kernels

VARIABLE = "GEMWRIGHT_KERNELS"
"""The environment variable that switches the kernels off, or fixes their instruction set."""

CHOICES = ("", "off", "portable", "avx2", "avx512")
"""Its values; empty or unset is the widest instruction set that the processor has."""

THIN_PRODUCT = "gemwright_thin_product"
PACKED_PRODUCT = "gemwright_packed_product"
SLOT_ATTENTION = "gemwright_slot_attention"
SLOT_WRITE = "gemwright_slot_write"
READ_ALL = "gemwright_read_all"
INT_PRODUCTS = "gemwright_int_products"
FLOAT_PRODUCTS = "gemwright_float_products"
BUFFER_ADDRESS = "gemwright_buffer_address"
"""The kernels' names, in the library and as targets of XLA."""

_ALL = (
    THIN_PRODUCT, PACKED_PRODUCT, SLOT_ATTENTION, SLOT_WRITE, READ_ALL, INT_PRODUCTS, FLOAT_PRODUCTS, BUFFER_ADDRESS,
)  # fmt: skip


def choice() -> str:
    """What `GEMWRIGHT_KERNELS` asks for, read whenever a kernel is traced.

    Raises:
      ValueError: it is none of `CHOICES`.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in CHOICES:
        raise ValueError(f"{VARIABLE} is {value!r}; it must be one of {', '.join(CHOICES[1:])}, or unset")
    return value


def available() -> bool:
    """Whether the native kernels were built, load, and are not switched off."""
    return choice() != "off" and _loaded()


@functools.cache
def _loaded() -> bool:
    return any(_register(path) for path in _libraries())


def _libraries() -> Iterator[Path]:
    # An editable install leaves the sources where they are and puts the library beside its own
    # metadata: the package then has two folders.
    for folder in gemwright.kernels.__path__:
        yield from Path(folder).glob("libgemwright_kernels.*")


def _register(path: Path) -> bool:
    """Offer the library's kernels to XLA; False if it is for another system or another jaxlib."""
    try:
        # Without a backend XLA puts off its check of the library's version, then refuses to make one.
        jax.local_devices(backend="cpu")
        library = ctypes.CDLL(str(path))
        for name in _ALL:
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    except (OSError, AttributeError, RuntimeError):
        return False
    return True
