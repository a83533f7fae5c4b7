"""Google's Flax releases: what an Orbax folder holds, and our weights in it.

Layout: google-deepmind/gemma `gemma/gm/ckpts/_checkpoint.py` (a tree whose keys may be joined by slashes). Which
tensor is which weight stands in `flax_gemma.py` and `flax_griffin.py`. Needs the extra `orbax`.
"""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_tensors import stored_shape
from gemwright.checkpoints.hf_values import vocabulary
from gemwright.core.module import Spec, named_leaves
from gemwright.core.names import translate
from gemwright.models.family import Config, specs_of

EMBEDDING = "embedder/input_embedding"
"""(V, D), V with its padding."""

_MARKERS = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt")


@dataclass(frozen=True)
class Place:
    """Where a weight lies.

    Attributes:
      part: of the tensor's first axis, if not all.
      order: of its axes in ours.
      joined: heads are one axis there, and axes of size 1 do not count.
    """

    tensor: str
    part: int | None = None
    order: tuple[int, ...] | None = None
    joined: bool = False


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
    place: Place

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.tensors.dtypes[self.place.tensor]

    def shape(self) -> tuple[int, ...]:
        """As we order it, without padding."""
        stored = self.tensors.shapes[self.place.tensor]
        part = stored if self.place.part is None else stored[1:]
        ordered = part if self.place.order is None else tuple(part[axis] for axis in self.place.order)
        if self.place.joined:
            return tuple(size for size in ordered if size > 1)
        return (vocabulary(ordered[0]), *ordered[1:]) if self.place.tensor == EMBEDDING else ordered

    def read(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """A view of the tensor."""
        whole = self.tensors.read(self.place.tensor)
        part = whole if self.place.part is None else whole[self.place.part]
        ordered = part if self.place.order is None else part.transpose(self.place.order)
        return ordered.reshape(shape) if self.place.joined else ordered[: shape[0]]  # what follows is padding

    def release(self, view: np.ndarray[Any, Any]) -> None:
        """Nothing: it is no mapped file."""

    def __str__(self) -> str:
        return f"{self.tensors.folder}: tensor {self.place.tensor}"


def match_places(
    tensors: FlaxTensors, config: Config, places: Mapping[str, Place], left_out: str
) -> dict[str, FlaxWeight]:
    """The place of each weight of a model.

    Args:
      places: by our names, with a star for the number of a layer in both.
      left_out: a pattern of tensors that are not of this model though they may stand beside it.

    Raises:
      CheckpointError: if a tensor is missing, has another shape, or is none of this model's.
    """
    specs: dict[str, Spec] = named_leaves(specs_of(config))
    present = {name: place for name, place in places.items() if any(_starred(each) == name for each in specs)}
    paths = translate(specs, [(pattern, place.tensor) for pattern, place in present.items()])
    weights = {name: FlaxWeight(tensors, replace(present[_starred(name)], tensor=path)) for name, path in paths.items()}
    known = set(paths.values())
    for path in sorted(path for path in tensors.shapes if path not in known and not re.match(left_out, path)):
        raise CheckpointError(f"{tensors.folder}: tensor {path}: expected none of this name in a {config.family}")
    for name, weight in weights.items():
        tensor_shape(tensors, weight.place.tensor)
        spec = specs[name]
        expected = tuple(size for size in stored_shape(spec) if size > 1) if weight.place.joined else spec.shape
        if weight.shape() != expected:
            raise CheckpointError(f"{weight}: expected {expected} in our order of axes, found {weight.shape()}")
    return weights


def _starred(name: str) -> str:
    return re.sub(r"\.\d+\.", ".*.", name, count=1)


def tensor_shape(tensors: FlaxTensors, path: str, axes: int | None = None) -> tuple[int, ...]:
    """A tensor's shape; raises CheckpointError if there is none, or it has another number of axes."""
    shape = tensors.shapes.get(path)
    if shape is None or (axes is not None and len(shape) != axes):
        expected = "it in a model of these families" if axes is None else f"{axes} axes"
        raise CheckpointError(f"{tensors.folder}: tensor {path}: expected {expected}, found {shape or 'none'}")
    return shape


def layer_count(tensors: FlaxTensors, prefix: str) -> int:
    """How many layers have tensors."""
    return len({path.split("/")[0] for path in tensors.shapes if path.startswith(prefix)})
