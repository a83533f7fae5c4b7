"""PaliGemma 1 and 2 in big_vision's .npz files: which array is which weight.

Layout: google-research/big_vision `models/vit.py`, `models/ppp/gemma.py` and `models/proj/paligemma/paligemma.py`, as
published: all layers of a half in one array, layer by layer. Matrices there are (in, out) and ours (out, in). The
sizes are read from the shapes; what no shape tells is the preset's of the same shapes.

Letters: L layers, D embedding width, H query heads, G key/value heads, K head size, F width of an MLP, N patches,
P side of a patch, W width of the tower, V vocabulary.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.flax_gemma import constants_of
from gemwright.checkpoints.folders import lone_file
from gemwright.checkpoints.hf_values import vocabulary
from gemwright.checkpoints.mask_decoder import FILE_NAME as MASK_DECODER
from gemwright.checkpoints.npz_file import NpzFile
from gemwright.core.module import Spec, named_leaves
from gemwright.models import siglip
from gemwright.models.gemma import Config as GemmaConfig
from gemwright.models.paligemma import Config, PaliGemma

SUFFIX = ".npz"

TOKENIZER = "paligemma_tokenizer.model"
"""As big_vision publishes it, beside the weights."""

_PARAMS = "params/"
"""Before the weights; what else a run kept, such as its optimizer's state, is left alone."""


@dataclass(frozen=True)
class _Place:
    """Where a weight lies.

    Attributes:
      part: its number among those that one array holds, and how many these are.
      order: of the array's axes in ours.
      heads: they are an axis of their own there.
    """

    tensor: str
    part: tuple[int, int] | None = None
    order: tuple[int, ...] | None = None
    heads: bool = False


_BLOCK, _LAYER = "img/Transformer/encoderblock", "llm/layers"
_ATTENTION, _MLP = f"{_BLOCK}/MultiHeadDotProductAttention_0", f"{_BLOCK}/MlpBlock_0"

_TOWER = {
    "vision.patch": _Place("img/embedding/kernel", order=(3, 2, 0, 1)),  # (P, P, 3, W)
    "vision.patch_bias": _Place("img/embedding/bias"),
    "vision.position": _Place("img/pos_embedding", (0, 1)),  # (1, N, W)
    **{
        f"vision.layers.*.{ours}_norm.{part}": _Place(f"{_BLOCK}/LayerNorm_{number}/{part}")
        for number, ours in enumerate(("attention", "mlp"))
        for part in ("scale", "bias")
    },
    **{
        f"vision.layers.*.attention.{name}": _Place(f"{_ATTENTION}/{name}/kernel", order=(1, 2, 0))  # (W, H, K)
        for name in ("query", "key", "value")
    },
    **{
        f"vision.layers.*.attention.{name}_bias": _Place(f"{_ATTENTION}/{name}/bias", heads=True)  # (H, K)
        for name in ("query", "key", "value")
    },
    "vision.layers.*.attention.output": _Place(f"{_ATTENTION}/out/kernel", order=(2, 0, 1)),  # (H, K, W)
    "vision.layers.*.attention.output_bias": _Place(f"{_ATTENTION}/out/bias"),
    **{
        f"vision.layers.*.mlp.{name}": _Place(f"{_MLP}/Dense_{number}/kernel", order=(1, 0))
        for number, name in enumerate(("up", "down"))
    },
    **{
        f"vision.layers.*.mlp.{name}_bias": _Place(f"{_MLP}/Dense_{number}/bias")
        for number, name in enumerate(("up", "down"))
    },
    **{f"vision.final_norm.{part}": _Place(f"img/Transformer/encoder_norm/{part}") for part in ("scale", "bias")},
    "projector.matrix": _Place("img/head/kernel", order=(1, 0)),  # (W, D)
    "projector.bias": _Place("img/head/bias"),
}
_DECODER = {
    "decoder.embedding": _Place("llm/embedder/input_embedding"),
    "decoder.final_norm": _Place("llm/final_norm/scale"),
    "decoder.layers.*.attention_norm": _Place(f"{_LAYER}/pre_attention_norm/scale"),
    "decoder.layers.*.attention_post_norm": _Place(f"{_LAYER}/post_attention_norm/scale"),
    "decoder.layers.*.mlp_norm": _Place(f"{_LAYER}/pre_ffw_norm/scale"),
    "decoder.layers.*.mlp_post_norm": _Place(f"{_LAYER}/post_ffw_norm/scale"),
    "decoder.layers.*.attention.output": _Place(f"{_LAYER}/attn/attn_vec_einsum/w", order=(2, 0, 1)),  # (H, K, D)
    "decoder.layers.*.mlp.gate": _Place(f"{_LAYER}/mlp/gating_einsum", (0, 2), (1, 0)),  # (2, D, F)
    "decoder.layers.*.mlp.up": _Place(f"{_LAYER}/mlp/gating_einsum", (1, 2), (1, 0)),
    "decoder.layers.*.mlp.down": _Place(f"{_LAYER}/mlp/linear", order=(1, 0)),  # (F, D)
}
_SPLIT_HEADS = {  # more query heads than key heads
    "decoder.layers.*.attention.query": _Place(f"{_LAYER}/attn/q_einsum/w", order=(0, 2, 1)),  # (H, D, K)
    "decoder.layers.*.attention.key": _Place(f"{_LAYER}/attn/kv_einsum/w", (0, 2), (0, 2, 1)),  # (2, G, D, K)
    "decoder.layers.*.attention.value": _Place(f"{_LAYER}/attn/kv_einsum/w", (1, 2), (0, 2, 1)),
}
_JOINED = f"{_LAYER}/attn/qkv_einsum/w"
_JOINED_HEADS = {  # as many
    f"decoder.layers.*.attention.{name}": _Place(_JOINED, (part, 3), (0, 2, 1))  # (3, H, D, K)
    for part, name in enumerate(("query", "key", "value"))
}

# -------------------------------------------------------------------------------------- the match


@dataclass(frozen=True)
class NpzWeight:
    """One of our weights in a file.

    Attributes:
      index: of the part that it is of its array, axis by axis.
      order: of that part's axes in ours.
    """

    file: NpzFile
    name: str
    index: tuple[int, ...]
    order: tuple[int, ...] | None

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.file.entries[self.name].dtype

    def read(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """A view of the file, or where the order differs a copy: pages of a stacked array are read once so."""
        part = self.file.view(self.name)[self.index]
        ordered = part if self.order is None else np.ascontiguousarray(part.transpose(self.order))
        return ordered[: shape[0]] if ordered.ndim == len(shape) else ordered.reshape(shape)  # the rest is padding

    def release(self, view: np.ndarray[Any, Any]) -> None:
        """Nothing: the system takes mapped pages back when it needs them."""

    def __str__(self) -> str:
        return f"{self.file.path}: tensor {self.name}"


def npz_file(path: Path) -> Path | None:
    """The .npz file that a path means: itself, or the only one in a folder without a `config.json`; None if none.

    Raises:
      CheckpointError: if the folder has several.
    """
    return lone_file(path, SUFFIX, but=MASK_DECODER)


def match_paligemma(path: Path) -> tuple[Config, dict[str, NpzWeight]]:
    """The constants of the model in a file, and the place of each of its weights; reads none of them.

    Raises:
      CheckpointError: if the file is damaged, or an array is missing, has another shape, or is none of this model's.
    """
    file = NpzFile(path)
    config = _config(file)
    places = {**_TOWER, **_DECODER, **(_JOINED_HEADS if _JOINED in _names(file) else _SPLIT_HEADS)}
    specs: dict[str, Spec] = named_leaves(PaliGemma.specs(config))
    found = {name: places[re.sub(r"\.\d+\.", ".*.", name)] for name in specs}
    _check_known(file, config, {place.tensor for place in found.values()})
    return config, {name: _weight(file, config, name, specs[name].shape, place) for name, place in found.items()}


def _check_known(file: NpzFile, config: Config, known: set[str]) -> None:
    for tensor, name in _names(file).items():
        if tensor not in known:
            raise CheckpointError(f"{file.path}: tensor {name}: expected none of this name in a {config.family}")


def _weight(file: NpzFile, config: Config, name: str, shape: tuple[int, ...], place: _Place) -> NpzWeight:
    """Where a weight lies, its array's shape checked."""
    layer = re.search(r"\.(\d+)\.", name)
    layers = config.vision.num_layers if name.startswith("vision.") else config.decoder.num_layers
    stacked = () if layer is None else (layers,)
    fused = () if place.part is None else (place.part[1],)
    expected = (*stacked, *fused, *_as_stored(shape, place, config.vision.num_heads))
    stored = _shape(file, place.tensor)
    held = (vocabulary(stored[0]), *stored[1:]) if place.tensor == _EMBEDDING else stored
    if held != expected:
        raise CheckpointError(f"{file.path}: tensor {_names(file)[place.tensor]}: expected {expected}, found {stored}")
    index = (*(() if layer is None else (int(layer[1]),)), *(() if place.part is None else (place.part[0],)))
    return NpzWeight(file, _names(file)[place.tensor], index, place.order)


def _as_stored(shape: tuple[int, ...], place: _Place, heads: int) -> tuple[int, ...]:
    """The shape there of a weight whose shape here is `shape`."""
    if place.heads:
        return heads, shape[0] // heads
    order = place.order or range(len(shape))
    return tuple(shape[tuple(order).index(axis)] for axis in range(len(shape)))


def _names(file: NpzFile) -> Mapping[str, str]:
    """The arrays of the model by their names in it, and their names in the file."""
    inside = {name.removeprefix(_PARAMS): name for name in file.entries if name.startswith(_PARAMS)}
    return inside or {name: name for name in file.entries}


def _shape(file: NpzFile, tensor: str, axes: int | None = None) -> tuple[int, ...]:
    """An array's shape; raises CheckpointError if there is none, or it has another number of axes."""
    name = _names(file).get(tensor)
    shape = None if name is None else file.entries[name].shape
    if shape is None or (axes is not None and (len(shape) != axes or 0 in shape)):
        expected = "it in a PaliGemma of big_vision" if axes is None else f"{axes} axes in a PaliGemma of big_vision"
        raise CheckpointError(f"{file.path}: tensor {name or tensor}: expected {expected}, found {shape or 'none'}")
    return shape


# ------------------------------------------------------------------------------------- constants

_EMBEDDING = _DECODER["decoder.embedding"].tensor


def _config(file: NpzFile) -> Config:
    try:
        return Config(_vision(file), _decoder(file))
    except ValueError as error:  # of a tower whose sizes do not go together
        raise CheckpointError(f"{file.path}: {error}") from None


def _vision(file: NpzFile) -> siglip.Config:
    patch_size, _, _, width = _shape(file, "img/embedding/kernel", 4)
    patches = _shape(file, "img/pos_embedding", 3)[1]
    layers, _, heads, _ = _shape(file, f"{_ATTENTION}/query/kernel", 4)
    mlp_dim = _shape(file, f"{_MLP}/Dense_0/kernel", 3)[2]
    side = math.isqrt(patches)
    if side * side != patches:
        name = _names(file)["img/pos_embedding"]
        raise CheckpointError(f"{file.path}: tensor {name}: expected patches in a square, found {patches}")
    return siglip.Config(side * patch_size, patch_size, width, layers, heads, mlp_dim)


def _decoder(file: NpzFile) -> GemmaConfig:
    rows, embed_dim = _shape(file, _EMBEDDING, 2)
    layers, heads, head_dim, _ = _shape(file, f"{_LAYER}/attn/attn_vec_einsum/w", 4)
    joined = _JOINED in _names(file)
    sizes = {
        "vocab_size": vocabulary(rows),
        "embed_dim": embed_dim,
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": heads if joined else _shape(file, f"{_LAYER}/attn/kv_einsum/w", 5)[2],
        "head_dim": head_dim,
        "mlp_dim": _shape(file, f"{_LAYER}/mlp/linear", 3)[1],
    }
    family = "gemma2" if f"{_LAYER}/post_attention_norm/scale" in _names(file) else "gemma"
    found = constants_of(family, sizes)
    assert isinstance(found, GemmaConfig)
    return found
