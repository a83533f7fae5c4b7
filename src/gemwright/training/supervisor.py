"""The process that outlives the others: it runs their coordination service, and starts anew those that die.

It computes nothing and holds no weights. Each time all workers are there it starts a coordination service for them and
says from which step they go on. When one is lost, the others meet again.
"""

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gemwright.training.members import HEARTBEAT
from gemwright.training.wire import Message, Wire, listen

_PATIENCE = 60.0
"""Seconds that a worker on this machine has to come back to the others, once one was lost, before it is killed."""

Command = Callable[[str, int], subprocess.Popen[bytes]]
"""Starts a worker, by the supervisor's place and the worker's number."""


@dataclass
class _Worker:
    """A worker that is connected.

    Attributes:
      ready: what it said when it came to meet the others; None while it works.
    """

    wire: Wire
    ready: dict[str, Any] | None = None


class Supervisor:
    """Of a run of several processes.

    Attributes:
      place: HOST:PORT where workers come to.
    """

    def __init__(self, processes: int, host: str = "127.0.0.1", port: int = 0, restarts: int = 10) -> None:
        """Begin to listen.

        Args:
          restarts: of workers on this machine; one more ends the run.

        Raises:
          OSError: if the port is taken.
        """
        self.processes, self.restarts, self._host = processes, restarts, host
        self._listening = listen(host, port)
        self.place = f"{host}:{self._listening.getsockname()[1]}"
        self._began = time.time()
        self._workers: dict[int, _Worker] = {}
        self._done: set[int] = set()
        self._heard: queue.Queue[tuple[Wire, dict[str, Any] | None]] = queue.Queue()
        self._services: list[Any] = []
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._broken_since: float | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def run(self, start: Command, local: Sequence[int], stop: Callable[[], bool], say: Callable[[str], None]) -> int:
        """Start the workers of this machine and see the run to its end. Returns the exit status.

        Args:
          local: the numbers of the workers that are started here; the others come from elsewhere.
          stop: asked several times a second; once it says so, the workers are asked to stop.
          say: is told of workers that were lost.
        """
        self._children = {number: start(self.place, number) for number in local}
        asked = False
        try:
            while len(self._done) < self.processes:
                if stop() and not asked:
                    asked = True
                    self._end_children(kill=False)
                self._hear()
                for number, child in list(self._children.items()):
                    if (status := child.poll()) is None or number in self._done:
                        continue
                    if status >= 0 or asked or self.restarts == 0:  # told, or stopped: another start would not help
                        return status if status >= 0 else 128 - status
                    self.restarts -= 1
                    say(f"process {number} was lost (signal {-status}); started anew, the others wait for it")
                    self._children[number] = start(self.place, number)
                self._lose_patience(say)
            return max((child.wait() for child in self._children.values()), default=0)
        finally:
            self._end_children(kill=True)

    def _hear(self) -> None:
        """What workers said, for a moment."""
        try:
            wire, fields = self._heard.get(timeout=0.1)
        except queue.Empty:
            return
        number = next((number for number, worker in self._workers.items() if worker.wire is wire), None)
        if fields is None:
            if number is not None:
                del self._workers[number]
                if number not in self._done:
                    self._tell_broken()
        elif fields.get("done"):
            self._done |= set() if number is None else {number}
        else:
            number = int(fields["process"])
            if number in self._workers and self._workers[number].wire is not wire:
                self._tell_broken()  # it began anew before its end was heard of
            self._workers[number] = _Worker(wire, fields)
            if len(self._workers) == self.processes and all(worker.ready for worker in self._workers.values()):
                self._begin()

    def _tell_broken(self) -> None:
        self._broken_since = self._broken_since or time.monotonic()
        for worker in self._workers.values():
            if worker.ready is None:
                self._send(worker, {"broken": True})

    def _begin(self) -> None:
        """All are here: a new service for them, and where they go on."""
        from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]

        reached = listen(self._host)  # for its port, which is free
        port = reached.getsockname()[1]
        reached.close()
        # Older services stay: clients of theirs that are not gone yet would take their end for a fatal error.
        self._services.append(
            _jax.get_distributed_runtime_service(
                f"{self._host}:{port}",
                self.processes,
                heartbeat_timeout=HEARTBEAT,
                shutdown_timeout=5,
                recoverable=True,
            )
        )
        ready = {number: worker.ready or {} for number, worker in self._workers.items()}
        step, sources = common_step({number: _steps(found) for number, found in ready.items()})
        for number, worker in self._workers.items():
            source = sources.get(number, number)
            neighbour = ready[(number + 1) % self.processes]
            worker.ready = None
            self._send(
                worker,
                {
                    "service": port,
                    "step": step,
                    "began": self._began,
                    "neighbour": [neighbour["place"], neighbour["word"]],
                    "source": None if source == number else [ready[source]["place"], ready[source]["word"]],
                },
            )
        self._broken_since = None

    def _lose_patience(self, say: Callable[[str], None]) -> None:
        """Kill workers here that do not come back: they hang in a step that the lost one does not take."""
        if self._broken_since is None or time.monotonic() - self._broken_since < _PATIENCE:
            return
        for number, worker in self._workers.items():
            if worker.ready is None and number in self._children:
                say(f"process {number} does not come back; it is killed")
                self._children[number].kill()
        self._broken_since = time.monotonic()

    def _send(self, worker: _Worker, fields: dict[str, Any]) -> None:
        try:
            worker.wire.send(Message(fields))
        except OSError:  # it is lost too, as its thread will tell
            return

    def _accept(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            threading.Thread(target=self._listen, args=(Wire(connection),), daemon=True).start()

    def _listen(self, wire: Wire) -> None:
        while (message := wire.receive()) is not None:
            self._heard.put((wire, dict(message.fields)))
        self._heard.put((wire, None))

    def _end_children(self, kill: bool) -> None:
        for child in self._children.values():
            if child.poll() is None:
                (child.kill if kill else child.terminate)()


Held = dict[int, list[int]]
"""Of which processes and steps a worker holds parts."""


def common_step(held: dict[int, Held]) -> tuple[int | None, dict[int, int]]:
    """The newest step of which the workers together hold every process's parts, and who holds those of each.

    Args:
      held: by worker. One that has its own parts is its own source.
    """
    steps = sorted({step for found in held.values() for kept in found.values() for step in kept}, reverse=True)
    for step in steps:
        sources = {
            number: next(
                (holder for holder in (number, *held) if step in held[holder].get(number, [])),
                None,
            )
            for number in held
        }
        found = {number: source for number, source in sources.items() if source is not None}
        if len(found) == len(held):
            return step, found
    return None, {}


def _steps(ready: dict[str, Any]) -> Held:
    return {int(process): steps for process, steps in ready["steps"].items()}
