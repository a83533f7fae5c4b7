"""Gemma 2B and 7B from nothing, with the meshes of Gemma's report: 512 and 4,096 chips of TPU v5e.

    gemwright pretrain recipes/gemma_sizes.py --set size=2b --set stream=tokens.npy --set tokenizer=tokenizer.model
    python -m recipes.gemma_sizes 2b 7b

The second compiles each step for its chips, on any machine (extra `tpu`), and says what memory a chip needs.
Expected: see docs/training.md.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.sharding import MeshShape, make_mesh
from gemwright.data.packing import Batch, Rows
from gemwright.models.family import specs_of
from gemwright.models.gemma import PRESETS
from gemwright.text.tokenizer import Tokenizer
from gemwright.training.optimizer import make_optimizer
from gemwright.training.pretrain import Corpus, Pretraining
from gemwright.training.run import Compute, Optimizer, Run, Stage
from gemwright.training.step import abstract_state, compile_steps

LENGTH = 8192
CHIP = 16 * 2**30
"""Bytes of memory of a TPU v5e."""


@dataclass(frozen=True)
class Pod:
    """Slices of 16 x 16 chips, joined by a slower network."""

    slices: int
    mesh: MeshShape


PODS = {
    "2b": Pod(2, MeshShape(data=2, fsdp=256)),  # copies in two slices, 256-way within each
    "7b": Pod(16, MeshShape(data=16, fsdp=16, tensor=16)),
}


def run(size: str) -> Run:
    """A row a device or group, 8,192 tokens long: 4 million tokens a step for 2B, 2 million for 7B."""
    pod = PODS[size]
    rows = pod.mesh.data * pod.mesh.fsdp
    return Run(
        model=PRESETS[f"gemma-{size}"],
        stages=(Stage({"2b": 480_000, "7b": 2_860_000}[size], LENGTH),),
        tokens_per_step=rows * LENGTH,
        optimizer=Optimizer(kind="adamw", lr=3e-4, warmup=2000, schedule="cosine", final_share=0.1, adam_b2=0.95),
        compute=Compute(dtype="bfloat16", remat="layers", scan=True, z_loss=1e-4),
        mesh=pod.mesh,
    )


def pretraining(stream: Path, tokenizer: Path, size: Literal["2b", "7b"] = "2b") -> Pretraining:
    """The recipe.

    Args:
      stream: packed tokens, a `.npy` file as `data.packing.pack` makes it.
      tokenizer: a SentencePiece model.
    """

    def read(run: Run, _: Path) -> Corpus:
        pieces = Tokenizer.from_bytes(tokenizer.read_bytes())
        return Corpus(Rows(np.load(stream, mmap_mode="r"), pieces.bos_id, run.seed), pieces)

    return Pretraining(run(size), read, save_every=1000)


# ------------------------------------------------------------------------------ without the chips


def compiled(size: str) -> Any:
    """The step of a size, compiled for its chips."""
    from jax.experimental import topologies

    pod, recipe = PODS[size], run(size)
    names = {"chips_per_host_bounds": (2, 2, 1), "num_slices": pod.slices}
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:16x16", **names)
    mesh = make_mesh(pod.mesh, topology.devices)
    specs = specs_of(recipe.model)
    optimizer = make_optimizer(recipe, specs, mesh)
    program = compile_steps(recipe.model, optimizer, mesh, recipe.compute)
    row = jax.ShapeDtypeStruct((1, recipe.rows(0), LENGTH), jnp.int32)
    with jax.set_mesh(mesh):
        lowered = program.lower(None, abstract_state(specs, optimizer, mesh), Batch(*(row,) * 5))  # pyright: ignore
        return lowered.compile()


def memory(program: Any) -> dict[str, float]:
    """Gigabytes a chip: what is kept from step to step, what a step takes beside it, both."""
    found = program.memory_analysis()
    kept, beside = found.argument_size_in_bytes, found.temp_size_in_bytes
    return {
        name: round(value / 2**30, 3) for name, value in {"kept": kept, "beside": beside, "all": kept + beside}.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="+", choices=list(PODS))
    for size in parser.parse_args().sizes:
        begun = time.perf_counter()
        needed = memory(compiled(size))
        print(
            json.dumps(
                {
                    "size": size,
                    "chips": PODS[size].slices * 256,
                    "GiB": needed,
                    "seconds": round(time.perf_counter() - begun),
                }
            )
        )
        if needed["all"] * 2**30 > CHIP:
            sys.exit(f"{size}: needs more than the {CHIP / 2**30:.0f} GiB of a chip")


if __name__ == "__main__":
    main()
