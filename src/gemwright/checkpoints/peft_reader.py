"""An adapter of PEFT put into a model: `adapter_config.json` and `adapter_model.safetensors`.

Everything is checked before a weight is replaced: which modules the adapter says it changes, which tensors it has
for them, and their shapes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_tensors import stored_shape
from gemwright.checkpoints.peft_config import PeftConfig, read_peft_config
from gemwright.checkpoints.peft_names import HEAD, PREFIX, dialects
from gemwright.checkpoints.safetensors_file import SafetensorsFile
from gemwright.core.lora import Lora
from gemwright.core.module import Spec, map_specs, named_leaves
from gemwright.models.family import Config, Decoder, specs_of

ADAPTER_FILE = "adapter_model.safetensors"

Array = np.ndarray[Any, Any]

_PART = re.compile(r"(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(\.weight)?")

_SHOWN = 3  # problems in one message

_UNTIED = (
    "Gemma's head is its embedding, so that a change of one is a change of both; train it with ensure_weight_tying, or "
    "without them"
)


@dataclass
class _Found:
    """The tensors of a file: by module and part, and whole ones by their names in PEFT's model."""

    parts: dict[str, dict[str, Array]] = field(default_factory=dict[str, dict[str, Array]])
    whole: dict[str, Array] = field(default_factory=dict[str, Array])


def read_adapter(folder: Path, config: Config, weights: Decoder) -> Decoder:
    """The model with an adapter's changes beside its weights, which may be dense or quantised.

    Args:
      folder: as PEFT's `save_pretrained` writes it.

    Raises:
      CheckpointError: if the files are missing, damaged, or made for another base; says where, what was expected and
        found.
    """
    folder = Path(folder)
    stated, file = read_peft_config(folder), _open(folder)
    found, specs = _sorted(file), named_leaves(specs_of(config))
    names = min(dialects(config), key=lambda names: _unknown(found, names))
    problems = list(_problems(stated, found, names, specs))
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(f"{file.path}: " + "; ".join(problems[:_SHOWN]) + more)
    return _put(stated, found, names, config, weights, file.path)


def _open(folder: Path) -> SafetensorsFile:
    path = folder / ADAPTER_FILE
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        why = "; adapter_model.bin can run code and is never read, save it with safe_serialization" if pickled else ""
        raise CheckpointError(f"{path}: expected the adapter's tensors, found no such file{why}")
    return SafetensorsFile(path)


def _sorted(file: SafetensorsFile) -> _Found:
    found = _Found()
    for key in file.entries:
        name = key.removeprefix(PREFIX)
        if match := _PART.fullmatch(name):
            found.parts.setdefault(match[1], {})[match[2]] = file.view(key)
        else:
            found.whole[name.replace(".base_layer.", ".").replace(".modules_to_save.", ".")] = file.view(key)
    return found


def _unknown(found: _Found, names: Mapping[str, str]) -> int:
    """Tensors that have no place in a dialect."""
    modules = [f"{module}.weight" for module in found.parts]
    return sum(name not in names for name in (*modules, *found.whole))


# ------------------------------------------------------------------------------------------- checks


def _problems(stated: PeftConfig, found: _Found, names: Mapping[str, str], specs: Mapping[str, Spec]) -> Iterator[str]:
    known = {name.removesuffix(".weight"): (ours, specs[ours]) for name, ours in names.items()}
    modules = {module: (ours, spec) for module, (ours, spec) in known.items() if spec.is_matrix}
    for module in sorted(found.parts.keys() - modules.keys()):
        if module == HEAD:
            if not stated.tied:
                yield f"module {HEAD}: expected none, found one: {_UNTIED}"
        elif module in known:
            shape = known[module][1].shape
            yield f"module {module}: expected no change, found one: one of a weight of shape {shape} is not computed"
        else:
            yield f"module {module}: expected one of this model's matrices, found none of this name: another base?"
    for module, (ours, spec) in modules.items():
        said = stated.changes(module) and not (stated.targets == "all-linear" and ours.endswith("embedding"))
        if said != (module in found.parts):
            yield f"module {module}: expected {'tensors' if said else 'none'} by target_modules, found otherwise"
        elif said:
            yield from _of_module(module, stated, found.parts[module], ours, spec)
    yield from _of_whole(found, names, specs)


def _of_module(module: str, stated: PeftConfig, parts: Mapping[str, Array], ours: str, spec: Spec) -> Iterator[str]:
    rank, (outs, ins) = stated.rank_of(module), stored_shape(spec)
    if ours.endswith("embedding"):
        if not stated.tied or stated.dora:
            yield f"module {module}: expected none, found one: {'no DoRA of a table' if stated.dora else _UNTIED}"
        expected: dict[str, tuple[int, ...]] = {"lora_embedding_A": (rank, outs), "lora_embedding_B": (ins, rank)}
    else:
        expected = {"lora_A": (rank, ins), "lora_B": (outs, rank)}
    if stated.dora:
        expected["lora_magnitude_vector"] = (outs,)
    for part, shape in expected.items():
        if part not in parts:
            yield f"module {module}: {part}: expected one of shape {shape}, found none"
        elif parts[part].shape != shape:
            yield f"module {module}: {part}: expected shape {shape}, found {parts[part].shape}"
    for part in parts.keys() - expected.keys():
        yield f"module {module}: {part}: expected none by the configuration, found one"
    for part in parts.values():
        if not np.isfinite(part.astype(np.float32)).all():
            yield f"module {module}: expected finite numbers, found NaN or infinity"


def _of_whole(found: _Found, names: Mapping[str, str], specs: Mapping[str, Spec]) -> Iterator[str]:
    embedding = next(name for name, ours in names.items() if ours.endswith("embedding"))
    for name, values in found.whole.items():
        if name == f"{HEAD}.weight":
            other = found.whole.get(embedding)
            if other is None or not np.array_equal(other, values):
                yield f"tensor {name}: expected that of {embedding}, found another: {_UNTIED}"
        elif name not in names:
            yield f"tensor {name}: expected none of this name, found one of shape {values.shape}: another base?"
        elif values.shape != stored_shape(specs[names[name]]):
            yield f"tensor {name}: expected shape {stored_shape(specs[names[name]])}, found {values.shape}"
    if embedding in found.whole and f"{HEAD}.weight" not in found.whole:
        yield f"tensor {embedding}: expected with one of {HEAD}, found alone: {_UNTIED}"


# ------------------------------------------------------------------------------------------- weights


def _put(
    stated: PeftConfig, found: _Found, names: Mapping[str, str], config: Config, weights: Decoder, path: Path
) -> Decoder:
    modules = {ours: name.removesuffix(".weight") for name, ours in names.items()}
    theirs = {ours: name for name, ours in names.items()}

    def replaced(name: str, spec: Spec, weight: Any) -> Any:
        if isinstance(weight, Lora):
            raise CheckpointError(f"{path}: weight {name}: expected one without an adapter, found one; merge it first")
        if theirs[name] in found.whole:
            weight = jnp.asarray(found.whole[theirs[name]].reshape(spec.shape), weight.dtype)
        parts = found.parts.get(modules[name]) if spec.is_matrix else None
        return _adapted(weight, stated, modules[name], parts) if parts else weight

    return map_specs(replaced, specs_of(config), weights)


def _adapted(weight: Any, stated: PeftConfig, module: str, parts: Mapping[str, Array]) -> Lora:
    def array(part: str) -> jax.Array:
        return jnp.asarray(parts[part].astype(np.float32))

    if "lora_embedding_A" in parts:  # of the table's transpose
        a, b = array("lora_embedding_B").T, array("lora_embedding_A").T
    else:
        a, b = array("lora_A"), array("lora_B")
    magnitude = array("lora_magnitude_vector") if stated.dora else None
    return Lora(weight, a, b, stated.alpha_of(module), stated.root, magnitude, dropout=stated.dropout)
