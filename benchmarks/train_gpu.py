"""Training Gemma 2B with rows of 8,192 tokens on one GPU, as a share of its peak, beside transformers with PyTorch.

    python -m benchmarks.train_gpu [--only check ours torch] [--attention flash] [--remat products] [--rows 1]

Random weights and tokens; loss, clipping and AdamW included. Ours: float32 weights, bf16 products, layers in a loop.
PyTorch: `GemmaForCausalLM`, `sdpa`, fused AdamW, eager; float32 weights under bf16 autocast, and bf16 weights alone;
`--torch-remat layers` is its gradient checkpointing. Each variant has a process of its own and tells the median of its
steps after the first two; one that fails is told and left out, and the fastest of each side is compared. `check`
compares the attention kernel with plain JAX, values and gradients, and times it. `--attention causal` drops the mask of
documents, `plain` the kernel.

MFU: `training/effort.py: step_flops` (6 a parameter and token, and attention over half of each row; what is computed
again is not counted) over the card's dense bf16 peak, `--peak`. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import product
from statistics import median
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from benchmarks.attention_gpu import check
from gemwright.core.flash_attention import flash_attention
from gemwright.core.module import Spec, map_specs
from gemwright.core.sharding import MeshShape, make_mesh
from gemwright.data.packing import Batch, rows_to_batch
from gemwright.models import gemma
from gemwright.models.family import specs_of
from gemwright.models.gemma import PRESETS, Config, gemma1
from gemwright.training import head_loss
from gemwright.training.effort import step_flops
from gemwright.training.optimizer import make_optimizer
from gemwright.training.run import Compute, Optimizer, Run, Stage
from gemwright.training.step import abstract_state, compile_steps, fresh_state

Figures = dict[str, Any]
TINY = gemma1(vocab_size=512, embed_dim=64, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=32, mlp_dim=128)
SHAPES: dict[str, tuple[Config, int]] = {"2b": (PRESETS["gemma-2b"], 8192), "tiny": (TINY, 128)}
WARM, BOS, RATE = 2, 2, 1e-4
console = Console(stderr=True, highlight=False, soft_wrap=True)


def run_of(arguments: argparse.Namespace) -> Run:
    config, length = SHAPES[arguments.shape]
    optimizer = Optimizer("adamw", RATE, warmup=0, final_share=1.0, adam_b2=0.95)
    compute = Compute("bfloat16", arguments.remat[0], scan=not arguments.unrolled)
    return Run(config, (Stage(arguments.steps, length),), arguments.rows * length, optimizer, compute)


def tokens(run: Run, step: int, documents: int) -> np.ndarray[Any, Any]:
    """(rows, length + 1), each row of documents of about one length."""
    length = run.length(0)
    drawn = np.random.default_rng(step).integers(BOS + 1, run.model.vocab_size, (run.rows(0), length + 1))
    drawn[:, np.linspace(0, length, documents, endpoint=False).astype(int)] = BOS
    return drawn


def figures(seconds: list[float], losses: list[float], peak: int, card: str) -> Figures:
    """What a variant tells of its steps."""
    rest = {"first_loss": losses[0], "last_loss": losses[-1], "peak_memory_bytes": peak, "card": card}
    return {"step_seconds": median(seconds[WARM:]), "seconds": [round(value, 4) for value in seconds], **rest}


# ------------------------------------------------------------------------------------------ ours


def measure_ours(arguments: argparse.Namespace) -> Figures:
    run, mesh = run_of(arguments), make_mesh(MeshShape(fsdp=1), jax.devices()[:1])
    specs = specs_of(run.model)
    optimizer = make_optimizer(run, specs)
    part: Any = jax.ShapeDtypeStruct((1, run.rows(0), run.length(0)), jnp.int32)
    options: dict[str, Any] = dict(option.split("=", 1) for option in arguments.options)
    begun = time.perf_counter()
    with _variant(arguments), jax.set_mesh(mesh):
        program = compile_steps(run.model, optimizer, mesh, run.compute)
        lowered = program.lower(None, abstract_state(specs, optimizer, mesh), Batch(*[part] * 5))
        compiled = lowered.compile(compiler_options=options or None)
    compiling = time.perf_counter() - begun
    console.print(f"compiled in {compiling:.1f} s; {_planned(compiled)}")
    state = fresh_state(map_specs(_draw, specs), specs, optimizer, mesh)
    seconds, losses = list[float](), list[float]()
    for step in range(arguments.steps):
        rows = rows_to_batch(tokens(run, step, arguments.documents), BOS)
        batch = jax.block_until_ready(jax.tree.map(lambda part: jnp.asarray(part[None]), rows))
        begun = time.perf_counter()
        state, measures = compiled(None, state, batch)
        losses.append(float(measures.loss[0]))
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - begun)
        console.print(f"step {step}: {seconds[-1]:.4f} s, loss {losses[-1]:.4f}, norm {float(measures.norm[0]):.3f}")
    device = jax.devices()[0]
    held = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
    return {"compile_seconds": compiling, **figures(seconds, losses, held, device.device_kind)}


def _variant(arguments: argparse.Namespace) -> ExitStack:
    """What the library would decide otherwise."""
    stack = ExitStack()
    if arguments.attention[0] == "plain":
        stack.enter_context(patch.object(gemma, "fits", lambda *_: False))
    if arguments.attention[0] == "causal":
        stack.enter_context(patch.object(gemma, "flash_in_order", lambda *heads: flash_attention(*heads[:3])))
    if arguments.logits:
        stack.enter_context(patch.object(head_loss, "_ON_GPUS", 1 << arguments.logits))
    return stack


def _planned(compiled: Any) -> str:
    plan = compiled.memory_analysis()
    if plan is None:
        return "no plan of memory"
    return f"planned {plan.argument_size_in_bytes / 1e9:.1f} GB kept, {plan.temp_size_in_bytes / 1e9:.1f} GB beside"


def _draw(name: str, spec: Spec) -> jax.Array:
    if len(spec.shape) < 2:
        return jnp.zeros(spec.shape, jnp.float32)
    return jax.random.normal(jax.random.key(sum(name.encode())), spec.shape, jnp.float32) * spec.fan_in**-0.5


# ----------------------------------------------------------------------------------------- torch


def measure_torch(arguments: argparse.Namespace) -> Figures:
    import torch  # pyright: ignore[reportMissingImports]

    run, mixed = run_of(arguments), arguments.torch_weights[0] == "float32"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = _torch_model(run.model, torch.float32 if mixed else torch.bfloat16, device)
    if arguments.torch_remat[0] == "layers":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    seconds, losses = list[float](), list[float]()
    for step in range(arguments.steps):
        ids = torch.from_numpy(tokens(run, step, 1)[:, :-1]).to(device)
        begun = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=mixed):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
        console.print(f"step {step}: {seconds[-1]:.4f} s, loss {losses[-1]:.4f}")
    if device == "cpu":
        return figures(seconds, losses, 0, device)
    return figures(seconds, losses, torch.cuda.max_memory_allocated(), torch.cuda.get_device_name())


def _torch_model(config: Any, dtype: Any, device: str) -> Any:
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import GemmaConfig, GemmaForCausalLM  # pyright: ignore[reportMissingImports]

    kind: Any = GemmaConfig  # takes more than it declares
    theirs = kind(
        vocab_size=config.vocab_size, hidden_size=config.embed_dim, num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads, num_key_value_heads=config.num_kv_heads, head_dim=config.head_dim,
        intermediate_size=config.mlp_dim, attn_implementation="sdpa",
    )  # fmt: skip
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = GemmaForCausalLM(theirs)
    torch.set_default_dtype(torch.float32)
    return model.train()


# ---------------------------------------------------------------------------------- all variants

PARTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "check": lambda _: check(), "ours": measure_ours, "torch": measure_torch
}  # fmt: skip
VARIED = {"check": (), "ours": ("attention", "remat"), "torch": ("torch_weights", "torch_remat")}


def run_alone(part: str, variant: dict[str, str], arguments: argparse.Namespace) -> Figures:
    """What a process of its own finds; its `error` where it fails or takes too long."""
    console.print(f"--- {part} {' '.join(variant.values())}")
    given = [word for name, value in variant.items() for word in (f"--{name.replace('_', '-')}", value)]
    rest = [f"--{name}={getattr(arguments, name)}" for name in ("shape", "rows", "steps", "documents", "logits")]
    rest += ["--unrolled"] * arguments.unrolled + [f"--options={option}" for option in arguments.options]
    python = arguments.python if part == "torch" else sys.executable
    command = [python, "-m", "benchmarks.train_gpu", "--here", part, *given, *rest]
    kept = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.93", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, timeout=arguments.limit, env={**kept, **os.environ}
        )
        return {**variant, **json.loads(done.stdout.splitlines()[-1])}
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        console.print(f"{part} failed: {type(error).__name__}")  # the process said why
        return {**variant, "error": type(error).__name__}


def all_parts(arguments: argparse.Namespace) -> Figures:
    run = run_of(arguments)
    flops = step_flops(run, specs_of(run.model), run.length(0))
    runs: dict[str, list[Figures]] = {"check": [], "ours": [], "torch": []}
    for part in arguments.only:
        for values in product(*(getattr(arguments, name) for name in VARIED[part])):
            found = run_alone(part, dict(zip(VARIED[part], values, strict=True)), arguments)
            if "step_seconds" in found:
                found["tokens_per_second"] = run.tokens_per_step / found["step_seconds"]
                found["mfu"] = flops / found["step_seconds"] / arguments.peak
                shares = f"MFU {found['mfu']:.1%}, {found['tokens_per_second']:,.0f} tokens a second"
                console.print(f"{found['step_seconds']:.4f} s a step, {shares}")
            runs[part].append(found)
    ours, theirs = (max(runs[part], key=lambda found: found.get("mfu", 0.0), default={}) for part in ("ours", "torch"))
    both = "mfu" in ours and "mfu" in theirs
    return {
        "mfu": ours.get("mfu"), "tokens_per_second": ours.get("tokens_per_second"),
        "peak_memory_bytes": ours.get("peak_memory_bytes"), "torch_mfu": theirs.get("mfu"),
        "torch_tokens_per_second": theirs.get("tokens_per_second"),
        "ratio": ours["tokens_per_second"] / theirs["tokens_per_second"] if both else None,
        "card": ours.get("card") or theirs.get("card"), "rows": arguments.rows, "flops_a_step": flops, **runs,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--attention", nargs="+", choices=("flash", "causal", "plain"), default=["flash"])
    parser.add_argument("--remat", nargs="+", choices=("products", "layers", "none"), default=["products"])
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--documents", type=int, default=1, help="of a row; ours alone masks them")
    parser.add_argument("--unrolled", action="store_true", help="layers one after the other, not in a loop")
    parser.add_argument("--logits", type=int, default=0, help="binary logarithm of the logits held at once")
    parser.add_argument("--options", nargs="*", default=[], action="extend", help="of XLA's compiler: NAME=VALUE")
    parser.add_argument("--torch-weights", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--torch-remat", nargs="+", choices=("layers", "none"), default=["layers"])
    parser.add_argument("--peak", type=float, default=989e12, help="dense bf16 operations a second of the card")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has transformers and torch")
    parser.add_argument("--limit", type=float, default=150, help="seconds that a variant may take")
    parser.add_argument("--shape", choices=SHAPES, default="2b")
    parser.add_argument("--here", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    print(json.dumps((PARTS[arguments.here] if arguments.here else all_parts)(arguments)))


if __name__ == "__main__":
    main()
