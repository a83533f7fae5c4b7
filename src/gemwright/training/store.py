"""Checkpoints of a run: written by Orbax beside the training, whole or not at all, for any mesh."""

import itertools
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import named_leaves, path_name

T = TypeVar("T")

_OLD = "state.safetensors"


class Store:
    """The checkpoints of one folder, the newest `keep` of them.

    An array is stored under its name in the tree, in parts that any mesh can read. A checkpoint is written in the
    background under another name and then renamed: whenever the process is killed, the newest whole one counts.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        """Open the folder, or make it.

        Raises:
          ModuleNotFoundError: if orbax is not installed.
          ValueError: if the folder holds a state that an older version wrote, or a file in the checkpoints' place.
        """
        if (folder / _OLD).exists():
            raise ValueError(
                f"{folder / _OLD}: state of an older version, which checkpoints no longer are; end that run with the "
                "version that began it, or use another folder"
            )
        try:
            import orbax.checkpoint as ocp
        except ModuleNotFoundError:
            raise ModuleNotFoundError("training needs orbax: pip install 'gemwright[train]'") from None
        self._ocp: Any = ocp
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
        handlers = {"state": ocp.StandardCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()}
        where = (folder / "checkpoints").resolve()
        if where.exists() and not where.is_dir():  # Orbax would wait for it for ever
            raise ValueError(f"{where}: expected a folder of checkpoints, found a file; use another folder")
        self._manager: Any = ocp.CheckpointManager(where, options=options, item_handlers=handlers)
        self.folder = folder / "checkpoints"

    def steps(self) -> list[int]:
        """Of which steps there are whole checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, notes: Mapping[str, Any]) -> None:
        """Begin to write a state; its arrays may be given up once this returns.

        Args:
          notes: what JSON can hold: where the data stand and what run it is.
        """
        # On a CPU the host's copy would be the very memory that the next step writes to.
        held = jax.tree.map(jnp.copy, state) if jax.default_backend() == "cpu" else state
        arguments = self._ocp.args
        items = arguments.Composite(
            state=arguments.StandardSave(named_leaves(held)), notes=arguments.JsonSave(dict(notes))
        )
        self._manager.save(step, args=items)

    def notes(self, step: int) -> dict[str, Any]:
        """What was noted with a state.

        Raises:
          ValueError: if it cannot be read.
        """
        with self._told_if_damaged(step):
            arguments = self._ocp.args.Composite(notes=self._ocp.args.JsonRestore())
            return self._manager.restore(step, args=arguments)["notes"]

    def restore(self, step: int, like: T) -> T:
        """A stored state, in the places of `like`, of which only shapes and shardings are read.

        Raises:
          ValueError: if it cannot be read, or is the state of another run; names an array that differs.
        """
        wanted = {name: _described(leaf) for name, leaf in named_leaves(like).items()}
        self._check(step, wanted)
        arguments = self._ocp.args.Composite(state=self._ocp.args.StandardRestore(wanted))
        with self._told_if_damaged(step):
            found = self._manager.restore(step, args=arguments)["state"]
        return jax.tree_util.tree_map_with_path(lambda path, _: found[path_name(path)], like)

    def shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        """Of the arrays of a stored state, by name."""
        with self._told_if_damaged(step):
            return {name: tuple(leaf.shape) for name, leaf in self._manager.item_metadata(step)["state"].items()}

    @contextmanager
    def _told_if_damaged(self, step: int) -> Generator[None]:
        """While a checkpoint is read, an error of Orbax's, which has many kinds, is one that says what to do."""
        try:
            yield
        except Exception as error:
            others = [other for other in self.steps() if other < step]
            after = f"from step {others[-1]}" if others else "from the beginning"
            raise ValueError(
                f"{self.folder / str(step)}: cannot be read ({type(error).__name__}): files of it are damaged or gone; "
                f"move that folder away, and the run goes on {after}"
            ) from error

    def _check(self, step: int, wanted: Mapping[str, Any]) -> None:
        stored = self.shapes(step)
        for name in sorted(stored.keys() | wanted.keys()):
            shape = wanted[name].shape if name in wanted else None
            if stored.get(name) != shape:
                raise ValueError(
                    f"{self.folder}: state of another run: {name}: expected {shape or 'none'}, found "
                    f"{stored.get(name) or 'none'}; use another folder"
                )

    def wait(self) -> None:
        """Until all that was begun is written."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and let go of the folder."""
        self._manager.close()


def number_anew() -> None:
    """Have Orbax count its savings from one again: processes that met anew must count alike."""
    from orbax.checkpoint._src.futures.synchronization import OperationIdGenerator

    counter: Any = OperationIdGenerator
    counter._operation_id_counter = itertools.count(1)


def _described(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=leaf.sharding)
