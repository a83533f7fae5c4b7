"""Decoding on a GPU, as a share of its memory bandwidth, beside transformers' eager generate on the same card.

    python -m benchmarks.gpu [--shapes 2b 7b] [--weights bf16 int8 int4] [--batches 1 8 64] [--steps 128]

Random weights. Each engine measures a shape in a process of its own, which gives the card's memory back. A step reads
all weights and the filled part of the cache; its share is that many bytes a second over the bandwidth of a large sum.
The last line is one JSON object with a list of cases. transformers is left out, and said to be, where torch finds no
CUDA. Compiling takes most of the time: some ten seconds a case.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from gemwright.bench.speed import weight_bytes
from gemwright.core.int_weights import IntWeight
from gemwright.core.module import Spec, map_specs
from gemwright.inference.generate import decode
from gemwright.inference.session import Session
from gemwright.kernels.packed_product import GROUP
from gemwright.models.gemma import PRESETS, Config, Gemma

SHAPES = {"2b": "gemma-2b", "7b": "gemma-7b"}
PROMPT, TRIES = 16, 3

# ---------------------------------------------------------------------------------------- ours


def random_weights(config: Config, kind: str) -> Gemma:
    """Drawn on the device: bf16, or codes of 8 or 4 bits with scales that keep activations in range."""

    def draw(name: str, spec: Spec) -> Any:
        key = jax.random.key(sum(name.encode()))
        if len(spec.shape) < 2:
            return jnp.zeros(spec.shape, jnp.bfloat16)
        if kind == "bf16":
            return jax.random.normal(key, spec.shape, jnp.bfloat16) * jnp.bfloat16(spec.fan_in**-0.5)
        outs, groups = spec.size // spec.fan_in, -(-spec.fan_in // GROUP)
        codes = jax.random.bits(key, (outs, groups, GROUP if kind == "int8" else GROUP // 2), jnp.uint8)
        scale = {"int8": 74.0, "int4": 4.6}[kind] * spec.fan_in**0.5  # the deviation of the codes
        scales = jnp.full((outs, groups), 1 / scale, jnp.float16)
        codes = jax.lax.bitcast_convert_type(codes, jnp.int8) if kind == "int8" else codes
        return IntWeight(codes, scales, spec.shape, jnp.dtype(jnp.bfloat16))

    return map_specs(draw, Gemma.specs(config))


def measure(weights: Gemma, config: Config, batch: int, steps: int) -> dict[str, float]:
    """Tokens a second of all sequences together, and the bytes that a step reads."""

    def seconds() -> float:
        session = Session(weights, config, batch, PROMPT + steps)
        session.extend([list(range(100, 100 + PROMPT))] * batch)
        session.state.last.block_until_ready()
        begun = time.perf_counter()
        for _ in decode(session, steps):
            pass
        return time.perf_counter() - begun

    seconds()  # compiles
    best = median(seconds() for _ in range(TRIES))
    token = 2 * 2 * config.num_layers * config.num_kv_heads * config.head_dim  # of keys and values, bf16
    read = weight_bytes(weights) + batch * (PROMPT + steps / 2) * token
    return {"tokens_per_second": batch * steps / best, "bytes_a_step": read, "steps_per_second": steps / best}


def bandwidth(size: int = 1 << 31) -> float:
    """Bytes a second at which the card sums, or copies, an array beyond its caches; the better of both."""
    array = jnp.ones(size // 4, jnp.float32)
    total, copied = jax.jit(jnp.sum), jax.jit(lambda array: array + 1)
    return max(size / _seconds(lambda: total(array)), 2 * size / _seconds(lambda: copied(array)))


def _seconds(action: Callable[[], jax.Array], calls: int = 10) -> float:
    """Of one of several calls in a row, so that starting them is not measured."""
    action().block_until_ready()
    begun = time.perf_counter()
    for _ in range(calls - 1):
        action()
    action().block_until_ready()
    return (time.perf_counter() - begun) / calls


# --------------------------------------------------------------------------------- transformers


def why_no_transformers() -> str | None:
    """None if it can run on this card."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    import torch  # pyright: ignore[reportMissingImports]

    return None if torch.cuda.is_available() else "torch finds no CUDA"


def transformers_model(config: Config) -> Any:
    """Random weights in bfloat16 on the card."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import GemmaConfig, GemmaForCausalLM  # pyright: ignore[reportMissingImports]

    theirs = GemmaConfig(
        vocab_size=config.vocab_size, hidden_size=config.embed_dim, num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads, num_key_value_heads=config.num_kv_heads, head_dim=config.head_dim,
        intermediate_size=config.mlp_dim,
    )  # fmt: skip
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        return GemmaForCausalLM(theirs).eval()


def measure_transformers(model: Any, batch: int, steps: int) -> float:
    """Tokens a second of its `generate`, without torch.compile."""
    import torch  # pyright: ignore[reportMissingImports]

    prompt = torch.arange(100, 100 + PROMPT, device="cuda").repeat(batch, 1)

    def seconds(new: int) -> float:
        torch.cuda.synchronize()
        begun = time.perf_counter()
        with torch.inference_mode():
            model.generate(prompt, max_new_tokens=new, min_new_tokens=new, do_sample=False)
        torch.cuda.synchronize()
        return time.perf_counter() - begun

    seconds(4)
    reading = median(seconds(1) for _ in range(TRIES))
    return batch * (steps - 1) / (median(seconds(steps) for _ in range(TRIES)) - reading)


# ------------------------------------------------------------------------------------- all cases


def run_alone(what: str, shape: str, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What one process measures, as it comes."""
    given = ["--shapes", shape, "--weights", *arguments.weights, "--batches", *map(str, arguments.batches)]
    command = [sys.executable, "-m", "benchmarks.gpu", "--only", what, *given, "--steps", str(arguments.steps)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"could not measure {what} at {shape}")  # the process said why


def only(what: str, shape: str, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The measurements that such a process makes."""
    if jax.default_backend() == "cpu":
        raise SystemExit("JAX finds no GPU here: install jax with its CUDA plugin, or use benchmarks.cpu")
    config = PRESETS[SHAPES[shape]]
    if what == "bandwidth":
        yield {"bytes_a_second": bandwidth()}
    elif what == "transformers":
        model = transformers_model(config)
        for batch in arguments.batches:
            yield {"batch": batch, "tokens_per_second": measure_transformers(model, batch, arguments.steps)}
    else:
        for kind in arguments.weights:
            weights = random_weights(config, kind)
            for batch in arguments.batches:
                yield {"weights": kind, "batch": batch, **measure(weights, config, batch, arguments.steps)}
            del weights  # before the next are drawn


def all_cases(arguments: argparse.Namespace) -> dict[str, Any]:
    console = Console(stderr=True)
    limit = next(run_alone("bandwidth", arguments.shapes[0], arguments))["bytes_a_second"]
    missing = why_no_transformers()
    console.print(f"bandwidth {limit / 1e9:,.0f} GB/s; transformers: {missing or 'beside'}", highlight=False)
    cases: list[dict[str, Any]] = []
    for shape in arguments.shapes:
        found = [] if missing else run_alone("transformers", shape, arguments)
        theirs = {case["batch"]: case["tokens_per_second"] for case in found}
        for ours in run_alone("ours", shape, arguments):
            case: dict[str, Any] = {"shape": shape, **ours}
            case["bandwidth_share"] = ours["bytes_a_step"] * ours["steps_per_second"] / limit
            if ours["batch"] in theirs:
                case["transformers_tokens_per_second"] = theirs[ours["batch"]]
                case["ratio"] = ours["tokens_per_second"] / theirs[ours["batch"]]
            console.print(case, highlight=False, soft_wrap=True)
            cases.append(case)
    return {"bandwidth_bytes_a_second": limit, "transformers": missing or "beside", "cases": cases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--weights", nargs="+", choices=("bf16", "int8", "int4"), default=["bf16", "int8", "int4"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--only", choices=("bandwidth", "transformers", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        for found in only(arguments.only, arguments.shapes[0], arguments):
            print(json.dumps(found), flush=True)
        return
    print(json.dumps(all_cases(arguments)))


if __name__ == "__main__":
    main()
