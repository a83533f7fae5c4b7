"""The tiny models that most tests of inference, conversation and command line share."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import Spec, generator, map_specs
from gemwright.model import Model
from gemwright.models import gemma3, gemma3_vision, griffin, paligemma, siglip
from gemwright.models.family import Config, Decoder, specs_of
from gemwright.models.gemma import gemma2

CONFIG = gemma2(
    window=24, vocab_size=720, embed_dim=24, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=12, mlp_dim=40,
    max_positions=128,
)  # fmt: skip
"""Its ring turns after 24 tokens, its context ends after 128."""

GRIFFIN = griffin.Config(
    vocab_size=720, embed_dim=24, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=12, mlp_dim=40, recurrent_dim=32,
    pattern=("recurrent", "attention"), window=24, max_positions=1024,
)  # fmt: skip
"""The same with a recurrence."""

PALIGEMMA = paligemma.Config(
    siglip.Config(image_size=28, patch_size=7, embed_dim=24, num_layers=2, num_heads=2, mlp_dim=40), CONFIG
)
"""The first behind a picture of 16 patches."""

GEMMA3 = gemma3_vision.Config(
    siglip.Config(image_size=24, patch_size=4, embed_dim=24, num_layers=2, num_heads=2, mlp_dim=40),
    gemma3.Config(
        vocab_size=720, embed_dim=24, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=12, mlp_dim=40,
        query_scale=12**-0.5, windows=(24, None), max_positions=1024,
    ),
    picture_tokens=9,
)  # fmt: skip
"""A Gemma 3 that sees: pictures of 9 soft tokens, under a ring that turns after 24."""


def sharp_weights(config: Config, seed: int = 0) -> Any:
    """Random weights whose answers depend on all they read; with initial ones a wrong cache goes unseen.

    The embedding is small beside the branches, or else a tied model repeats its last token for ever; the
    final norm makes up for it.
    """

    def draw(name: str, spec: Spec) -> jax.Array:
        values = generator(seed, name).standard_normal(spec.shape)
        if spec.init == "zeros":
            return jnp.asarray(0.3 * values + (6 if name in ("final_norm", "decoder.final_norm") else 0), jnp.float32)
        if name.endswith("decay"):
            return jnp.asarray(0.5 * values - 2.5, jnp.float32)  # a state lives for some 2 to 20 tokens
        gain = 0.3 if name.endswith("embedding") else 1.5
        return jnp.asarray(values * gain / np.sqrt(spec.fan_in), jnp.float32)

    return map_specs(draw, specs_of(config))


def uncached_logits(model: Model, ids: list[int]) -> np.ndarray:
    """(length, V) of one row, in one pass without a cache. Padded, so that all lengths share a program."""
    padded = np.zeros((1, 1024 if len(ids) > 128 else 128), np.int32)
    padded[0, : len(ids)] = ids  # what follows a token does not change its logits
    return np.asarray(_uncached(model.weights, jnp.asarray(padded), model.config))[0, : len(ids)]


@partial(jax.jit, static_argnames="config")
def _uncached(weights: Decoder, tokens: jax.Array, config: Config) -> jax.Array:
    hidden, _ = weights(tokens, config)
    return weights.logits(hidden, config)


def assert_greedy(model: Model, prompt: list[int], answer: list[int]) -> None:
    """By induction: each token is the likeliest after those before it, by the pass without a cache."""
    logits = uncached_logits(model, [*prompt, *answer])[len(prompt) - 1 : -1]
    assert answer == logits.argmax(-1).tolist()
