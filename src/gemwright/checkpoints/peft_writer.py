"""The changes of an adapted model as a folder that PEFT loads."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.folders import whole_folder
from gemwright.checkpoints.hf_tensors import stored_shape
from gemwright.checkpoints.peft_config import CONFIG_FILE, PeftConfig, peft_json
from gemwright.checkpoints.peft_names import PREFIX, dialects
from gemwright.checkpoints.peft_reader import ADAPTER_FILE
from gemwright.checkpoints.safetensors_writer import Declared, write_tensors
from gemwright.core.lora import Lora, lora_weights
from gemwright.core.module import Spec, named_leaves
from gemwright.models.family import Config, Decoder, specs_of

Array = np.ndarray[Any, Any]


def save_adapter(
    folder: Path,
    config: Config,
    weights: Decoder,
    *,
    whole: Collection[str] = (),
    base: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write an adapter as PEFT's folder. It appears whole or not at all.

    Args:
      weights: an adapted model.
      whole: names of weights beside the changes that were trained too, as norms; they are stored as they are.
      base: the name or folder of the model that was adapted, for those who load it.
      overwrite: replace the adapter that the folder holds.

    Raises:
      CheckpointError: if nothing is adapted, PEFT's format cannot say it, or the folder may not be replaced.
    """
    modules = {ours: name.removesuffix(".weight") for name, ours in dialects(config)[0].items()}
    changes = {modules[name]: weight for name, weight in lora_weights(weights).items()}
    specs: dict[str, Spec] = named_leaves(specs_of(config))
    stated = _stated(changes, [modules[name] for name, spec in specs.items() if spec.is_matrix], base)
    stored = [modules[name] for name in whole]
    tensors = _tensors(changes) | _whole_tensors(config, weights, specs, whole)
    values = {**peft_json(stated), "modules_to_save": [name.removesuffix(".bias") for name in stored] or None}
    with whole_folder(folder, overwrite=overwrite, mark=CONFIG_FILE) as partial:
        (partial / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        declared = [Declared(name, array.dtype, array.shape) for name, array in tensors.items()]
        for _ in write_tensors(partial / ADAPTER_FILE, declared, tensors.__getitem__):
            pass


def _stated(changes: Mapping[str, Lora], matrices: Collection[str], base: str | None) -> PeftConfig:
    if not changes:
        raise CheckpointError("expected an adapted model, found no changes in it; see gemwright.tuning.lora.adapt")
    ways = {(weight.root, weight.magnitude is not None, weight.dropout) for weight in changes.values()}
    if len(ways) > 1:
        raise CheckpointError("expected changes of one kind (rsLoRA, DoRA, dropout), found several: PEFT knows one")
    ((root, dora, dropout),) = ways
    rank = Counter(weight.rank for weight in changes.values()).most_common(1)[0][0]
    alpha = Counter(weight.alpha for weight in changes.values()).most_common(1)[0][0]
    return PeftConfig(
        rank=rank,
        alpha=alpha,
        targets=_targets(changes, matrices),
        dropout=dropout,
        root=root,
        dora=dora,
        ranks={module: weight.rank for module, weight in changes.items() if weight.rank != rank},
        alphas={module: weight.alpha for module, weight in changes.items() if weight.alpha != alpha},
        tied=any(_is_table(module) for module in changes),
        base=base,
    )


def _targets(changes: Collection[str], matrices: Collection[str]) -> tuple[str, ...]:
    """The last words of the modules' names where these choose no others, else whole names."""
    last = {module.rpartition(".")[2] for module in changes}
    chosen = {module for module in matrices if module.rpartition(".")[2] in last}
    return tuple(sorted(last if chosen == set(changes) else changes))


def _is_table(module: str) -> bool:
    return module.endswith("embed_tokens")


def _tensors(changes: Mapping[str, Lora]) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    for module, weight in changes.items():
        a, b = np.asarray(weight.a, np.float32), np.asarray(weight.b, np.float32)
        name = PREFIX + module
        if _is_table(module):  # of its transpose
            tensors |= {f"{name}.lora_embedding_A": b.T, f"{name}.lora_embedding_B": a.T}
        else:
            tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        if weight.magnitude is not None:
            tensors[f"{name}.lora_magnitude_vector"] = np.asarray(weight.magnitude, np.float32)
    return tensors


def _whole_tensors(
    config: Config, weights: Decoder, specs: Mapping[str, Spec], whole: Collection[str]
) -> dict[str, Array]:
    theirs, arrays = {ours: name for name, ours in dialects(config)[0].items()}, named_leaves(weights)
    for name in whole:
        if name not in arrays or name.endswith("embedding"):
            raise CheckpointError(f"weight {name}: expected a dense one that is not the head, to store it whole")
        if not theirs[name].endswith((".weight", ".bias")):
            raise CheckpointError(
                f"weight {name}: expected the weight or bias of a module, found {theirs[name]}: PEFT stores modules "
                "whole, not single parameters; leave it as it is, or save the whole model"
            )
    return {PREFIX + theirs[name]: np.asarray(arrays[name]).reshape(stored_shape(specs[name])) for name in whole}
