"""A LoRA training step beside PEFT's on transformers, and a QLoRA step alone: seconds and peak memory on this CPU.

    python -m benchmarks.tune [--shape gemma-2b] [--layers N] [--length 512] [--rank 16] [--rounds 3] [--python PYTHON]

Random bf16 weights, one row of tokens, changes beside all matrices of the layers, AdamW, no dropout. Each engine
runs in processes of its own, in turn; a process tells the median of its steps after the first. The last line is one
JSON object: `lora_step_vs_peft` is PEFT's seconds over ours (above 1: ours is faster), `lora_memory_vs_peft` our peak
over PEFT's (below 1: ours is smaller), `qlora_peak_bytes` the peak of a 4-bit base; medians over the rounds.
Memory is RssAnon plus RssFile, sampled. Needs the extra `parity` for the other side; Linux only.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.memory import Peak

STEPS = 4  # after the first, which compiles

Figures = dict[str, float]


def measure(arguments: argparse.Namespace) -> Figures:
    """One engine in this process."""
    sampler = Peak()
    sampler.start()
    step: Callable[[], float] = {"ours": _ours, "qlora": _ours, "peft": _peft}[arguments.only](arguments)
    losses, seconds = [step()], list[float]()
    for _ in range(STEPS):
        begin = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - begin)
    sampler.stopped.set()
    return {"step_s": median(seconds), "peak_bytes": sampler.peak, "first_loss": losses[0], "last_loss": losses[-1]}


def _tokens(arguments: argparse.Namespace, vocabulary: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, vocabulary, (1, arguments.length + 1))


def _ours(arguments: argparse.Namespace) -> Callable[[], float]:
    import jax
    import optax

    from benchmarks.random_checkpoint import random_weights
    from gemwright.core.sharding import MeshShape, make_mesh
    from gemwright.core.trainable import specs_like, split
    from gemwright.data.packing import rows_to_batch
    from gemwright.models.family import specs_of
    from gemwright.training.run import Compute
    from gemwright.training.step import fresh_state, make_steps
    from gemwright.tuning.lora import Plan, adapt, is_change

    config = _config(arguments)
    specs = specs_of(config)
    weights = _random_int4(specs) if arguments.only == "qlora" else random_weights(specs)
    adapted = adapt(config, weights, Plan(rank=arguments.rank, alpha=arguments.rank))
    changes, frozen = split(adapted, is_change)
    del weights, adapted
    optimizer: Any = optax.adamw(1e-4)
    mesh, declared = make_mesh(MeshShape(fsdp=1)), specs_like(specs, changes)
    state = fresh_state(changes, declared, optimizer, mesh)
    steps = make_steps(config, optimizer, mesh, Compute(remat="products"), specs=declared, frozen=frozen)
    batch = jax.tree.map(lambda part: part[None], rows_to_batch(_tokens(arguments, config.vocab_size), 2))

    def once() -> float:
        nonlocal state
        state, measures = steps(state, batch)
        jax.block_until_ready(state)
        return float(measures.loss[0])

    return once


def _random_int4(specs: Any) -> Any:
    """A 4-bit model whose values are as large as a real one's; quantising would take minutes."""
    import jax.numpy as jnp

    from gemwright.core.int_weights import IntWeight
    from gemwright.core.module import Spec, map_specs

    generator = np.random.default_rng(0)

    def draw(_: str, spec: Spec) -> Any:
        if not spec.is_matrix:
            return jnp.zeros(spec.shape, jnp.bfloat16)
        parts = IntWeight.specs(spec, 4)
        codes = np.resize(generator.integers(0, 256, 1 << 20, np.uint8), parts.codes.shape)
        scales = np.full(parts.scales.shape, 0.2 / np.sqrt(spec.fan_in), np.float16)
        return replace(parts, codes=jnp.asarray(codes), scales=jnp.asarray(scales))

    return map_specs(draw, specs)


def _peft(arguments: argparse.Namespace) -> Callable[[], float]:
    import peft  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    config: Any = _config(arguments)
    sizes = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.mlp_dim,
    }
    with torch.device("meta"):
        model: Any = transformers.GemmaForCausalLM(transformers.GemmaConfig(**sizes))
    model = model.bfloat16().to_empty(device="cpu")
    model.tie_weights()
    block = torch.randn(1 << 22).to(torch.bfloat16)
    for parameter in model.parameters():
        repeated = block.repeat(-(-parameter.numel() // block.numel()))[: parameter.numel()]
        parameter.data = (repeated * parameter.shape[-1] ** -0.5).reshape(parameter.shape)
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)  # its angles are computed, not loaded
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    wanted = peft.LoraConfig(r=arguments.rank, lora_alpha=arguments.rank, target_modules=targets, task_type="CAUSAL_LM")
    adapted: Any = peft.get_peft_model(model, wanted).train()
    if arguments.checkpointing:
        adapted.gradient_checkpointing_enable()
        adapted.enable_input_require_grads()
    optimizer = torch.optim.AdamW([one for one in adapted.parameters() if one.requires_grad], lr=1e-4)
    ids = torch.tensor(_tokens(arguments, config.vocab_size)[:, :-1])

    def once() -> float:
        loss = adapted(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return once


def _config(arguments: argparse.Namespace) -> Any:
    from gemwright.models.gemma import PRESETS

    config = PRESETS[arguments.shape]
    return replace(config, num_layers=arguments.layers or config.num_layers)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both engines in turn, and the 4-bit base once a round."""
    options = [f"--{name}={getattr(arguments, name)}" for name in ("shape", "layers", "length", "rank")]
    options += ["--checkpointing"] if arguments.checkpointing else []
    pythons = {"ours": sys.executable, "peft": arguments.python, "qlora": sys.executable}
    runs: dict[str, list[Figures]] = {engine: [] for engine in pythons}
    for number in range(arguments.rounds):
        for engine, python in pythons.items():
            command = [python, "-m", "benchmarks.tune", "--only", engine, *options]
            found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            runs[engine].append(json.loads(found.splitlines()[-1]))
            Console(stderr=True).print(f"round {number + 1} {engine}: {runs[engine][-1]}", soft_wrap=True)
    typical = {
        engine: {key: median(run[key] for run in found) for key in ("step_s", "peak_bytes")}
        for engine, found in runs.items()
    }
    return {
        "lora_step_vs_peft": round(typical["peft"]["step_s"] / typical["ours"]["step_s"], 3),
        "lora_memory_vs_peft": round(typical["ours"]["peak_bytes"] / typical["peft"]["peak_bytes"], 3),
        "qlora_peak_bytes": typical["qlora"]["peak_bytes"],
        **{f"{engine}_{key}": value for engine, figures in typical.items() for key, value in figures.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("gemma-2b", "gemma-7b"), default="gemma-2b")
    parser.add_argument("--layers", type=int, default=0, help="of the shape's; all unless given")
    parser.add_argument("--length", type=int, default=512, help="tokens of the row")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has peft")
    parser.add_argument("--checkpointing", action="store_true", help="PEFT's side with gradient checkpointing")
    parser.add_argument("--only", choices=("ours", "peft", "qlora"), help="one engine, once, in this process")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments) if arguments.only else compare(arguments)))


if __name__ == "__main__":
    main()
