"""The environment of processes that tests start."""

import os


def with_devices(count: int) -> dict[str, str]:
    """Of a process that sees so many devices, and else compiles its programs as the test does."""
    return os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"}
