"""The other side: transformers in float32, given our weights through the real name table.

The one module that needs torch.
"""

from typing import Any

import numpy as np
import torch
import transformers

from gemwright.core.module import named_leaves
from gemwright.core.names import translate
from gemwright.models.family import FAMILIES, Decoder
from tests.parity.cases import GREEDY, PREFILL, ROWS, SHORT, TOKENS, Family, prompts
from tests.tolerances import LOGITS

torch.set_num_threads(1)  # the models are so small that threads cost ten times what they save

NAME = f"transformers {transformers.__version__}"


def build(family: Family, weights: Decoder) -> Any:
    """The oracle's model with our weights in it, every one of its weights among ours."""
    architecture = getattr(transformers, family.architecture)
    config = architecture.config_class(**family.oracle)
    config._attn_implementation = "eager"  # sdpa refuses soft caps
    model: Any = architecture(config).to(torch.float32).eval()
    model.load_state_dict(_state(family, weights, model), strict=True)
    return model


def _state(family: Family, weights: Decoder, model: Any) -> dict[str, torch.Tensor]:
    ours = named_leaves(weights)
    names = translate(ours, FAMILIES[family.config.family].names)
    theirs = model.state_dict()
    state = {
        names[key]: torch.tensor(np.asarray(value)).reshape(theirs[names[key]].shape) for key, value in ours.items()
    }
    return state | {"lm_head.weight": state["model.embed_tokens.weight"]}  # tied, but listed by state_dict


@torch.inference_mode()
def whole(model: Any, tokens: np.ndarray) -> np.ndarray:
    """(B, T, V): all tokens at once, no cache."""
    return model(torch.tensor(tokens).long(), use_cache=False).logits.numpy()


@torch.inference_mode()
def _continue(model: Any, tokens: torch.Tensor, cache: Any, **options: Any) -> tuple[np.ndarray, Any]:
    cache = transformers.DynamicCache(config=model.config) if cache is None else cache  # not every model returns it
    return model(tokens.long(), past_key_values=cache, use_cache=True, **options).logits.numpy(), cache


def steps(model: Any, tokens: np.ndarray) -> np.ndarray:
    """(B, T, V): a prompt, then one token a call."""
    given = torch.tensor(tokens)
    out, cache = _continue(model, given[:, :PREFILL], None)
    logits = [out]
    for at in range(PREFILL, TOKENS):
        out, cache = _continue(model, given[:, at : at + 1], cache)
        logits.append(out)
    return np.concatenate(logits, axis=1)


def padded(model: Any, tokens: np.ndarray) -> list[np.ndarray]:
    """(T of the row, V) a row: prompts of two lengths padded on the left, then one token a call."""
    pads = [0, PREFILL - SHORT]
    shifted = torch.zeros(ROWS, TOKENS, dtype=torch.long)
    for row, pad in enumerate(pads):
        shifted[row, pad:] = torch.tensor(tokens[row, : TOKENS - pad])
    mask = torch.arange(TOKENS) >= torch.tensor(pads)[:, None]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits, cache, start = [], None, 0
    for end in range(PREFILL, TOKENS + 1):
        part = {"attention_mask": mask[:, :end].long(), "position_ids": positions[:, start:end]}
        out, cache = _continue(model, shifted[:, start:end], cache, **part)
        logits.append(out)
        start = end
    joined = np.concatenate(logits, axis=1)
    return [joined[row, pad:] for row, pad in enumerate(pads)]


def greedy(model: Any, prompt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, GREEDY) tokens, and the (B, GREEDY, V) logits they were read from."""
    feed, cache, logits = torch.tensor(prompt), None, []
    for _ in range(GREEDY):
        out, cache = _continue(model, feed, cache)
        logits.append(out[:, -1])
        feed = torch.tensor(out[:, -1:].argmax(-1))
    read = np.stack(logits, axis=1)
    return read.argmax(-1), read


def clear_greedy(model: Any, family: Family, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A prompt, and `greedy` of it, without near ties: any logits within the tolerance give these tokens."""
    for attempt in range(100):
        prompt = prompts(family, seed, attempt)
        tokens, logits = greedy(model, prompt)
        second, first = np.moveaxis(np.sort(logits, axis=-1)[..., -2:], -1, 0)
        if (first - second).min() > 2 * LOGITS:
            return prompt, tokens, logits
    raise RuntimeError(f"{family.name}, seed {seed}: every prompt runs into a near tie")
