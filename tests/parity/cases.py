"""What is compared: tiny models of each family, their weights and their tokens. Needs no torch.

Sizes are deliberately not round: heads * head_dim differs from embed_dim, windows are odd or longer
than the prompt, query scales are no head's. A new family is one more `Family` in `FAMILIES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from gemwright.core.module import Spec, generator, map_specs
from gemwright.models import gemma3, griffin
from gemwright.models.family import Config, Decoder, specs_of
from gemwright.models.gemma import gemma1, gemma2

SEEDS = (0, 1, 2)  # of the stored fixtures, and of the live comparison unless it is told others
ROWS = 2
PREFILL = 11
SHORT = 6  # tokens of the second row's prompt when it is padded to PREFILL
GREEDY = 64
TOKENS = PREFILL + GREEDY  # far beyond every window; one length, so that each model is compiled once
CHUNKS = (1, PREFILL, 1, 1, PREFILL, PREFILL, 1, PREFILL, PREFILL, PREFILL, 1, 1, 1, 1, 1)
"""Sizes of chunks: the long ones overrun a window of 5 or 7, from within a ring that has already turned."""
KEPT = slice(2, None, 4)  # positions whose logits the fixtures store; the last is among them


@dataclass(frozen=True, eq=False)
class Family:
    """One architecture in one set of odd sizes.

    Attributes:
      config: ours.
      architecture: the oracle's model class, by its name in transformers.
      oracle: the arguments of that class's configuration; what is left out is its default.
      oracle_pads: whether its padded batches are sound; else each of their rows is compared with itself alone.
    """

    name: str
    config: Config
    architecture: str
    oracle: Mapping[str, Any]
    oracle_pads: bool = True


def _family(name: str, architecture: str, config: Config, **oracle: Any) -> Family:
    sizes = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.mlp_dim,
    }
    return Family(name, config, architecture, sizes | oracle)


def _sizes(embed: int, layers: int, heads: int, kv_heads: int, head: int, mlp: int) -> dict[str, int]:
    return {
        "vocab_size": 61,
        "embed_dim": embed,
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head,
        "mlp_dim": mlp,
    }


def _griffin(name: str, **sizes: Any) -> Family:
    config = griffin.Config(**sizes)
    family = _family(
        name,
        "RecurrentGemmaForCausalLM",
        config,
        lru_width=config.recurrent_dim,
        conv1d_width=config.taps,
        attention_window_size=config.window,  # it sees so many keys, the reference one more
        intermediate_size=2 * config.mlp_dim,
    )
    return replace(family, oracle_pads=False)


def _gemma3(name: str, window: int, period: int, factor: float, scalar: int, **sizes: Any) -> Family:
    windows = (*(window,) * (period - 1), None)
    config = gemma3.Config(query_scale=scalar**-0.5, windows=windows, rope_factor=factor, **sizes)
    kinds = [
        "full_attention" if (layer + 1) % period == 0 else "sliding_attention" for layer in range(config.num_layers)
    ]
    rope = {
        "full_attention": {"rope_type": "linear", "factor": factor, "rope_theta": 1_000_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    return _family(
        name,
        "Gemma3ForCausalLM",
        config,
        layer_types=kinds,
        sliding_window=window,
        query_pre_attn_scalar=scalar,
        rope_parameters=rope,
    )


# The oracle's constants are written out and not derived from ours: they are half of the comparison.
FAMILIES: tuple[Family, ...] = (
    _family("gemma1-mqa", "GemmaForCausalLM", gemma1(**_sizes(24, 2, 4, 1, 10, 44))),
    _family("gemma1-mha", "GemmaForCausalLM", gemma1(**_sizes(20, 2, 3, 3, 14, 36))),
    _family("codegemma", "GemmaForCausalLM", gemma1(**_sizes(28, 2, 7, 1, 6, 52))),
    _family(
        "gemma2-gqa",
        "Gemma2ForCausalLM",
        gemma2(window=5, query_scale=17**-0.5, **_sizes(30, 3, 6, 3, 10, 38)),
        sliding_window=5,
        query_pre_attn_scalar=17,
    ),
    _family(  # the query scale is that of embed_dim / num_heads, as in the 27B
        "gemma2-27b",
        "Gemma2ForCausalLM",
        gemma2(window=7, query_scale=(36 / 4) ** -0.5, **_sizes(36, 3, 4, 2, 6, 50)),
        sliding_window=7,
        query_pre_attn_scalar=9,
    ),
    _family(
        "gemma2-wide",
        "Gemma2ForCausalLM",
        gemma2(window=37, **_sizes(24, 2, 6, 2, 14, 34)),
        sliding_window=37,
        query_pre_attn_scalar=14,
    ),
)
FAMILIES += (
    _griffin("griffin-mqa", **_sizes(36, 4, 3, 1, 12, 26), recurrent_dim=30, window=6),
    _griffin("griffin-mha", **_sizes(40, 3, 5, 5, 8, 34), recurrent_dim=45, window=9, taps=3),
    _griffin("griffin-wide", **_sizes(32, 5, 2, 1, 16, 22), recurrent_dim=32, window=37),
)
FAMILIES += (
    _gemma3("gemma3-gqa", window=5, period=3, factor=8.0, scalar=17, **_sizes(30, 4, 6, 3, 10, 38)),
    _gemma3("gemma3-mqa", window=37, period=2, factor=1.0, scalar=14, **_sizes(24, 3, 4, 1, 14, 34)),
)
BY_NAME = {family.name: family for family in FAMILIES}


SHARP = 1.5
MODERATE = 0.8
GATES = 0.7
"""Of the recurrence's convolution and gates: where a gate is nearly shut, 1 - a^2 loses its digits in float32."""


def sharp_weights(specs: Decoder, seed: int, gain: float = SHARP) -> Decoder:
    """Float32 weights under which a mistake shows: default ones leave scores and caps near zero.

    The final norm is drawn so that logits have a standard deviation of 1.5: float32 noise stays under
    3e-5, and a missing cap of 30 shows at 4e-2. Such models amplify: changing weights by half a unit in
    the last place moves logits by up to 2e-5. Paths held to 1e-5 are therefore compared at `MODERATE`
    gain, where noise stays under 4e-6 and a window wrong by one token shows at 5e-1.
    """

    def draw(name: str, spec: Spec) -> Any:
        values = generator(seed, name).standard_normal(spec.shape, dtype=np.float32)
        if name == "final_norm":
            return jnp.asarray(values - np.float32(1))
        if name.endswith("decay"):
            return jnp.asarray(np.float32(0.5) * values - np.float32(2.5))  # a state lives for some 2 to 20 tokens
        is_matrix = spec.init != "zeros" and len(spec.shape) > 1
        its_gain = gain if spec.product else GATES
        return jnp.asarray(values * np.float32(its_gain / np.sqrt(spec.fan_in) if is_matrix else 0.3))

    return map_specs(draw, specs)


def weights_of(family: Family, seed: int, gain: float = SHARP) -> Any:
    return sharp_weights(specs_of(family.config), seed, gain)


def forced_tokens(family: Family, seed: int) -> np.ndarray:
    """(ROWS, TOKENS) random tokens, fed whatever the model predicts."""
    return _tokens(family, f"forced {seed}", TOKENS)


def prompts(family: Family, seed: int, attempt: int) -> np.ndarray:
    """(ROWS, PREFILL) random tokens to continue greedily; another attempt draws others."""
    return _tokens(family, f"prompt {seed} {attempt}", PREFILL)


def _tokens(family: Family, name: str, length: int) -> np.ndarray:
    return generator(0, f"{family.name} {name}").integers(family.config.vocab_size, size=(ROWS, length), dtype=np.int32)
