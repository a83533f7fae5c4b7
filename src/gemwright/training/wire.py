"""Messages between the processes of a run: a line of JSON, and arrays after it."""

import contextlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

Array = np.ndarray[Any, Any]

_LONGEST = 1 << 24  # characters of a line


@dataclass(frozen=True)
class Message:
    """What is sent at once.

    Attributes:
      fields: what JSON can hold.
      arrays: by name.
    """

    fields: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict[str, Array])


class Wire:
    """One end of a connection. One thread reads from it; several may send, one at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._file = connection, connection.makefile("rb")

    def send(self, message: Message) -> None:
        """Send, and wait until the other end's buffers took it.

        Raises:
          OSError: if the other end is gone.
        """
        kinds = [[name, value.dtype.name, list(value.shape)] for name, value in message.arrays.items()]
        self._socket.sendall(json.dumps({"fields": dict(message.fields), "arrays": kinds}).encode() + b"\n")
        for value in message.arrays.values():
            self._socket.sendall(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)

    def receive(self) -> Message | None:
        """The next message; None if the other end is gone, or sends what is none."""
        try:
            line = self._file.readline(_LONGEST)
            told = json.loads(line)
            arrays = {name: self._array(kind, shape) for name, kind, shape in told["arrays"]}
            return Message(told["fields"], arrays)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def here(self) -> str:
        """The address of this machine as the other end sees it."""
        return self._socket.getsockname()[0]

    def close(self) -> None:
        """Let go of the connection; whoever waits for a message gets None."""
        with contextlib.suppress(OSError):  # the other end was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self._socket.close()

    def _array(self, kind: str, shape: list[int]) -> Array:
        found = np.empty(shape, jnp.dtype(kind))
        into = memoryview(found.reshape(-1).view(np.uint8).data)
        done = 0
        while done < len(into):
            count = self._file.readinto(into[done:])  # pyright: ignore[reportAttributeAccessIssue]
            if not count:
                raise OSError("the connection ended within an array")
            done += count
        return found


def connect(host: str, port: int, seconds: float = 60) -> Wire:
    """A connection to who listens at a place.

    Raises:
      OSError: if nobody does.
    """
    connection = socket.create_connection((host, port), timeout=seconds)
    connection.settimeout(None)
    return Wire(connection)


def listen(host: str, port: int = 0) -> socket.socket:
    """A socket that listens; at a free port unless one is given.

    Raises:
      OSError: if the port is taken.
    """
    return socket.create_server((host, port))


def parse_place(text: str) -> tuple[str, int]:
    """HOST:PORT in its parts.

    Raises:
      ValueError: if it is not of this form.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text}: expected HOST:PORT, as 10.0.0.1:7777")
    return host, int(port)
