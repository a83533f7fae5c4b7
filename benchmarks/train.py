"""A training step beside transformers' Gemma with PyTorch, eager and compiled, on this CPU.

    python -m benchmarks.train [--rounds 3] [--python PYTHON]

The default model's shape, rows of 512 tokens, the same first weights and batches for every engine; loss, clipping and
AdamW included. Each engine runs in a process of its own, in turn, and tells the median of its steps after the first
few. All get the allocator that `gemwright pretrain` gives itself (`keep_memory`), which makes PyTorch faster too. The
last line is one JSON object: `f32_vs_eager` is PyTorch's seconds over ours (above 1: ours is faster), and so on;
`losses_agree` whether losses stay within 1e-3 nats over the steps in float32, `bf16_losses_apart` the largest
difference in bfloat16. Needs the extra `parity` for the other side (`--python` names an interpreter that has it).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console

from gemwright.training.memory import keep_memory

ROWS, LENGTH, STEPS, WARM = 4, 512, 20, 4
RATE, DECAY, CLIP = 1e-3, 0.1, 1.0
SIZES: dict[str, int] = {
    "vocab_size": 4096, "embed_dim": 256, "num_layers": 4, "num_heads": 4, "num_kv_heads": 1, "head_dim": 64,
    "mlp_dim": 768,
}  # fmt: skip
ENGINES = ("ours-f32", "eager-f32", "compiled-f32", "ours-bf16", "eager-bf16", "compiled-bf16")

Figures = dict[str, Any]
Step = Callable[[np.ndarray], float]


def batches() -> np.ndarray:
    """(STEPS, ROWS, LENGTH + 1) tokens of a small language: each is one of four that may follow the last."""
    rng = np.random.default_rng(0)
    follow = rng.integers(3, SIZES["vocab_size"], (SIZES["vocab_size"], 4))
    tokens = rng.integers(3, SIZES["vocab_size"], (STEPS, ROWS, LENGTH + 1))
    for place in range(1, LENGTH + 1):
        tokens[..., place] = follow[tokens[..., place - 1], rng.integers(0, 4, (STEPS, ROWS))]
    return tokens


def measure(engine: str, folder: Path) -> Figures:
    """One engine in this process."""
    keep_memory()
    name, dtype = engine.split("-")
    step = _ours(dtype, folder) if name == "ours" else _torch(dtype, folder, compiled=name == "compiled")
    losses, seconds = list[float](), list[float]()
    for tokens in batches():
        begun = time.perf_counter()
        losses.append(step(tokens))
        seconds.append(time.perf_counter() - begun)
    return {"step_s": median(seconds[WARM:]), "losses": losses}


def _ours(dtype: str, folder: Path) -> Step:
    import jax

    from gemwright.checkpoints.load import load_checkpoint
    from gemwright.core.sharding import MeshShape, make_mesh
    from gemwright.data.packing import Batch
    from gemwright.models.family import specs_of
    from gemwright.training.optimizer import make_optimizer
    from gemwright.training.run import Compute, Optimizer, Run, Stage
    from gemwright.training.step import fresh_state, make_steps

    loaded = load_checkpoint(folder, dtype="float32")
    specs, mesh = specs_of(loaded.config), make_mesh(MeshShape(fsdp=1))
    constant = Optimizer("adamw", RATE, warmup=0, final_share=1.0, weight_decay=DECAY, adam_b2=0.95, clip=CLIP)
    compute = Compute(dtype="bfloat16" if dtype == "bf16" else "float32")
    run = Run(loaded.config, (Stage(STEPS, LENGTH),), ROWS * LENGTH, constant, compute)
    optimizer = make_optimizer(run, specs)
    state = fresh_state(loaded.weights, specs, optimizer, mesh)
    steps = make_steps(run.model, optimizer, mesh, run.compute)

    def step(tokens: np.ndarray) -> float:
        nonlocal state
        tokens = tokens.astype(np.int32)[None]
        places = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), (1, ROWS, LENGTH))
        ones: Any = np.ones_like(places)
        batch: Any = Batch(tokens[..., :-1], tokens[..., 1:], places, ones, ones)  # pyright: ignore[reportArgumentType]
        state, measures = steps(state, batch)
        jax.block_until_ready(state)
        return float(measures.loss[0])

    return step


def _torch(dtype: str, folder: Path, compiled: bool) -> Step:
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.config.use_cache = False
    matrices = [one for name, one in model.named_parameters() if one.ndim > 1 and "embed" not in name]
    rest = [one for name, one in model.named_parameters() if one.ndim == 1 or "embed" in name]
    parts = [{"params": matrices, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(parts, lr=RATE, betas=(0.9, 0.95), fused=True)

    def loss_of(inputs: Any, targets: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            logits = model(input_ids=inputs).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    compute = torch.compile(loss_of) if compiled else loss_of

    def step(tokens: np.ndarray) -> float:
        ids = torch.from_numpy(tokens)
        loss = compute(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def compare(arguments: argparse.Namespace) -> Figures:
    """All engines in turn."""
    from gemwright.checkpoints.save import save_checkpoint
    from gemwright.core.module import initialise
    from gemwright.models.family import specs_of
    from gemwright.models.gemma import gemma1

    config = gemma1(**SIZES)
    runs: dict[str, list[Figures]] = {engine: [] for engine in ENGINES}
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "model", config, initialise(specs_of(config), 0))
        for number in range(arguments.rounds):
            for engine in ENGINES:
                python = sys.executable if engine.startswith("ours") else arguments.python
                command = [python, "-m", "benchmarks.train", "--only", engine, "--folder", f"{folder}/model"]
                found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                runs[engine].append(json.loads(found.splitlines()[-1]))
                figures = runs[engine][-1]
                Console(stderr=True).print(f"round {number + 1} {engine}: {figures['step_s']:.3f} s", soft_wrap=True)
    seconds = {engine: median(run["step_s"] for run in found) for engine, found in runs.items()}
    apart, narrow_apart = (
        np.abs(np.subtract(runs[f"ours-{dtype}"][0]["losses"], runs[f"eager-{dtype}"][0]["losses"])).max()
        for dtype in ("f32", "bf16")
    )
    ratios = {
        f"{dtype}_vs_{other}": round(seconds[f"{other}-{dtype}"] / seconds[f"ours-{dtype}"], 3)
        for dtype in ("f32", "bf16")
        for other in ("eager", "compiled")
    }
    tokens = {f"{engine}_tokens_per_s": round(ROWS * LENGTH / value) for engine, value in seconds.items()}
    return {
        **ratios,
        **tokens,
        "largest_loss_difference": float(apart),
        "losses_agree": bool(apart < 1e-3),
        "bf16_losses_apart": float(narrow_apart),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has transformers and torch")
    parser.add_argument("--only", choices=ENGINES, help="one engine, once, in this process")
    parser.add_argument("--folder", type=Path, help="of the first weights, with --only")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.only, arguments.folder) if arguments.only else compare(arguments)))


if __name__ == "__main__":
    main()
