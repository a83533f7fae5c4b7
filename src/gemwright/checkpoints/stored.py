"""A weight as a checkpoint stores it, whatever the checkpoint's kind."""

from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from gemwright.checkpoints.errors import CheckpointError

BFLOAT16, FLOAT32 = np.dtype(jnp.bfloat16), np.dtype(np.float32)
_FLOATS = (BFLOAT16, FLOAT32, np.dtype(np.float16), np.dtype(np.float64))


class StoredWeight(Protocol):
    """One of our weights in a checkpoint. Its `str` says where: file and tensor."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored."""
        ...

    def read(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """The values in our shape, padding left out."""
        ...

    def release(self, view: np.ndarray[Any, Any]) -> None:
        """Called on parts of what `read` gave, once they are not needed any more."""
        ...


def wanted_dtype(dtype: Any) -> np.dtype[Any] | None:
    """What a caller asks for: None for what is stored.

    Raises:
      CheckpointError: unless it is None, float32 or bfloat16.
    """
    if dtype is None:
        return None
    try:
        wanted = np.dtype(jnp.dtype(dtype))
    except TypeError:
        raise CheckpointError(f"dtype: expected float32 or bfloat16, found {dtype!r}") from None
    if wanted == np.float16:
        raise CheckpointError(
            "dtype: Gemma's activations overflow float16; use bfloat16, which is as small, or float32"
        )
    if wanted not in (BFLOAT16, FLOAT32):
        raise CheckpointError(f"dtype: expected float32 or bfloat16, found {wanted}")
    return wanted


def kept_dtype(weight: StoredWeight) -> np.dtype[Any]:
    """The type a weight has in memory unless the caller wants another: bfloat16 stays, the rest is float32.

    Raises:
      CheckpointError: if the weight is not of floating point.
    """
    if weight.dtype not in _FLOATS:
        raise CheckpointError(
            f"{weight}: expected floating-point numbers, found {weight.dtype}; use an unquantised model"
        )
    return BFLOAT16 if weight.dtype == BFLOAT16 else FLOAT32
