"""A process of a supervised run: it meets the others, and meets them again when one of them was lost."""

import contextlib
import gc
import queue
import threading
from collections.abc import Callable
from typing import Any

import jax

from gemwright.training.replicas import Replicas
from gemwright.training.store import number_anew
from gemwright.training.wire import Message, connect, parse_place

HEARTBEAT = 10
"""Seconds without a sign of life after which JAX takes a process for dead."""

_NOTICE = 20.0
"""Seconds that a failed step waits to hear whether another process was lost."""


class Lost(ConnectionError):
    """The supervisor is gone."""


class Members:
    """This process among those of a run.

    Attributes:
      replicas: in memory, what to go on from.
      step: where all go on, by what is held in memory; None if it is not whole, at the beginning for one.
      closing: called when a process was lost, before all meet again.
      began: when the run's supervisor started, in seconds since 1970.
    """

    def __init__(self, supervisor: str, process: int, processes: int) -> None:
        """Reach the supervisor.

        Raises:
          ValueError: if the place or the numbers make no sense.
          OSError: if nobody listens there.
        """
        if not 0 <= process < processes:
            raise ValueError(f"--process {process}: expected 0 to {processes - 1} of --processes {processes}")
        host, port = parse_place(supervisor)
        self.process, self.processes, self._host = process, processes, host
        self._wire = connect(host, port)
        self._told: queue.Queue[Message | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.replicas = Replicas(process, self._wire.here())
        self.step: int | None = None
        self.began = 0.0
        self.closing: list[Callable[[], None]] = []
        self._clients: list[Any] = []

    def meet(self) -> None:
        """Wait for all others; then `jax.devices()` are those of all, and `step` says where to go on.

        Raises:
          Lost: if the supervisor ends.
        """
        mine = self.replicas
        self._wire.send(
            Message(
                {
                    "process": self.process,
                    "place": mine.place,
                    "word": mine.word,
                    "steps": {str(process): steps for process, steps in mine.steps().items()},
                }
            )
        )
        told = self._next(lambda fields: "service" in fields)
        self._join(f"{self._host}:{told['service']}")
        self.step, self.began = told["step"], told["began"]
        mine.neighbour = (tuple(told["neighbour"][0]), told["neighbour"][1])
        if self.step is not None:
            if told["source"] is not None:
                mine.fetch(self.step, tuple(told["source"][0]), told["source"][1])
            mine.forget_after(self.step)
            mine.share(self.step)

    def meet_again(self) -> bool:
        """After a failed step: whether another process was lost, and all have met again.

        Every array of this process is gone then, but those of `replicas`.
        """
        try:
            self._next(lambda fields: fields.get("broken", False), _NOTICE)
        except queue.Empty:
            return False
        import jax.extend

        for close in self.closing:
            with contextlib.suppress(Exception):  # of what was being written together with the lost one
                close()
        self.closing.clear()
        jax.clear_caches()
        gc.collect()
        jax.extend.backend.clear_backends()
        number_anew()
        self.meet()
        return True

    def done(self) -> None:
        """Say that nothing is left to do."""
        self._wire.send(Message({"done": True}))

    def _join(self, service: str) -> None:
        """Be a client of a new coordination service, which the supervisor runs and no process's end takes away."""
        # JAX would have process 0 run the service, and let nobody join twice.
        from jax._src import distributed
        from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.config.update("jax_enable_recoverability", True)
        client: Any = _jax.get_distributed_runtime_client(
            service, self.process, init_timeout=120, use_compression=True, heartbeat_timeout=HEARTBEAT
        )
        client.connect()
        state: Any = distributed.global_state
        state.process_id, state.num_processes = self.process, self.processes
        state.coordinator_address, state.client = service, client
        self._clients.append(client)  # an older one may be asked for by threads that still run

    def _listen(self) -> None:
        while True:
            message = self._wire.receive()
            if message is not None and message.fields.get("broken"):
                self._leave()
            self._told.put(message)
            if message is None:
                return

    def _leave(self) -> None:
        """End this process's part in the coordination, so that no barrier waits for the lost one."""
        try:
            self._clients[-1].shutdown()
        except RuntimeError:  # it saw the loss itself
            return

    def _next(self, wanted: Any, seconds: float | None = None) -> dict[str, Any]:
        while True:
            message = self._told.get(timeout=seconds)
            if message is None:
                raise Lost("the supervisor of the run is gone; start it again, and it goes on from the last checkpoint")
            if wanted(message.fields):
                return dict(message.fields)
