"""The live comparisons where pictures are read, for the table of `python -m tests.parity`."""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from tests.parity.pictures import oracle, ours
from tests.parity.pictures.cases import PAIRS, TOWERS, Pair, Tower, pair_weights, pixels_of, tokens_of, tower_weights

Row = tuple[str, str, float, int, int]
"""Name, case, largest difference, equal tokens and all tokens."""


def compare(seed: int) -> Iterator[Row]:
    """Every comparison of one seed's random models."""
    for tower in TOWERS:
        yield _tower(tower, seed)
    for pair in PAIRS:
        yield from _pair(pair, seed)


def _tower(tower: Tower, seed: int) -> Row:
    weights, pixels = tower_weights(tower, seed), pixels_of(tower.config, seed)
    mine = np.asarray(ours.features(weights, jnp.asarray(pixels), tower.config))
    theirs = oracle.features(oracle.build_tower(tower, weights), pixels)
    return tower.name, "features", difference(mine, theirs), 0, 0


def _pair(pair: Pair, seed: int) -> Iterator[Row]:
    weights, pixels, tokens = pair_weights(pair, seed), pixels_of(pair.config.vision, seed), tokens_of(pair, seed)
    model = oracle.build_pair(pair, weights)
    theirs = oracle.whole(model, pair, pixels, tokens)
    for case, run in (("padded batch", ours.whole), ("each decode step", ours.steps)):
        yield pair.name, case, difference(run(weights, pair.config, pixels, tokens), theirs), 0, 0
    two = np.concatenate([pixels, pixels_of(pair.config.vision, seed + 1000)])
    theirs = oracle.whole(model, pair, two, tokens)
    yield pair.name, "two pictures a row", difference(ours.whole(weights, pair.config, two, tokens), theirs), 0, 0
    prompts, chosen, read = oracle.clear_greedy(model, pair, pixels, seed)
    our_chosen, our_read = ours.greedy(weights, pair.config, pixels, prompts)
    equal = int((our_chosen == chosen).sum())
    yield pair.name, "greedy, cached", difference(our_read, read), equal, chosen.size


def difference(mine: Sequence[np.ndarray] | np.ndarray, theirs: Sequence[np.ndarray] | np.ndarray) -> float:
    return max(float(np.abs(row - other).max()) for row, other in zip(mine, theirs, strict=True))
