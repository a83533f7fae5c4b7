"""A Gemma 1 of any size by one dial: shape, vocabulary, rate, batch and tokens follow from it.

    gemwright pretrain recipes/sized.py --size 30M --set corpus=FOLDER --out runs/30m

reads and packs FOLDER as `recipes/mini.py` does. Every other setting can still be set (`--set optimizer.lr=...`); what
the defaults rest on is said beside them, and in docs/training.md.
"""

import bisect
import math
import re
from dataclasses import replace
from pathlib import Path

from gemwright.core.module import count
from gemwright.models.family import specs_of
from gemwright.models.gemma import Config, gemma1
from gemwright.training.effort import fast_dtype
from gemwright.training.pretrain import Corpus, Pretraining
from gemwright.training.run import Compute, Optimizer, Run, Stage
from recipes import mini

HEAD = 64
TOKENS_PER_PARAMETER = 20  # where compute is best spent, as Hoffmann et al. (2022) measured
LONG, LONG_SHARE = 1024, 0.15  # the last steps read rows of the whole context

# Measured on the default model: the best rate is 1e-2 at 32,768 tokens a step, and 4e-3 at 2,048.
_RATE, _RATE_WIDTH, _RATE_TOKENS = 1e-2, 256, 32_768


def parse_size(text: str) -> int:
    """Parameters from text as 4M, 1.5B or 300000.

    Raises:
      ValueError: if it is no size from 1M to 100B.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMbB]?)\s*", text)
    size = round(float(found[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}[found[2].lower()]) if found else 0
    if not 1_000_000 <= size <= 100_000_000_000:
        raise ValueError(f"size {text!r}: expected parameters from 1M to 100B, as 30M or 1.5B")
    return size


def vocabulary(size: int) -> int:
    """Pieces: more where a table of them stays under a quarter of the parameters, up to Gemma's."""
    width = _width_for(size)
    return min(256_000 if size >= 2e9 else 1 << 16, max(4096, 1 << int(math.log2(size / 4 / width))))


def shape(size: int) -> Config:
    """The model nearest to a size: as many layers as heads of 64, one key head, gated width three times the width."""
    vocab = vocabulary(size)
    more = bisect.bisect_left(range(1, 400), size, key=lambda heads: parameters(_shape(heads, vocab))) + 1
    return min((_shape(heads, vocab) for heads in (max(1, more - 1), more)), key=lambda one: _distance(one, size))


def parameters(config: Config) -> int:
    return count(specs_of(config))


def tokens_per_step(size: int, accelerator: bool) -> int:
    """Grows with the root of the size; a machine with an accelerator is idle in small ones."""
    least = 32_768 if accelerator else 2048
    return max(least, 1 << round(math.log2(least * math.sqrt(size / 4e6))))


def rate(width: int, tokens: int) -> float:
    """The highest rate.

    Muon moves an orthogonal matrix whose elements are equally large at any width, so that what it does to activations
    grows with the root of the width; the rate falls with it. It rises with the third root of the tokens of a step.
    """
    return _RATE * math.sqrt(_RATE_WIDTH / width) * (tokens / _RATE_TOKENS) ** (1 / 3)


def run(size: int, accelerator: bool, tokens: int | None = None) -> Run:
    """The whole run of a size.

    Args:
      tokens: to read in all; `TOKENS_PER_PARAMETER` unless given.
    """
    model, batch = shape(size), tokens_per_step(size, accelerator)
    steps = max(20, (tokens or TOKENS_PER_PARAMETER * size) // batch)
    long = max(1, round(LONG_SHARE * steps))
    optimizer = Optimizer(lr=rate(model.embed_dim, batch), warmup=max(1, min(1000, steps // 20)))
    return Run(model, (Stage(steps - long, LONG // 2), Stage(long, LONG)), batch, optimizer)


def pretraining(
    size: str = "4M", corpus: Path | None = None, tokens: int | None = None, accelerator: bool | None = None
) -> Pretraining:
    """The recipe.

    Args:
      size: parameters, as 30M.
      corpus, accelerator: as of `recipes/mini.py`.
      tokens: to read in all.
    """
    chosen = run(parse_size(size), mini.has_accelerator() if accelerator is None else accelerator, tokens)
    chosen = replace(chosen, compute=Compute(fast_dtype()))

    def read(run: Run, out: Path) -> Corpus:
        return mini.read(corpus, out, run.model.vocab_size, run.stages[-1].length)

    return Pretraining(chosen, read)


def _distance(config: Config, size: int) -> float:
    return abs(math.log(parameters(config) / size))


def _width_for(size: int) -> int:
    """About the width of a model of a size: 12 widths squared a layer, a layer each 64."""
    return max(HEAD, round((size / 12 * HEAD) ** (1 / 3) / HEAD) * HEAD)


def _shape(heads: int, vocab: int) -> Config:
    width = HEAD * heads
    return gemma1(
        vocab_size=vocab,
        embed_dim=width,
        num_layers=max(2, heads),
        num_heads=heads,
        num_kv_heads=1,
        head_dim=HEAD,
        mlp_dim=3 * width,
        max_positions=LONG,
    )
