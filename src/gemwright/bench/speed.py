"""Prefill, decoding and batched decoding of one model, each beside the time that the machine needs at least.

A pass over the weights reads all of them and multiplies each with every token. The limit of a pass is the
longer of both times: weights over bandwidth, or operations over the peak of multiply-adds. Attention,
norms and the cache are left out of it.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

import jax
import numpy as np

from gemwright.core.module import named_leaves
from gemwright.core.packed import Packed
from gemwright.inference.bursts import Pace
from gemwright.inference.generate import decode
from gemwright.inference.session import Session
from gemwright.kernels.machine_limits import float32_peak, int8_peak, matrix_peak, read_bandwidth
from gemwright.models.family import Config, Decoder, specs_of

Limit = Literal["reads", "products"]

_WARM = 4  # steps left out
_TRIES = 3


@dataclass(frozen=True)
class Machine:
    """What the machine does at most with these weights.

    Attributes:
      bandwidth: bytes of the weights read a second, by all threads.
      peak: operations a second of the weights' kind of products, two a multiply-add; None if not known.
      products: that kind: 8-bit integers for packed weights, else float32.
      matrix_peak: of products of bfloat16 by a matrix unit, where one reads prompts instead.
    """

    bandwidth: float
    peak: float | None
    products: Literal["int8", "float32"]
    matrix_peak: float | None = None


@dataclass(frozen=True)
class Speed:
    """One measurement.

    Attributes:
      tokens_per_second: of all sequences together.
      share: of the speed at which the limit alone would be felt.
      limit: which limit that is.
    """

    tokens_per_second: float
    share: float
    limit: Limit


def measure_machine(weights: Decoder) -> Machine:
    """Read the weights where they lie, and multiply in registers."""
    leaves: list[jax.Array] = jax.tree.leaves(weights)
    if isinstance(weights.embedding, Packed):
        return Machine(read_bandwidth(leaves), int8_peak(), "int8", matrix_peak())
    return Machine(read_bandwidth(leaves), float32_peak(), "float32")


def measure_prefill(weights: Decoder, config: Config, machine: Machine, prompt: int) -> Speed:
    """Read a prompt and score what follows; the best of some tries, after one that compiles."""

    def read() -> None:
        session = Session(weights, config, 1, prompt)
        session.extend([prompt_ids(config, prompt)])
        session.logits().block_until_ready()

    read()
    seconds = min(seconds_of(read) for _ in range(_TRIES))
    head = config.vocab_size * config.embed_dim
    machine = replace(machine, peak=machine.matrix_peak or machine.peak)
    return _speed(seconds, prompt, weight_bytes(weights), 2 * (prompt * _inner(config) + head), machine)


@dataclass
class _Noted(Pace):
    """Keeps in mind how many steps the bursts had."""

    bursts: list[int] = field(default_factory=list[int])

    def note(self, steps: int, seconds: float) -> bool:
        self.bursts.append(steps)
        return super().note(steps, seconds)


def measure_decode(
    weights: Decoder, config: Config, machine: Machine, prompt: int, steps: int, sequences: int = 1
) -> Speed:
    """Go on from prompts, greedily, a token a sequence and step; the median step, once all is compiled.

    Steps of a burst are taken for equally long.
    """
    session = Session(weights, config, sequences, prompt + steps + _WARM)
    session.extend([prompt_ids(config, prompt)] * sequences)
    for _ in decode(session, _WARM):
        pass
    pace = _Noted()
    chosen = decode(session, 1 + steps, pace=pace)
    next(chosen)
    times = [seconds_of(lambda: next(chosen)) for _ in range(steps)]
    ends = list(itertools.accumulate(pace.bursts))
    each = [sum(times[end - size : end]) / size for size, end in zip(pace.bursts, ends, strict=True)]
    seconds = median(np.repeat(each, pace.bursts))
    operations = 2 * sequences * (_inner(config) + config.vocab_size * config.embed_dim)
    return _speed(float(seconds), sequences, weight_bytes(weights), operations, machine)


def tokens_needed(prompt: int, steps: int) -> int:
    """The longest row that the measurements make."""
    return prompt + steps + _WARM


def weight_bytes(weights: Any) -> int:
    """Bytes in memory of all arrays of a tree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(weights))


def prompt_ids(config: Config, length: int) -> list[int]:
    """Tokens that are no control tokens, where the vocabulary has enough."""
    return [(100 + index) % config.vocab_size for index in range(length)]


def seconds_of(action: Callable[[], Any]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _inner(config: Config) -> int:
    """Weights that each token is multiplied with, the head left out."""
    specs = named_leaves(specs_of(config))
    return sum(spec.size for name, spec in specs.items() if spec.is_matrix and name != "embedding")


def _speed(seconds: float, tokens: int, read: int, operations: int, machine: Machine) -> Speed:
    reading = read / machine.bandwidth
    multiplying = operations / machine.peak if machine.peak else 0.0
    limit: Limit = "reads" if reading >= multiplying else "products"
    return Speed(tokens / seconds, max(reading, multiplying) / seconds, limit)
