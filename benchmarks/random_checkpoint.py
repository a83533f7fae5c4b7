"""Write a checkpoint of a published shape with random weights, to measure loading and speed on.

python -m benchmarks.random_checkpoint gemma-2b OUT       (5 GB of bf16 for this one)
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import Spec, map_specs
from gemwright.models.family import PRESETS, Decoder, specs_of

_BLOCK = 1 << 22  # normal values drawn once; larger weights repeat them from another offset


def random_weights(specs: Decoder, seed: int = 0) -> Decoder:
    """Weights of the right size of values, drawn fast rather than independently."""
    generator = np.random.default_rng(seed)
    block = generator.standard_normal(_BLOCK, dtype=np.float32)

    def draw(_: str, spec: Spec) -> jax.Array:
        scale = 0.1 if spec.init == "zeros" else 1.0 / np.sqrt(spec.fan_in)
        values = np.roll(block, int(generator.integers(_BLOCK))) * np.float32(scale)
        return jnp.asarray(np.resize(values.astype(ml_dtypes.bfloat16), spec.shape))

    return map_specs(draw, specs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=PRESETS)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    config = PRESETS[arguments.shape]
    save_checkpoint(arguments.out, config, random_weights(specs_of(config)))
    print(f"{arguments.out}: {arguments.shape} with random weights, no tokenizer")


if __name__ == "__main__":
    main()
