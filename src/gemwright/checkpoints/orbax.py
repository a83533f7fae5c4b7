"""Google's Flax releases of Gemma 1 and 2: Orbax folders.

Layout: google-deepmind/gemma `gemma/gm/ckpts/_checkpoint.py` (a tree whose keys may be joined by
slashes), before b5aef38 `gemma/modules.py` (shapes). Matrices there are (in, out) and ours (out,
in), so that most are transposed. The size of the model is read from the shapes. Needs the extra
`orbax`.

Letters: D embedding width, H query heads, G key/value heads, K head size, F width of one MLP
branch, V vocabulary with its padding.
"""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_values import vocabulary
from gemwright.core.module import Spec, named_leaves
from gemwright.core.names import translate
from gemwright.models.gemma import PRESETS, Config, Gemma, gemma1, gemma2

_MARKERS = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt")


@dataclass(frozen=True)
class _Place:
    """Where a weight lies: which part of a tensor's first axis, if not all, and the order of its axes in ours."""

    tensor: str
    part: int | None = None
    order: tuple[int, ...] | None = None


_EMBEDDING = "embedder/input_embedding"  # (V, D)

_PLAIN = {
    "embedding": _Place(_EMBEDDING),
    "final_norm": _Place("final_norm/scale"),
    "layers.*.attention_norm": _Place("layer_*/pre_attention_norm/scale"),
    "layers.*.attention_post_norm": _Place("layer_*/post_attention_norm/scale"),
    "layers.*.mlp_norm": _Place("layer_*/pre_ffw_norm/scale"),
    "layers.*.mlp_post_norm": _Place("layer_*/post_ffw_norm/scale"),
}
_OUTPUTS = {
    "layers.*.attention.output": _Place("layer_*/attn/attn_vec_einsum", order=(2, 0, 1)),  # (H, K, D)
    "layers.*.mlp.down": _Place("layer_*/mlp/linear", order=(1, 0)),  # (F, D)
}
_SPLIT_HEADS = {  # more query heads than key heads
    "layers.*.attention.query": _Place("layer_*/attn/q_einsum", order=(0, 2, 1)),  # (H, D, K)
    "layers.*.attention.key": _Place("layer_*/attn/kv_einsum", 0, (0, 2, 1)),  # (2, G, D, K)
    "layers.*.attention.value": _Place("layer_*/attn/kv_einsum", 1, (0, 2, 1)),
}
_JOINED_HEADS = {  # as many
    f"layers.*.attention.{name}": _Place("layer_*/attn/qkv_einsum", part, (0, 2, 1))  # (3, H, D, K)
    for part, name in enumerate(("query", "key", "value"))
}
_GATE_IN_OUT = {  # (2, D, F)
    f"layers.*.mlp.{name}": _Place("layer_*/mlp/gating_einsum", part, (1, 0))
    for part, name in enumerate(("gate", "up"))
}
_GATE_OUT_IN = {  # (2, F, D), the releases of Gemma 2 9B and 27B
    f"layers.*.mlp.{name}": _Place("layer_*/mlp/gating_einsum", part) for part, name in enumerate(("gate", "up"))
}

# ------------------------------------------------------------------------------------- the folder


@dataclass
class FlaxTensors:
    """The tensors of an Orbax folder.

    Attributes:
      shapes, dtypes: by path, as `layer_0/attn/q_einsum`.
    """

    folder: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, np.dtype[Any]]
    _keys: dict[str, tuple[str, ...]]
    _last: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def read(self, path: str) -> np.ndarray[Any, Any]:
        """One tensor. The last one is kept, since its parts are asked for one after another."""
        if path not in self._last:
            self._last.clear()
            self._last[path] = _restore(self.folder, self._keys[path])
        return self._last[path]


def is_flax(folder: Path) -> bool:
    """Whether a folder is an Orbax checkpoint."""
    return any((folder / name).exists() for name in _MARKERS)


def open_flax(folder: Path) -> FlaxTensors:
    """Read what tensors an Orbax folder has; reads none of them.

    Raises:
      CheckpointError: if orbax is not installed, or the folder cannot be understood.
    """
    leaves = dict(_leaves(_metadata(folder)))
    named = {_clean(keys): keys for keys in leaves}
    shapes = {path: tuple(leaves[keys].shape) for path, keys in named.items()}
    dtypes = {path: np.dtype(leaves[keys].dtype) for path, keys in named.items()}
    return FlaxTensors(folder, shapes, dtypes, named)


def _metadata(folder: Path) -> Mapping[str, Any]:
    with _reading(folder) as checkpointer:
        found = checkpointer.metadata(folder.resolve()).item_metadata
    tree = None if found is None else found.tree
    if not isinstance(tree, Mapping) or not tree:
        raise CheckpointError(f"{folder}: expected an Orbax checkpoint of a Flax model, found no tree of tensors in it")
    return tree


def _leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    pairs: list[tuple[tuple[str, ...], Any]] = []
    for key, value in tree.items():
        keys = (*above, key)
        pairs.extend(_leaves(value, keys) if isinstance(value, Mapping) else [(keys, value)])
    return pairs


def _clean(keys: tuple[str, ...]) -> str:
    """`layer_0/mlp/linear` from either spelling: keys joined or nested, with `w` at the end or without."""
    return re.sub(r"^(params/)?(transformer/)?|/w$", "", "/".join(keys))


def _restore(folder: Path, keys: tuple[str, ...]) -> np.ndarray[Any, Any]:
    with _reading(folder) as checkpointer:
        import orbax.checkpoint as ocp

        item: Any = 0
        arguments: Any = ocp.RestoreArgs(restore_type=np.ndarray)
        for key in reversed(keys):
            item, arguments = {key: item}, {key: arguments}
        wanted = ocp.args.PyTreeRestore(item=item, restore_args=arguments, partial_restore=True)
        tree: Any = checkpointer.restore(folder.resolve(), args=wanted)
    for key in keys:
        tree = tree[key]
    return tree


@contextmanager
def _reading(folder: Path) -> Generator[Any]:
    try:
        import orbax.checkpoint as ocp
    except ImportError:
        raise CheckpointError("Google's Flax checkpoints need orbax: pip install 'gemwright[orbax]'") from None
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            yield checkpointer
    except Exception as error:  # the library has no error class of its own for damaged files
        first_line = (str(error).splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first_line}"
        raise CheckpointError(f"{folder}: orbax cannot read it ({reason}); fetch it again") from None


# -------------------------------------------------------------------------------------- the match


@dataclass(frozen=True)
class FlaxWeight:
    """One of our weights in an Orbax folder."""

    tensors: FlaxTensors
    place: _Place

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.tensors.dtypes[self.place.tensor]

    def shape(self) -> tuple[int, ...]:
        """As we order it, without padding."""
        stored = self.tensors.shapes[self.place.tensor]
        part = stored if self.place.part is None else stored[1:]
        ordered = part if self.place.order is None else tuple(part[axis] for axis in self.place.order)
        return (vocabulary(ordered[0]), *ordered[1:]) if self.place.tensor == _EMBEDDING else ordered

    def read(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """A view of the tensor."""
        whole = self.tensors.read(self.place.tensor)
        part = whole if self.place.part is None else whole[self.place.part]
        ordered = part if self.place.order is None else part.transpose(self.place.order)
        return ordered[: shape[0]]  # rows after the vocabulary are padding

    def release(self, view: np.ndarray[Any, Any]) -> None:
        """Nothing: it is no mapped file."""

    def __str__(self) -> str:
        return f"{self.tensors.folder}: tensor {self.place.tensor}"


def match_flax(tensors: FlaxTensors) -> tuple[Config, dict[str, FlaxWeight]]:
    """The model's constants, and the place of each of its weights.

    Raises:
      CheckpointError: if the tensors are not those of a Gemma 1 or 2.
    """
    config = _config(tensors)
    places = _places(tensors, config)
    specs: dict[str, Spec] = named_leaves(Gemma.specs(config))
    paths = translate(specs, [(pattern, place.tensor) for pattern, place in places.items()])
    weights = {
        name: FlaxWeight(tensors, replace(places[re.sub(r"\.\d+\.", ".*.", name)], tensor=path))
        for name, path in paths.items()
    }
    surplus = sorted(set(tensors.shapes) - set(paths.values()))
    if surplus:
        raise CheckpointError(f"{tensors.folder}: tensor {surplus[0]}: expected none of this name in a Gemma 1 or 2")
    for name, weight in weights.items():
        _shape(tensors, weight.place.tensor)
        if weight.shape() != specs[name].shape:
            raise CheckpointError(
                f"{weight}: expected {specs[name].shape} in our order of axes, found {weight.shape()}"
            )
    return config, weights


def _places(tensors: FlaxTensors, config: Config) -> dict[str, _Place]:
    joined = "layer_0/attn/qkv_einsum" in tensors.shapes
    gating, width = _shape(tensors, "layer_0/mlp/gating_einsum", 3), (config.embed_dim, config.mlp_dim)
    if width[0] == width[1]:
        raise CheckpointError(f"{tensors.folder}: a model whose MLP is as wide as its embedding can be read two ways")
    gate = _GATE_OUT_IN if gating[1:] == width[::-1] else _GATE_IN_OUT
    return {**_PLAIN, **_OUTPUTS, **(_JOINED_HEADS if joined else _SPLIT_HEADS), **gate}


def _config(tensors: FlaxTensors) -> Config:
    """The constants that shapes tell, and the preset's of the same shapes for those they do not."""
    family = "gemma2" if "layer_0/post_attention_norm/scale" in tensors.shapes else "gemma"
    sizes = _sizes(tensors)
    for preset in PRESETS.values():
        if preset.family == family and all(getattr(preset, name) == size for name, size in sizes.items()):
            return preset
    return gemma2(**sizes) if family == "gemma2" else gemma1(**sizes)


def _sizes(tensors: FlaxTensors) -> dict[str, int]:
    rows, embed_dim = _shape(tensors, _EMBEDDING, 2)
    heads, head_dim, _ = _shape(tensors, "layer_0/attn/attn_vec_einsum", 3)
    joined = "layer_0/attn/qkv_einsum" in tensors.shapes
    return {
        "vocab_size": vocabulary(rows),
        "embed_dim": embed_dim,
        "num_layers": len({path.split("/")[0] for path in tensors.shapes if path.startswith("layer_")}),
        "num_heads": heads,
        "num_kv_heads": heads if joined else _shape(tensors, "layer_0/attn/kv_einsum", 4)[1],
        "head_dim": head_dim,
        "mlp_dim": _shape(tensors, "layer_0/mlp/linear", 2)[0],
    }


def _shape(tensors: FlaxTensors, path: str, axes: int | None = None) -> tuple[int, ...]:
    shape = tensors.shapes.get(path)
    if shape is None or (axes is not None and len(shape) != axes):
        expected = "it in a Gemma 1 or 2" if axes is None else f"{axes} axes"
        raise CheckpointError(f"{tensors.folder}: tensor {path}: expected {expected}, found {shape or 'none'}")
    return shape
