"""A packed model of any shape with random weights, to measure speed and memory without a download."""

from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.checkpoints.packed_writer import save_packed
from gemwright.core.module import Spec, drawn, map_specs
from gemwright.core.packed import Packed
from gemwright.models.family import Config, specs_of

T = TypeVar("T")

_DEVIATION = {4: 4.6, 8: 74.0}  # of codes that are all as frequent


def write_random_model(folder: Path, config: Config, bits: int) -> None:
    """A packed folder, without a tokenizer, that `gemwright.load` takes."""
    save_packed(folder, config, random_packed(specs_of(config), bits))


def random_packed(specs: T, bits: int) -> T:
    """Codes of every value, and scales that keep activations in range; all else is that of a new model."""
    pattern = np.frombuffer(np.random.default_rng(0).bytes(1 << 20), np.uint8)
    pattern = np.where(pattern == 128, 127, pattern).astype(np.uint8) if bits == 8 else pattern

    def draw(name: str, spec: Spec) -> Any:
        if not spec.is_matrix:
            return drawn(0, name, spec, jnp.bfloat16)
        parts = Packed.specs(spec, bits)
        codes = np.resize(pattern, parts.codes.shape)
        scales = np.full(parts.scales.shape, 1 / (_DEVIATION[bits] * np.sqrt(spec.fan_in)), np.float16)
        return Packed(jax.device_put(codes), jax.device_put(scales), spec.shape)

    return map_specs(draw, specs)
