"""llama.cpp's names of Gemma's tensors, and the number types that are read and written.

Norms are stored there with one added (1 + weight); no matrix is permuted for these families.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.stored import BFLOAT16, FLOAT32
from gemwright.core.names import NameTable

EMBEDDING = "token_embd.weight"

_SHARED_NAMES: NameTable = (
    ("embedding", EMBEDDING),
    ("final_norm", "output_norm.weight"),
    ("layers.*.attention_norm", "blk.*.attn_norm.weight"),
    ("layers.*.attention.query", "blk.*.attn_q.weight"),
    ("layers.*.attention.key", "blk.*.attn_k.weight"),
    ("layers.*.attention.value", "blk.*.attn_v.weight"),
    ("layers.*.attention.output", "blk.*.attn_output.weight"),
    ("layers.*.mlp_norm", "blk.*.ffn_norm.weight"),
    ("layers.*.mlp.gate", "blk.*.ffn_gate.weight"),
    ("layers.*.mlp.up", "blk.*.ffn_up.weight"),
    ("layers.*.mlp.down", "blk.*.ffn_down.weight"),
)

TENSOR_NAMES: Mapping[str, NameTable] = {
    "gemma": _SHARED_NAMES,
    "gemma2": (
        *_SHARED_NAMES,
        ("layers.*.attention_post_norm", "blk.*.post_attention_norm.weight"),
        ("layers.*.mlp_post_norm", "blk.*.post_ffw_norm.weight"),
    ),
}
"""By family, which is llama.cpp's architecture too: a weight's name here, and there."""

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F32": FLOAT32,
    "F16": np.dtype(np.float16),
    "BF16": BFLOAT16,
    "Q8_0": FLOAT32,
    "Q4_0": FLOAT32,
    "Q4_K": FLOAT32,
    "Q6_K": FLOAT32,
}
"""The types that are read, and what each is once its blocks are numbers."""


@dataclass(frozen=True)
class Written:
    """A type that is written.

    Attributes:
      stored: the library's name of it.
      file_type: the number by which llama.cpp calls a file whose matrices are mostly of it.
    """

    stored: str
    file_type: int


KINDS: Mapping[str, Written] = {
    "f16": Written("F16", 1),
    "q8_0": Written("Q8_0", 7),
    "q4_0": Written("Q4_0", 2),
}
"""The types that are written, by the name that a user gives."""


def is_norm(name: str) -> bool:
    """Whether a tensor of llama.cpp's name is a norm, and so has one added."""
    return name.endswith("norm.weight")


def gguf_library() -> Any:
    """The library `gguf`.

    Raises:
      CheckpointError: if it is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise CheckpointError("GGUF files need the gguf library: pip install 'gemwright[gguf]'") from None
    return gguf
