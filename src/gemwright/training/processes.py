"""Several processes, one a host, as one machine."""

import jax

from gemwright.training.wire import parse_place


def join_processes(coordinator: str, process: int, processes: int, devices: int | None = None) -> None:
    """Meet the other processes; from then on `jax.devices()` are those of all. Before any other use of JAX.

    Args:
      coordinator: HOST:PORT where process 0 listens.
      devices: local ones that this process uses; all unless given.

    Raises:
      ValueError: if the numbers or the place make no sense.
    """
    parse_place(coordinator)
    if not 0 <= process < processes:
        raise ValueError(f"--process {process}: expected 0 to {processes - 1} of --processes {processes}")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    ids = None if devices is None else list(range(devices))
    jax.distributed.initialize(coordinator, processes, process, local_device_ids=ids, initialization_timeout=120)


def all_arrived(where: str) -> None:
    """Wait until every process has come to the place of this name."""
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(where)
