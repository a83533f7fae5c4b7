"""`adapter_config.json` of PEFT: which modules an adapter changes, and how.

What cannot be computed here is refused with the reason; options that only say how an adapter was begun are not.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_values import positive, positive_int

CONFIG_FILE = "adapter_config.json"

ALL_LINEAR = "all-linear"

_NEUTRAL = {
    "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "task_type", "inference_mode",
    "runtime_config", "megatron_core", "qalora_group_size", "eva_config", "loftq_config", "corda_config",
    "lora_ga_config", "bias",
}  # fmt: skip
"""Keys that change nothing about what a finished adapter computes; what some of them began is told by
`init_lora_weights`."""

_READ = {
    "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "target_modules",
    "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "init_lora_weights",
    "ensure_weight_tying",
}  # fmt: skip

_REFUSED = {
    "fan_in_fan_out": "Gemma's matrices are stored as (out, in)",
    "lora_bias": "a bias of the change itself is not computed",
    "trainable_token_indices": "single rows of the embedding are not adapted; merge them with PEFT first",
    "target_parameters": "only whole matrices are adapted",
    "layer_replication": "the layers of a model are not repeated",
    "alora_invocation_tokens": "an adapter here acts on all tokens",
    "megatron_config": "layers of Megatron are not read",
    "use_qalora": "QALoRA's pooled inputs are not computed",
}

_UNCHANGED_BASE = (True, False, "gaussian", "orthogonal", "eva")
"""Beginnings that leave the base as it was."""


@dataclass(frozen=True)
class PeftConfig:
    """What an adapter's file says, by the modules' names in transformers.

    Attributes:
      targets: a regular expression, `all-linear`, or names and their endings.
      layers: numbers of the layers that are changed; None for all.
      layers_patterns: what stands before a layer's number.
      whole: modules that are stored whole instead of changed.
      tied: whether a change of the embedding is one of the head too.
    """

    rank: int
    alpha: float
    targets: str | tuple[str, ...]
    dropout: float = 0.0
    root: bool = False
    dora: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict[str, int])
    alphas: Mapping[str, float] = field(default_factory=dict[str, float])
    excluded: str | tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    layers_patterns: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    tied: bool = False
    base: str | None = None

    def changes(self, module: str) -> bool:
        """Whether the adapter changes a matrix, by PEFT's rules."""
        if _matches(self.excluded, module) or any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in self.whole):
            return False
        if isinstance(self.targets, str):
            return self.targets.lower() == ALL_LINEAR or _matches(self.targets, module)
        return _matches(self.targets, module) and (module in self.targets or self._in_layers(module))

    def _in_layers(self, module: str) -> bool:
        if self.layers is None:
            return True
        patterns = self.layers_patterns or (r"[^.]*",)
        found = (re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module) for pattern in patterns)
        match = next((match for match in found if match), None)
        return match is not None and int(match[1]) in self.layers

    def rank_of(self, module: str) -> int:
        return _by_pattern(self.ranks, module, self.rank)

    def alpha_of(self, module: str) -> float:
        return _by_pattern(self.alphas, module, self.alpha)


def _matches(names: str | tuple[str, ...], module: str) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _by_pattern(values: Mapping[str, Any], module: str, default: Any) -> Any:
    return next((value for key, value in values.items() if re.match(rf"(.*\.)?({key})$", module)), default)


# ------------------------------------------------------------------------------------------- read


def read_peft_config(folder: Path) -> PeftConfig:
    """What an adapter's folder says.

    Raises:
      CheckpointError: if there is no such file, or it wants something that is not computed here; names the key.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder}: expected the folder of an adapter, found no {CONFIG_FILE} in it")
    try:
        return parse_peft_config(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def parse_peft_config(data: bytes | str) -> PeftConfig:
    """Raises ValueError with the key, what was expected and found."""
    stored = json.loads(data)
    if not isinstance(stored, dict):
        raise ValueError(f"expected a JSON object, found {type(stored).__name__}")
    _check_known(stored)
    values = {key: value for key, value in stored.items() if value is not None}
    dropout = values.get("lora_dropout", 0.0)
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"lora_dropout: expected 0 to less than 1, found {dropout!r}")
    base = values.get("base_model_name_or_path")
    return PeftConfig(
        rank=positive_int(values, "r"),
        alpha=positive(values, "lora_alpha"),
        targets=_names(values, "target_modules", needed=True),
        dropout=float(dropout),
        root=bool(values.get("use_rslora")),
        dora=bool(values.get("use_dora")),
        ranks={key: positive_int(found, key) for found in [_table(values, "rank_pattern")] for key in found},
        alphas={key: positive(found, key) for found in [_table(values, "alpha_pattern")] for key in found},
        excluded=_names(values, "exclude_modules"),
        layers=_layers(values),
        layers_patterns=_listed(_names(values, "layers_pattern")),
        whole=_listed(_names(values, "modules_to_save")),
        tied=bool(values.get("ensure_weight_tying")),
        base=base if isinstance(base, str) else None,
    )


def _check_known(stored: Mapping[str, Any]) -> None:
    if stored.get("peft_type") != "LORA":
        raise ValueError(f"peft_type: expected LORA, found {stored.get('peft_type')!r}: no other adapter is read")
    begun = stored.get("init_lora_weights", True)
    if begun not in _UNCHANGED_BASE:
        raise ValueError(
            f"init_lora_weights: expected one that leaves the base as it is, found {begun!r}: the adapter belongs to a "
            "base that its beginning has changed; convert it with PEFT's path_initial_model_for_weight_conversion"
        )
    for key, value in stored.items():
        if key in _NEUTRAL or key in _READ or value in (None, False, [], {}):
            continue
        raise ValueError(f"{key}: expected none, found {value!r}: {_REFUSED.get(key, 'this option is not known here')}")


def _names(values: Mapping[str, Any], key: str, needed: bool = False) -> str | tuple[str, ...]:
    """A pattern, or a list of names."""
    found = values.get(key, () if not needed else None)
    if isinstance(found, str):
        return _pattern(key, found)
    if (
        not isinstance(found, list | tuple)
        or not all(isinstance(name, str) for name in found)
        or (needed and not found)
    ):
        raise ValueError(f"{key}: expected a pattern or a list of names, found {found!r}")
    return tuple(found)


def _pattern(key: str, pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{key}: expected a regular expression, found {pattern!r} ({error})") from None
    return pattern


def _listed(names: str | tuple[str, ...]) -> tuple[str, ...]:
    listed = (names,) if isinstance(names, str) else names
    return tuple(_pattern("modules", name) for name in listed if name)


def _table(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key, {})
    if not isinstance(found, dict):
        raise ValueError(f"{key}: expected an object from names to numbers, found {found!r}")
    return {_pattern(key, name): value for name, value in found.items()}


def _layers(values: Mapping[str, Any]) -> tuple[int, ...] | None:
    found = values.get("layers_to_transform")
    found = [found] if isinstance(found, int) else found
    if found is not None and (not isinstance(found, list) or not all(isinstance(layer, int) for layer in found)):
        raise ValueError(f"layers_to_transform: expected numbers of layers, found {found!r}")
    return tuple(found) if found else None


# ------------------------------------------------------------------------------------------ write


def peft_json(config: PeftConfig) -> dict[str, Any]:
    """What the file says."""

    def listed(names: str | Sequence[str]) -> str | list[str] | None:
        return names if isinstance(names, str) else list(names) or None

    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": config.base,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": int(config.alpha) if config.alpha == int(config.alpha) else config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.root,
        "use_dora": config.dora,
        "rank_pattern": dict(config.ranks),
        "alpha_pattern": dict(config.alphas),
        "target_modules": listed(config.targets),
        "exclude_modules": listed(config.excluded),
        "layers_to_transform": None if config.layers is None else list(config.layers),
        "layers_pattern": listed(config.layers_patterns),
        "modules_to_save": listed(config.whole),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        **({"ensure_weight_tying": True} if config.tied else {}),
    }
