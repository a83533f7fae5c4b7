"""How much memory is free, so that a cache which cannot fit is refused before it takes the machine down."""

from collections.abc import Callable
from pathlib import Path

import jax

_CONTROL_GROUP = Path("/sys/fs/cgroup")


class MemoryShort(ValueError):
    """A cache does not fit the memory that is free."""


def check_room(needed: int, rows: int, capacity: int) -> None:
    """Refuse a cache of this many bytes for these rows of tokens if less than that is free.

    Raises:
      MemoryShort: with both sizes and what to do.
    """
    free = free_bytes()
    if free is not None and needed > free:
        raise MemoryShort(
            f"the cache of {rows} x {capacity} tokens needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free: "
            "take a shorter context, fewer rows, or a cache of 8 bits (cache_bits=8)"
        )


def free_bytes() -> int | None:
    """Bytes that can still be taken where arrays are put; None where that cannot be told."""
    (device, *_) = jax.local_devices()
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else limit - stats.get("bytes_in_use", 0)
    known = [free for free in (_available_of_machine(), _left_to_control_group()) if free is not None]
    return min(known, default=None)


def _available_of_machine() -> int | None:
    """What Linux says it can give without swapping; other systems do not say."""

    def read() -> int:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))

    return _or_none(read)


def _left_to_control_group() -> int | None:
    """What a container may still take; its cached files would make room, so they do not count."""

    def read() -> int:
        limit, used = (int((_CONTROL_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        fields = dict(line.split() for line in (_CONTROL_GROUP / "memory.stat").read_text().splitlines())
        return limit - used + int(fields["file"])

    return _or_none(read)


def _or_none(read: Callable[[], int]) -> int | None:
    try:
        return read()
    except (OSError, ValueError, KeyError, StopIteration):  # not Linux, or no limit ("max")
        return None
