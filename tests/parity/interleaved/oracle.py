"""The other side: transformers' Gemma3ForConditionalGeneration in float32, given our weights under the names of files.

Each row alone and without padding, always with `token_type_ids`: without them pictures are read causally.
"""

from typing import Any

import numpy as np
import torch
import transformers

from gemwright.models.gemma3_vision import FAMILY, HUGGING_FACE_NAMES, Gemma3Vision
from tests.parity.interleaved.cases import ANSWER, GREEDY, ROWS, Family, places_of, tokens_of
from tests.parity.pictures.oracle import channels_first, fill, in_memory, renamed
from tests.tolerances import LOGITS

torch.set_num_threads(1)


def build(family: Family, weights: Gemma3Vision) -> Any:
    vocab = family.config.vocab_size
    config = transformers.Gemma3Config(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **family.tower},
        text_config=dict(family.decoder),
        mm_tokens_per_image=family.config.picture_tokens,
        image_token_index=vocab,  # past the vocabulary, as in the published models
        boi_token_index=1,
        eoi_token_index=2,
    )
    config._attn_implementation = "eager"
    model = transformers.Gemma3ForConditionalGeneration(config).to(torch.float32).eval()
    state = {in_memory(name): value for name, value in renamed(weights, HUGGING_FACE_NAMES[FAMILY]).items()}
    fill(model, state | {"lm_head.weight": state["model.language_model.embed_tokens.weight"]})
    return model


@torch.inference_mode()
def features(model: Any, pixels: np.ndarray) -> np.ndarray:
    """(P, N, D): what the decoder reads in the place of tokens."""
    return model.get_image_features(channels_first(pixels)).pooler_output.numpy()


def _inputs(family: Family, pixels: np.ndarray, tokens: np.ndarray, row: int, length: int) -> dict[str, torch.Tensor]:
    """One row's first tokens, with its pictures."""
    size, places = family.config.picture_tokens, places_of(family)[row, :length]
    soft = places >= 0
    pictures = np.unique(places[soft] // size)
    return {
        "input_ids": torch.tensor(np.where(soft, family.config.vocab_size, tokens[row, :length])[None]).long(),
        "token_type_ids": torch.tensor(soft[None]).long(),
        "pixel_values": channels_first(pixels[pictures]),
    }


@torch.inference_mode()
def whole(model: Any, family: Family, pixels: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
    """(length of the row, V) a row: the logits after each token, soft ones among them."""
    rows = [_inputs(family, pixels, tokens, row, length) for row, length in enumerate(family.lengths)]
    return [model(use_cache=False, **row).logits[0].numpy() for row in rows]


@torch.inference_mode()
def steps(model: Any, family: Family, pixels: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
    """(length of the row, V) a row: all but the answer at once, then one token a call from its cache."""
    rows = []
    for row, length in enumerate(family.lengths):
        out = model(use_cache=True, **_inputs(family, pixels, tokens, row, length - ANSWER))
        logits = [out.logits[0].numpy()]
        for at in range(length - ANSWER, length):
            feed = torch.tensor(tokens[row, at][None, None]).long()
            out = model(feed, past_key_values=out.past_key_values, use_cache=True)
            logits.append(out.logits[0].numpy())
        rows.append(np.concatenate(logits))
    return rows


@torch.inference_mode()
def greedy(model: Any, family: Family, pixels: np.ndarray, tokens: np.ndarray, row: int) -> np.ndarray:
    """(GREEDY, V): the logits from which the tokens after one row are read, from its cache."""
    out = model(use_cache=True, **_inputs(family, pixels, tokens, row, family.lengths[row]))
    logits = [out.logits[0, -1].numpy()]
    for _ in range(GREEDY - 1):
        feed = torch.tensor([[int(logits[-1].argmax())]])
        out = model(feed, past_key_values=out.past_key_values, use_cache=True)
        logits.append(out.logits[0, -1].numpy())
    return np.stack(logits)


def clear_greedy(model: Any, family: Family, pixels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and (ROWS, GREEDY, V) `greedy` of each, without near ties."""
    for attempt in range(100):
        tokens = tokens_of(family, seed, 1 + attempt)
        logits = np.stack([greedy(model, family, pixels, tokens, row) for row in range(ROWS)])
        second, first = np.moveaxis(np.sort(logits, axis=-1)[..., -2:], -1, 0)
        if (first - second).min() > 2 * LOGITS:
            return tokens, logits
    raise RuntimeError(f"{family.name}, seed {seed}: every prompt runs into a near tie")
