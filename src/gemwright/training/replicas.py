"""What each process needs to go on, in its own memory and in its neighbour's: no file is read when one is lost.

Process p keeps its parts of the state of some step, and sends them to process p + 1, the last one to the first. A
process that starts anew takes its parts from there.
"""

import queue
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from gemwright.core.module import named_leaves, path_name
from gemwright.training.wire import Array, Message, Wire, connect, listen

T = TypeVar("T")

_KEPT = 2
"""Steps whose states are held: while the newest is on its way to the neighbours, the one before is whole."""


@dataclass(frozen=True)
class Parts:
    """One process's parts of a state.

    Attributes:
      notes: what JSON can hold, beside it.
      arrays: each under the array's name in the state, and the number of the part among this process's.
    """

    notes: Mapping[str, Any]
    arrays: Mapping[str, Array]


class Replicas:
    """The parts that this process holds, and a server that gives them to those who know the run's word."""

    def __init__(self, process: int, host: str) -> None:
        self.process = process
        self.word = secrets.token_hex(16)
        self._held: dict[int, dict[int, Parts]] = {}
        self._lock = threading.Lock()
        self._listening = listen(host)
        self.place = (host, int(self._listening.getsockname()[1]))
        self._sending: queue.Queue[tuple[tuple[str, int], str, int, Parts]] = queue.Queue()
        self.neighbour: tuple[tuple[str, int], str] | None = None
        for work in (self._serve, self._send):
            threading.Thread(target=work, daemon=True).start()

    def steps(self) -> dict[int, list[int]]:
        """Of which processes and steps there are parts here."""
        with self._lock:
            return {process: sorted(found) for process, found in self._held.items()}

    def keep(self, step: int, state: Any, notes: Mapping[str, Any]) -> None:
        """Copy this process's parts of a state, and begin to send them to the neighbour."""
        parts = Parts(dict(notes), _copied(state))
        self._put(self.process, step, parts)
        self.share(step)

    def share(self, step: int) -> None:
        """Begin to send this process's parts of a step to the neighbour, if there is one."""
        if self.neighbour is not None:
            self._sending.put((*self.neighbour, step, self.parts(step)))

    def parts(self, step: int) -> Parts:
        """This process's, of a step that is held."""
        with self._lock:
            return self._held[self.process][step]

    def state(self, step: int, like: T) -> T:
        """The state of a step, in the places of `like`; each process calls this with its own parts."""
        arrays = self.parts(step).arrays

        def one(path: Any, leaf: Any) -> jax.Array:
            places = _indices(leaf.sharding, leaf.shape)
            found = {index: arrays[_part_name(path_name(path), number)] for number, index in enumerate(places)}
            return jax.make_array_from_callback(
                leaf.shape, leaf.sharding, lambda index: found[_bounds(index, leaf.shape)]
            )

        return jax.tree_util.tree_map_with_path(one, like)

    def fetch(self, step: int, place: tuple[str, int], word: str) -> None:
        """Take this process's parts of a step from another that holds them.

        Raises:
          RuntimeError: if it does not have them.
        """
        wire = connect(*place)
        wire.send(Message({"word": word, "want": self.process, "step": step}))
        found = wire.receive()
        wire.close()
        if found is None or "notes" not in found.fields:
            raise RuntimeError(f"process {self.process}: {place} has no parts of step {step}")
        self._put(self.process, step, Parts(found.fields["notes"], found.arrays))

    def forget_after(self, step: int) -> None:
        """Drop what was held of later steps: they are taken again."""
        with self._lock:
            for found in self._held.values():
                for later in [held for held in found if held > step]:
                    del found[later]

    def _put(self, process: int, step: int, parts: Parts) -> None:
        with self._lock:
            found = self._held.setdefault(process, {})
            found[step] = parts
            for old in sorted(found)[:-_KEPT]:
                del found[old]

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            threading.Thread(target=self._answer, args=(Wire(connection),), daemon=True).start()

    def _answer(self, wire: Wire) -> None:
        asked = wire.receive()
        if asked is not None and secrets.compare_digest(str(asked.fields.get("word")), self.word):
            fields = asked.fields
            if "notes" in fields:
                self._put(fields["process"], fields["step"], Parts(fields["notes"], asked.arrays))
            with self._lock:
                found = self._held.get(fields.get("want", -1), {}).get(fields["step"])
            wire.send(Message({"notes": found.notes}, found.arrays) if found else Message({}))
        wire.close()

    def _send(self) -> None:
        while True:
            place, word, step, parts = self._sending.get()
            try:
                wire = connect(*place)
                fields = {"word": word, "process": self.process, "step": step, "notes": parts.notes}
                wire.send(Message(fields, parts.arrays))
                wire.receive()
                wire.close()
            except OSError:  # the neighbour died; all meet again
                continue


Bounds = tuple[tuple[int, int], ...]


def _copied(state: Any) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, leaf in named_leaves(state).items():
        here = {_bounds(shard.index, leaf.shape): shard for shard in leaf.addressable_shards}
        for number, index in enumerate(_indices(leaf.sharding, leaf.shape)):
            found[_part_name(name, number)] = np.array(here[index].data)
    return found


def _part_name(name: str, number: int) -> str:
    return f"{name}#{number}"


def _indices(sharding: Any, shape: tuple[int, ...]) -> list[Bounds]:
    """The different parts of an array on this process's devices, in order."""
    return sorted({_bounds(index, shape) for index in sharding.addressable_devices_indices_map(shape).values()})


def _bounds(index: tuple[Any, ...] | None, shape: tuple[int, ...]) -> Bounds:
    spans: Any = (part.indices(size) for part, size in zip(index or (), shape, strict=True))
    return tuple((first, last) for first, last, _ in spans)
