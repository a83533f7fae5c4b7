"""How much each input of each weight matters: its mean square while the model reads a text.

The squared error of a product is the sum over its inputs of squared error of the weight times squared
input, if inputs are taken as independent: llama.cpp's importance matrix holds the same numbers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import Spec, map_specs
from gemwright.core.recording import Recording
from gemwright.models.family import Config, Decoder, specs_of

Array = np.ndarray[Any, Any]


def importance(
    weights: Decoder, config: Config, rows: Array, progress: Callable[[int, int], None] | None = None
) -> dict[str, Array]:
    """The importance of every matrix's inputs, as `quantise` takes it.

    Args:
      weights: dense.
      rows: (rows, tokens) of ids.
      progress: told the rows done and all.

    Returns:
      by the weight's name, (in,) float32; none for weights that texts do not touch.
    """
    totals: dict[str, Array] = {}
    for index, row in enumerate(rows):
        for name, squares in _squares(weights, jnp.asarray(row[None]), config).items():
            totals[name] = totals.get(name, np.float64(0)) + np.asarray(squares, np.float64)
        if progress:
            progress(index + 1, len(rows))
    return {name: (total / rows.size).astype(np.float32) for name, total in totals.items()}


@partial(jax.jit, static_argnames="config")
def _squares(weights: Decoder, tokens: jax.Array, config: Config) -> dict[str, jax.Array]:
    recordings: dict[str, Recording] = {}

    def watch(name: str, spec: Spec, weight: jax.Array) -> Any:
        return recordings.setdefault(name, Recording(weight)) if spec.is_matrix else weight

    watched = map_specs(watch, specs_of(config), weights)
    hidden, _ = watched(tokens, config)
    watched.logits(hidden, config)  # for its input; the product itself is not computed
    read = {name: recording.squares for name, recording in recordings.items() if recording.squares}
    return {name: jnp.sum(jnp.stack(squares), axis=0) for name, squares in read.items()}
