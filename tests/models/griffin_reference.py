"""RecurrentGemma in plain NumPy, float64: one document, one token and one block of gates at a time."""

from typing import Any

import ml_dtypes
import numpy as np

from gemwright.core.module import named_leaves
from gemwright.models.griffin import Config
from tests.core.reference import attend, rms_norm, rotate

Array = np.ndarray


def logits(weights: Any, config: Config, tokens: Array) -> Array:
    """(T, V) of one document."""
    w = {name: np.asarray(value, np.float64) for name, value in named_leaves(weights).items()}
    x = w["embedding"][tokens] * float(ml_dtypes.bfloat16(config.embed_dim**0.5))
    for layer in range(config.num_layers):
        part = {
            name.removeprefix(f"layers.{layer}."): v for name, v in w.items() if name.startswith(f"layers.{layer}.")
        }
        mix = recurrence if config.kind(layer) == "recurrent" else attention
        x = x + mix(rms_norm(x, part["mixer_norm"], config.norm_epsilon), part, config)
        x = x + mlp(rms_norm(x, part["mlp_norm"], config.norm_epsilon), part)
    scores = rms_norm(x, w["final_norm"], config.norm_epsilon) @ w["embedding"].T
    return scores if config.final_cap is None else config.final_cap * np.tanh(scores / config.final_cap)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def linear(x: Array, part: dict[str, Array], name: str) -> Array:
    return x @ part[f"{name}.weight"].T + part[f"{name}.bias"]


def mlp(x: Array, part: dict[str, Array]) -> Array:
    return linear(gelu(linear(x, part, "mlp.gate")) * linear(x, part, "mlp.up"), part, "mlp.down")


def recurrence(x: Array, part: dict[str, Array], config: Config) -> Array:
    inputs = linear(x, part, "recurrence.input")
    states = np.zeros(inputs.shape)
    for t in range(len(x)):
        mixed = part["recurrence.conv_bias"].copy()
        for back in range(min(config.taps, t + 1)):
            mixed += part["recurrence.conv_weight"][:, 0, config.taps - 1 - back] * inputs[t - back]
        gated = gate(mixed, part, "input_gate") * mixed
        a = np.exp(-8 * gate(mixed, part, "decay_gate") * np.log1p(np.exp(part["recurrence.decay"])))
        states[t] = gated if t == 0 else a * states[t - 1] + np.sqrt(1 - a**2) * gated
    return linear(states * gelu(linear(x, part, "recurrence.gate")), part, "recurrence.output")


def gate(x: Array, part: dict[str, Array], name: str) -> Array:
    blocks, biases = part[f"recurrence.{name}"], part[f"recurrence.{name}_bias"]
    parts = zip(x.reshape(biases.shape), blocks, biases, strict=True)
    return np.concatenate([sigmoid(channels @ block + bias) for channels, block, bias in parts])


def attention(x: Array, part: dict[str, Array], config: Config) -> Array:
    positions = np.arange(len(x))[None]

    def heads(name: str) -> Array:
        return np.einsum("td,hkd->thk", x, part[f"attention.{name}"])[None]

    def turned(values: Array) -> Array:
        half = config.head_dim // 2
        return np.concatenate([rotate(values[..., :half], positions, config.rope_base), values[..., half:]], axis=-1)

    ages = np.arange(len(x))[:, None] - np.arange(len(x))
    visible = ((ages >= 0) & (ages < config.window))[None]
    queries = turned(heads("query")) * config.head_dim**-0.5
    mixed = attend(queries, turned(heads("key")), heads("value"), visible, None)[0]
    return np.einsum("thk,dhk->td", mixed, part["attention.output.weight"]) + part["attention.output.bias"]
