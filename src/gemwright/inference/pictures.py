"""Pictures and their prompts read into a session, from where `decode` goes on as after any text."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gemwright.inference.session import Sequences, Session, chunk_length
from gemwright.models.paligemma import Config, PaliGemma

PLACEHOLDER = 0
"""What a session's rows hold for each patch: PAD, which no text has."""


def read_pictures(
    session: Session, weights: PaliGemma, config: Config, pixels: ArrayLike, prompts: Sequence[Sequence[int]]
) -> None:
    """Read a picture and the prompt behind it into each row of an empty session of this model, or of its decoder.

    Args:
      pixels: (rows, S, S, 3) in [-1, 1].
      prompts: BOS, prompt and newline of each row; at most 256 tokens, since a prefix is read at once.

    Raises:
      ContextFull, MemoryShort: if a picture and its prompt do not fit.
      ValueError: if the session is not empty or a prompt is empty or too long.
    """
    _check(session, prompts)
    patches, lengths = config.vision.patches, [len(prompt) for prompt in prompts]
    session.reserve(patches + max(lengths))
    tokens = np.zeros((len(prompts), chunk_length(max(lengths))), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    arrays = pixels, tokens, np.array(lengths, np.int32)
    session.state = _read(weights, session.state.caches, *arrays, config)
    session.tokens = [[PLACEHOLDER] * patches + list(prompt) for prompt in prompts]


@partial(jax.jit, static_argnames="config", donate_argnames="caches")
def _read(
    weights: PaliGemma,
    caches: Any,
    pixels: jax.Array,
    tokens: jax.Array,
    lengths: jax.Array,
    config: Config,
) -> Sequences:
    hidden, kept = weights.read(pixels, tokens, config, prompts=lengths, lengths=lengths, cache=caches)
    assert kept is not None
    return Sequences(kept, jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0])


def _check(session: Session, prompts: Sequence[Sequence[int]]) -> None:
    if any(session.tokens):
        raise ValueError("a picture stands at the beginning: expected an empty session, found one that holds tokens")
    for prompt in prompts:
        if not prompt or chunk_length(len(prompt)) < len(prompt):
            raise ValueError(f"expected a prompt of 1 to {chunk_length(len(prompt))} tokens, found {len(prompt)}")
