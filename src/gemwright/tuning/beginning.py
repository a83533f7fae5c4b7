"""What all tuning begins with and ends in: a model, what of it is trained, and the folder of the result."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from gemwright.checkpoints.hf_config import is_packed
from gemwright.checkpoints.hub import resolve
from gemwright.checkpoints.load import Checkpoint, load_checkpoint
from gemwright.checkpoints.peft_writer import save_adapter
from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.int_weights import int_weights
from gemwright.models.family import Decoder, specs_of
from gemwright.models.seeing import DecodersConstants
from gemwright.text.control import START_OF_TURN
from gemwright.tuning.lora import LINEAR, Plan, adapt, is_change


@dataclass(frozen=True)
class Change:
    """What of a model is trained: all weights, or by LoRA's changes.

    Attributes:
      lora: rank of the changes; 0 trains all weights.
      dora: rows keep a trained length of their own.
      bits: 4 or 8 of the base (QLoRA); None leaves it as it is stored.
      targets: shell patterns of the names of the weights that are adapted.
    """

    lora: int = 0
    dora: bool = False
    bits: int | None = None
    targets: Sequence[str] = LINEAR

    def __post_init__(self) -> None:
        if self.lora < 0:
            raise ValueError(f"lora: expected a rank of 0 or more, found {self.lora}")
        if not self.lora and (self.dora or self.bits or tuple(self.targets) != LINEAR):
            raise ValueError("dora, bits and targets are LoRA's: give its rank too (lora=16)")
        if self.bits not in (None, 4, 8):
            raise ValueError(f"bits: expected 4 or 8, found {self.bits}")

    @property
    def is_trained(self) -> Callable[[str], bool] | None:
        """By the name of a leaf; None for all."""
        return is_change if self.lora else None


def check_learning(
    *, held_out: float, rate: float | None, seed: int, save_every: int, batch_tokens: int | None, lengths: Sequence[int]
) -> None:
    """Raises ValueError if one of the settings that all learning from examples has means nothing."""
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out: expected 0 to less than 1, found {held_out}")
    if rate is not None and not 0 < rate < math.inf:
        raise ValueError(f"rate: expected a positive rate, found {rate}")
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, found {seed}")
    if save_every < 1:
        raise ValueError(f"save_every: expected steps of 1 or more, found {save_every}")
    if batch_tokens is not None and batch_tokens < 1:
        raise ValueError(f"batch_tokens: expected 1 or more, found {batch_tokens}")
    if any(length < 1 for length in lengths):
        raise ValueError(f"length: expected rows of 1 token or more, found {', '.join(map(str, lengths))}")


def read_base(model: str | Path, revision: str | None = None) -> Checkpoint:
    """The model that is tuned.

    Raises:
      ValueError: if it is packed, or has no turns.
    """
    folder = resolve(str(model), revision=revision)
    if is_packed(folder):
        raise ValueError(f"{folder}: its weights are packed to run on a CPU; tune the model they were made from")
    base = load_checkpoint(folder)
    if base.tokenizer is None or not base.tokenizer.has(START_OF_TURN):
        raise ValueError(f"{folder}: expected a tokenizer with {START_OF_TURN}, found none; conversations need it")
    if isinstance(base.config, DecodersConstants) and base.config.whole_prompts:
        raise ValueError(
            f"{folder}: a {base.config.family} answers one prompt about its pictures and knows no turns; take another "
            "model for conversations, or train it on pictures by gemwright.training.pictures"
        )
    return base


def begin(base: Checkpoint, change: Change, seed: int) -> Decoder:
    """The weights to train: in float32, or with changes of zero beside them."""
    config, weights = base.config, base.weights
    if not change.lora:
        return jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), weights)  # updates are smaller than bfloat16's
    if change.bits:
        weights = int_weights(specs_of(config), weights, change.bits)
    plan = Plan(change.lora, 2 * change.lora, tuple(change.targets), dora=change.dora)
    return adapt(config, weights, plan, seed)


def default_rate(width: int, lora: bool) -> float:
    """The highest rate: the best measured on the default model, lower for wider ones by a rule of thumb."""
    narrower = min(1.0, 256 / width)
    return 1e-2 * narrower**1.5 if lora else 3e-3 * narrower**2


def save_tuned(out: Path, base: Checkpoint, name: str, weights: Decoder, *, adapted: bool, overwrite: bool) -> None:
    """An adapter of PEFT's format, or a Hugging Face folder in the types of the base.

    Args:
      name: of the base, as an adapter tells it.
    """
    if adapted:
        save_adapter(out, base.config, weights, base=name, overwrite=overwrite)
        return
    stored = jax.tree.map(lambda weight, like: weight.astype(like.dtype), weights, base.weights)
    save_checkpoint(out, base.config, stored, base.tokenizer, source=base.folder, overwrite=overwrite)
