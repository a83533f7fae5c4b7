"""The shared library of native kernels: where it is, whether it loads, which instructions it may use."""

import ctypes
import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

import gemwright.kernels

VARIABLE = "GEMWRIGHT_KERNELS"
"""The environment variable that switches the kernels off, or fixes their instruction set."""

CHOICES = ("", "off", "portable", "avx2", "avx512", "amx")
"""Its values; empty or unset is the widest instruction set that the processor has."""

THIN_PRODUCT = "gemwright_thin_product"
PACKED_PRODUCT = "gemwright_packed_product"
SLOT_ATTENTION = "gemwright_slot_attention"
TEXT_ATTENTION = "gemwright_text_attention"
TEXT_ATTENTION_BACK = "gemwright_text_attention_back"
GATED_VALUES = "gemwright_gated_values"
GATED_VALUES_BACK = "gemwright_gated_values_back"
NARROW_PRODUCT = "gemwright_narrow_product"
SLOT_WRITE = "gemwright_slot_write"
GATED_RECURRENCE = "gemwright_gated_recurrence"
READ_ALL = "gemwright_read_all"
INT_PRODUCTS = "gemwright_int_products"
FLOAT_PRODUCTS = "gemwright_float_products"
MATRIX_PRODUCTS = "gemwright_matrix_products"
BUFFER_ADDRESS = "gemwright_buffer_address"
"""The kernels' names, in the library and as targets of XLA."""

_ALL = (
    THIN_PRODUCT, PACKED_PRODUCT, NARROW_PRODUCT, SLOT_ATTENTION, TEXT_ATTENTION, TEXT_ATTENTION_BACK, GATED_VALUES,
    GATED_VALUES_BACK, SLOT_WRITE, GATED_RECURRENCE, READ_ALL, INT_PRODUCTS, FLOAT_PRODUCTS, MATRIX_PRODUCTS,
    BUFFER_ADDRESS,
)  # fmt: skip
_LIBRARIES: list[ctypes.CDLL] = []
"""The one that serves, once it is loaded."""

_LOG = logging.getLogger(__name__)


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


def serves(array: jax.Array) -> bool:
    """Whether kernels that compute with floats of such an array are at hand where programs now run."""
    return jax.default_backend() == "cpu" and array.dtype in (jnp.float32, jnp.bfloat16) and available()


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16, and they are not switched off."""
    return available() and _multiplies_bfloat16(choice())


def has_matrix_unit() -> bool:
    """Whether this processor has a unit for products of matrices, and it is not switched off."""
    return available() and _has_matrix_unit(choice())


@functools.cache
def _has_matrix_unit(level: str) -> bool:
    return any(bool(library.gemwright_has_matrix_unit(level.encode())) for library in _LIBRARIES)


@functools.cache
def _multiplies_bfloat16(level: str) -> bool:
    return any(bool(library.gemwright_multiplies_bfloat16(level.encode())) for library in _LIBRARIES)


@functools.cache
def _loaded() -> bool:
    """Whether one of the libraries serves; if not, says so, once a process."""
    reasons: list[str] = []
    for path in _libraries():
        try:
            _register(path)
        except (OSError, AttributeError, RuntimeError) as error:
            first_line = str(error).partition("\n")[0]
            reasons.append(f"{path} does not load ({first_line})")
        else:
            return True
    if jax.default_backend() == "cpu":  # elsewhere nobody misses them
        _LOG.warning(
            "gemwright: %s, so plain JAX runs, which is slower; a wheel brings the native kernels, and "
            "`pip install -v` from source shows why they were not built. %s=off hides this line",
            "; ".join(reasons) or "no native kernels were built for this processor",
            VARIABLE,
        )
    return False


def _libraries() -> Iterator[Path]:
    # An editable install leaves the sources where they are and puts the library beside its own
    # metadata: the package then has two folders.
    for folder in gemwright.kernels.__path__:
        yield from Path(folder).glob("libgemwright_kernels.*")


def _register(path: Path) -> None:
    """Offer the library's kernels to XLA.

    Raises:
      OSError, AttributeError, RuntimeError: if it is for another system or another jaxlib.
    """
    # Without a backend XLA puts off its check of the library's version, then refuses to make one.
    jax.local_devices(backend="cpu")
    library = ctypes.CDLL(str(path))
    for name in _ALL:
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    _LIBRARIES.append(library)
