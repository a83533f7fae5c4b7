"""How weights and rows are spread over devices: logical axes of a Spec to axes of a mesh.

A mesh has three axes. Along `data` stand copies of the model; along `fsdp` copies that share one set of weights and
gather it as they go; along `tensor` the heads, widths and vocabulary of one copy are divided. Rows of a batch are
divided over the first two.

A rule sends a logical axis to a mesh axis; it holds for a weight where the mesh has that axis, the size divides evenly,
and no earlier dimension of the weight has taken it. Dimensions without a rule are whole on every device.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from gemwright.core.module import Spec, map_specs

AXES = ("data", "fsdp", "tensor")

ROWS = PartitionSpec(("data", "fsdp"))
"""Of a batch, by its rows."""

BATCHES = PartitionSpec(None, *ROWS)
"""Of several batches, stacked."""

Rules = Mapping[str, str]

TENSOR_PARALLEL: Rules = dict.fromkeys(("vocab", "mlp", "heads", "kv_heads", "recurrent"), "tensor")
"""Each device holds some heads, some of the width of MLP and recurrence, and some of the vocabulary."""

FULLY_SHARDED: Rules = {**TENSOR_PARALLEL, "embed": "fsdp"}
"""The copies along `fsdp` share one set of weights too, and gather it as they go (ZeRO-3)."""


@dataclass(frozen=True)
class MeshShape:
    """Devices along each axis; 0 takes those that the other axes leave."""

    data: int = 1
    fsdp: int = 0
    tensor: int = 1

    def sizes(self, devices: int) -> tuple[int, int, int]:
        """The sizes of a mesh on at most so many devices.

        Raises:
          ValueError: if they do not suffice or do not divide, or two axes are 0.
        """
        wanted = (self.data, self.fsdp, self.tensor)
        given = math.prod(size for size in wanted if size)
        if wanted.count(0) > 1 or min(wanted) < 0 or given > devices:
            raise ValueError(
                f"mesh {self}: expected sizes for {devices} devices, at most one of them 0; change the mesh"
            )
        if 0 in wanted and devices % given:
            raise ValueError(f"mesh {self}: {devices} devices cannot be divided by {given}; change the mesh")
        data, fsdp, tensor = (size or devices // given for size in wanted)
        return data, fsdp, tensor


def make_mesh(shape: MeshShape, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of all devices of all processes, or of those given, with near ones side by side.

    Where the devices are slices joined by a slower network, whole slices stand along `data`.

    Raises:
      ValueError: if the shape does not fit them.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = shape.sizes(len(devices))
    devices = devices[: math.prod(sizes)]
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        arranged = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    elif sizes[0] % slices == 0:
        within = (sizes[0] // slices, *sizes[1:])
        arranged = mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1), devices, allow_split_physical_axes=True)
    else:
        raise ValueError(f"mesh {sizes}: {slices} slices stand along data, which they must divide; change the mesh")
    return Mesh(np.asarray(arranged), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def sharding_of(spec: Spec, mesh: Mesh | AbstractMesh, rules: Rules = TENSOR_PARALLEL) -> NamedSharding:
    """The sharding of one weight."""
    taken: list[str | None] = []
    for size, axis in zip(spec.shape, spec.axes, strict=True):
        target = rules.get(axis)
        fits = target in mesh.shape and target not in taken and size % mesh.shape[target] == 0
        taken.append(target if fits else None)
    return NamedSharding(mesh, PartitionSpec(*taken))


def shardings(specs: Any, mesh: Mesh | AbstractMesh, rules: Rules = TENSOR_PARALLEL) -> Any:
    """The same tree with a sharding in place of each Spec, as `jax.jit` and `jax.device_put` take it."""
    return map_specs(lambda _, spec: sharding_of(spec, mesh, rules), specs)


def place(value: np.ndarray[Any, Any], mesh: Mesh, parts: PartitionSpec) -> jax.Array:
    """An array of the host, of which every process has the whole, on the devices of a mesh."""
    return jax.make_array_from_callback(value.shape, NamedSharding(mesh, parts), value.__getitem__)


def devices_in_use() -> int:
    """How many devices share what is being traced: those of the mesh in `jax.set_mesh`, or one."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.size
