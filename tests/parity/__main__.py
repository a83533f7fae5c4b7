"""Compare with the oracle live: `python -m tests.parity` from the repository root.

`PARITY_SEED=n` draws other random models and prompts. Exits with 1 if anything is outside the tolerance.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.parity import oracle, ours
from tests.parity.cases import FAMILIES, SEEDS, Family, forced_tokens, weights_of
from tests.parity.interleaved.compare import compare as compare_interleaved
from tests.parity.pictures.compare import compare as compare_pictures
from tests.tolerances import LOGITS


@dataclass(frozen=True)
class Result:
    """One comparison over all seeds: the largest logit difference and, of greedy runs, the tokens."""

    family: str
    case: str
    difference: float
    equal: int = 0
    tokens: int = 0

    @property
    def passed(self) -> bool:
        return self.difference <= LOGITS and self.equal == self.tokens

    def __add__(self, other: "Result") -> "Result":
        difference = float(np.maximum(self.difference, other.difference))  # a NaN stays one, and fails
        return Result(self.family, self.case, difference, self.equal + other.equal, self.tokens + other.tokens)


def compare(family: Family, seed: int) -> Iterator[Result]:
    """Every comparison of one random model."""
    weights, tokens = weights_of(family, seed), forced_tokens(family, seed)
    model = oracle.build(family, weights)
    theirs = oracle.whole(model, tokens)
    yield _logits(family, "all tokens at once", ours.whole(weights, family.config, tokens), theirs)
    yield _logits(family, "each decode step", ours.steps(weights, family.config, tokens), oracle.steps(model, tokens))
    yield _logits(family, "chunks, cached", ours.chunks(weights, family.config, tokens), theirs)
    alone = oracle.padded(model, tokens) if family.oracle_pads else theirs
    yield _logits(family, "padded batch", ours.padded(weights, family.config, tokens), alone)
    prompt, chosen, read = oracle.clear_greedy(model, family, seed)
    our_chosen, our_read = ours.greedy(weights, family.config, prompt)
    yield _tokens(family, "greedy, cached", our_chosen, chosen, _difference(our_read, read))
    uncached, read_uncached = ours.greedy_without_cache(weights, family.config, prompt, chosen)
    yield _tokens(family, "greedy, no cache", uncached, chosen, _difference(read_uncached, read))


def _difference(mine: Sequence[np.ndarray] | np.ndarray, theirs: Sequence[np.ndarray] | np.ndarray) -> float:
    return float(np.max([np.abs(row - other[: len(row)]).max() for row, other in zip(mine, theirs, strict=True)]))


def _logits(family: Family, case: str, mine: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Result:
    return Result(family.name, case, _difference(mine, theirs))


def _tokens(family: Family, case: str, mine: np.ndarray, theirs: np.ndarray, difference: float) -> Result:
    return Result(family.name, case, difference, int((mine == theirs).sum()), theirs.size)


def compare_seeds(seeds: Sequence[int]) -> list[Result]:
    """The comparisons of all families, each over all seeds."""
    totals: dict[tuple[str, str], Result] = {}
    for result in (result for seed in seeds for result in _everything(seed)):
        at = result.family, result.case
        totals[at] = totals[at] + result if at in totals else result
    return list(totals.values())


def _everything(seed: int) -> Iterator[Result]:
    for family in FAMILIES:
        yield from compare(family, seed)
    yield from (Result(*row) for row in compare_pictures(seed))
    yield from (Result(*row) for row in compare_interleaved(seed))


def show(results: Sequence[Result], seeds: Sequence[int]) -> Table:
    table = Table("family", "case", "largest logit difference", "tokens equal", "", caption_justify="left")
    table.caption = f"{oracle.NAME}, float32, seeds {', '.join(map(str, seeds))}; tolerance {LOGITS:.0e}"
    for result in results:
        tokens = f"{result.equal}/{result.tokens}" if result.tokens else "–"
        verdict = "passed" if result.passed else "FAILED"
        table.add_row(result.family, result.case, f"{result.difference:.1e}", tokens, verdict)
    return table


def main() -> int:
    first = int(os.environ.get("PARITY_SEED", 0)) * len(SEEDS)
    seeds = range(first, first + len(SEEDS))
    results = compare_seeds(seeds)
    failed = sum(not result.passed for result in results)
    console = Console()
    console.print(show(results, seeds))
    console.print(f"{len(results) - failed} passed, {failed} failed", highlight=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
