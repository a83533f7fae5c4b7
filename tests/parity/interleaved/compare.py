"""The live comparisons where pictures stand between texts, for the table of `python -m tests.parity`."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from tests.parity.interleaved import oracle, ours
from tests.parity.interleaved.cases import FAMILIES, Family, pixels_of, tokens_of, weights_of
from tests.parity.pictures.compare import Row, difference


def compare(seed: int) -> Iterator[Row]:
    """Every comparison of one seed's random models."""
    for family in FAMILIES:
        yield from _family(family, seed)


def _family(family: Family, seed: int) -> Iterator[Row]:
    weights, pixels = weights_of(family, seed), pixels_of(family.config.vision, seed)
    tokens, model = tokens_of(family, seed), oracle.build(family, weights)
    mine = np.asarray(ours.features(weights, jnp.asarray(pixels), family.config))
    yield family.name, "soft tokens", difference(mine, oracle.features(model, pixels)), 0, 0
    theirs = oracle.whole(model, family, pixels, tokens)
    yield family.name, "all tokens at once", difference(ours.alone(weights, family, pixels, tokens), theirs), 0, 0
    yield family.name, "padded batch", difference(ours.whole(weights, family, pixels, tokens), theirs), 0, 0
    stepped = oracle.steps(model, family, pixels, tokens)
    yield family.name, "each decode step", difference(ours.steps(weights, family, pixels, tokens), stepped), 0, 0
    prompts, read = oracle.clear_greedy(model, family, pixels, seed)
    chosen, our_read = ours.greedy(weights, family, pixels, prompts)
    equal = int((chosen == read.argmax(-1)).sum())
    yield family.name, "greedy, cached", difference(our_read, read), equal, chosen.size
