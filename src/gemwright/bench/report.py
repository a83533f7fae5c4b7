"""All measurements of one model in order, and how they are told."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemwright.bench.cold import Memory, first_token_seconds, peak_memory
from gemwright.bench.speed import (
    Machine,
    Speed,
    measure_decode,
    measure_machine,
    measure_prefill,
    tokens_needed,
    weight_bytes,
)
from gemwright.model import Model, load

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
      prompt: tokens read by prefill, before decoding, and for the peak of memory.
      steps: tokens decoded.
      sequences: decoded together.
    """

    prompt: int = 512
    steps: int = 32
    sequences: int = 8


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
      machine, machine_after: its limits, before and after the speeds.
      first_token_seconds: of a cold process, files and compiled programs at hand.
    """

    weight_bytes: int
    threads: int
    machine: Machine
    machine_after: Machine
    prefill: Speed
    decode: Speed
    batch: Speed
    first_token_seconds: float
    memory: Memory

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        return {**values, "memory": {**values["memory"], "over": self.memory.over}}


def measure(model: str | Path | None, bits: int | None, plan: Plan, say: Say = lambda _: None) -> Report:
    """Measure a model on this machine; takes a minute or more where the model is large.

    Args:
      model, bits: as `gemwright.load` takes them.
      say: told what is measured next.

    Raises:
      ValueError: if the plan does not fit the model's context, or is not positive.
    """
    say("loading")
    loaded = load(model, bits=bits)
    _check(plan, loaded)
    weights, config = loaded.weights, loaded.config
    say("the machine")
    before = measure_machine(weights)
    say(f"prefill of {plan.prompt} tokens")
    prefill = measure_prefill(weights, config, before, plan.prompt)
    say("decoding")
    decode = measure_decode(weights, config, before, plan.prompt, plan.steps)
    say(f"decoding {plan.sequences} sequences together")
    batch = measure_decode(weights, config, before, 1, plan.steps, plan.sequences)
    after = measure_machine(weights)
    size, threads = weight_bytes(weights), os.cpu_count() or 1
    del loaded, weights  # the processes that follow want the memory
    say("the first token of a cold process")
    first = first_token_seconds(model, bits)
    say("peak memory of a process")
    memory = peak_memory(model, bits, plan.prompt, plan.steps)
    return Report(size, threads, before, after, prefill, decode, batch, first, memory)


def _check(plan: Plan, model: Model) -> None:
    least = min(plan.prompt, plan.steps, plan.sequences)
    if least < 1:
        raise ValueError(f"prompt, steps and sequences: expected 1 or more, found {least}")
    needed, limit = tokens_needed(plan.prompt, plan.steps), model.config.max_positions
    if needed > limit:
        raise ValueError(
            f"a prompt of {plan.prompt} and {plan.steps} steps need {needed} tokens, the model's context has {limit}: "
            "give a smaller prompt or fewer steps"
        )


def rows(report: Report, plan: Plan) -> list[tuple[str, str, str]]:
    """The report as a table: what, how much, and its share of the limit."""
    before, after, memory = report.machine, report.machine_after, report.memory
    peak = "not measured: no native kernels" if before.peak is None else f"{before.peak / 1e9:,.0f} GOP/s"
    units = [before.matrix_peak] if before.matrix_peak else []
    reading = report.weight_bytes / before.bandwidth
    return [
        ("read bandwidth, before and after", f"{before.bandwidth / 1e9:.1f}, {after.bandwidth / 1e9:.1f} GB/s", ""),
        (f"peak of {before.products} products", peak, ""),
        *(("peak of the matrix unit", f"{unit / 1e9:,.0f} GFLOP/s", "") for unit in units),
        (f"prefill of {plan.prompt} tokens", *_told(report.prefill)),
        (f"decoding after {plan.prompt}", *_told(report.decode)),
        (f"decoding {plan.sequences} sequences", *_told(report.batch)),
        (
            "first token, cold process",
            f"{report.first_token_seconds:.2f} s",
            f"{reading / report.first_token_seconds:.0%} of one reading of the weights",
        ),
        (
            "peak memory",
            f"{memory.peak / 1e6:,.0f} MB",
            f"{memory.over / 1e6:,.0f} MB over weights ({memory.weights / 1e6:,.0f}) and cache "
            f"({memory.cache / 1e6:,.0f})",
        ),
    ]


def _told(speed: Speed) -> tuple[str, str]:
    limit = {"reads": "bandwidth", "products": "the peak of products"}[speed.limit]
    return f"{speed.tokens_per_second:,.1f} tokens/s", f"{speed.share:.0%} of {limit}"
