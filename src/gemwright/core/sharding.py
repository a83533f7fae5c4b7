"""How weights are spread over devices: logical axes of a Spec to axes of a mesh.

A mesh has named axes, here `data` and `model`. A rule sends a logical axis to a mesh axis; it
holds for a weight where the mesh has that axis, the size divides evenly, and no earlier dimension
of the weight has taken it. Dimensions without a rule are whole on every device.
"""

from collections.abc import Mapping
from typing import Any

from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from gemwright.core.module import Spec, map_specs

Rules = Mapping[str, str]

TENSOR_PARALLEL: Rules = dict.fromkeys(("vocab", "mlp", "heads", "kv_heads", "recurrent"), "model")
"""Each device holds some heads, some of the width of MLP and recurrence, and some of the vocabulary."""

FULLY_SHARDED: Rules = {**TENSOR_PARALLEL, "embed": "data"}
"""The copies along `data` share one set of weights too, and gather it as they go (ZeRO-3)."""


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
