"""llama.cpp's names of Gemma's tensors, and the number types that are read and written.

Norms are stored there with one added (1 + weight); no matrix is permuted for these families.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.gguf_tower import TOWER_NAMES
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

_POST_NORMS: NameTable = (
    ("layers.*.attention_post_norm", "blk.*.post_attention_norm.weight"),
    ("layers.*.mlp_post_norm", "blk.*.post_ffw_norm.weight"),
)

_GEMMA3: NameTable = (
    *_SHARED_NAMES,
    *_POST_NORMS,
    ("layers.*.attention.query_norm", "blk.*.attn_q_norm.weight"),
    ("layers.*.attention.key_norm", "blk.*.attn_k_norm.weight"),
)

TENSOR_NAMES: Mapping[str, NameTable] = {
    "gemma": _SHARED_NAMES,
    "gemma2": (*_SHARED_NAMES, *_POST_NORMS),
    "gemma3_text": _GEMMA3,
    "gemma3": (*((f"decoder.{ours}", theirs) for ours, theirs in _GEMMA3), *TOWER_NAMES),
}
"""By family: a weight's name here, and there; those of a tower are in a file of their own."""

ARCHITECTURES: Mapping[str, str] = {"gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3"}
"""By family: what llama.cpp calls it."""


@dataclass(frozen=True)
class Stored:
    """A type that tensors are stored in.

    Attributes:
      number: by which files call it.
      block: numbers that are stored together, in `block_bytes`.
    """

    number: int
    block: int
    block_bytes: int


TYPES: Mapping[str, Stored] = {
    "F32": Stored(0, 1, 4),
    "F16": Stored(1, 1, 2),
    "Q4_0": Stored(2, 32, 18),
    "Q4_1": Stored(3, 32, 20),
    "Q5_0": Stored(6, 32, 22),
    "Q5_1": Stored(7, 32, 24),
    "Q8_0": Stored(8, 32, 34),
    "Q8_1": Stored(9, 32, 40),
    "Q2_K": Stored(10, 256, 84),
    "Q3_K": Stored(11, 256, 110),
    "Q4_K": Stored(12, 256, 144),
    "Q5_K": Stored(13, 256, 176),
    "Q6_K": Stored(14, 256, 210),
    "Q8_K": Stored(15, 256, 292),
    "IQ2_XXS": Stored(16, 256, 66),
    "IQ2_XS": Stored(17, 256, 74),
    "IQ3_XXS": Stored(18, 256, 98),
    "IQ1_S": Stored(19, 256, 50),
    "IQ4_NL": Stored(20, 32, 18),
    "IQ3_S": Stored(21, 256, 110),
    "IQ2_S": Stored(22, 256, 82),
    "IQ4_XS": Stored(23, 256, 136),
    "I8": Stored(24, 1, 1),
    "I16": Stored(25, 1, 2),
    "I32": Stored(26, 1, 4),
    "I64": Stored(27, 1, 8),
    "F64": Stored(28, 1, 8),
    "IQ1_M": Stored(29, 256, 56),
    "BF16": Stored(30, 1, 2),
    "TQ1_0": Stored(34, 256, 54),
    "TQ2_0": Stored(35, 256, 66),
    "MXFP4": Stored(39, 32, 17),
    "NVFP4": Stored(40, 64, 36),
    "Q1_0": Stored(41, 128, 18),
}
"""All of llama.cpp's types, by name: a tensor of another than those in `DTYPES` is at least named."""

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


def in_blocks(kind: str) -> bool:
    """Whether numbers of a type are stored in quantised blocks, which the library `gguf` opens."""
    return TYPES[kind].block > 1


def gguf_library() -> Any:
    """The library `gguf`, which opens and makes blocks, and writes files.

    Raises:
      CheckpointError: if it is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise CheckpointError(
            "quantised and new GGUF files need the gguf library: pip install 'gemwright[gguf]'"
        ) from None
    return gguf
