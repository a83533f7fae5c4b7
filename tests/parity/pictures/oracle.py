"""The other side: transformers' SigLIP and PaliGemma in float32, given our weights under the names that files use.

Always with `token_type_ids`: without them its PaliGemma 1 sees everything and its PaliGemma 2 nothing ahead.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from gemwright.core.module import named_leaves
from gemwright.core.names import NameTable, translate
from gemwright.models import paligemma, siglip
from gemwright.models.paligemma import PaliGemma
from gemwright.models.siglip import SigLIP
from tests.parity.pictures.cases import GREEDY, LENGTHS, PROMPTS, ROWS, Pair, Tower, tokens_of
from tests.tolerances import LOGITS

torch.set_num_threads(1)

NAME = f"transformers {transformers.__version__}"


def build_tower(tower: Tower, weights: SigLIP) -> Any:
    config = transformers.SiglipVisionConfig(vision_use_head=False, **tower.oracle)
    config._attn_implementation = "eager"
    model = transformers.SiglipVisionModel(config).to(torch.float32).eval()
    fill(model, renamed(weights, siglip.HUGGING_FACE_NAMES))
    return model


def build_pair(pair: Pair, weights: PaliGemma) -> Any:
    size, vocab = pair.config.decoder.embed_dim, pair.config.decoder.vocab_size
    config = transformers.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **pair.tower.oracle},
        text_config=dict(pair.decoder),
        projection_dim=size,
        hidden_size=size,
        image_token_index=vocab,  # past the vocabulary, as in the published models
    )
    config._attn_implementation = "eager"
    model = transformers.PaliGemmaForConditionalGeneration(config).to(torch.float32).eval()
    by_file = renamed(weights, paligemma.HUGGING_FACE_NAMES[pair.config.family])
    state = {in_memory(name): value for name, value in by_file.items()}
    fill(model, state | {"lm_head.weight": state["model.language_model.embed_tokens.weight"]})
    return model


def renamed(weights: Any, table: NameTable) -> dict[str, np.ndarray]:
    ours = named_leaves(weights)
    names = translate(ours, table)
    return {names[name]: np.asarray(value) for name, value in ours.items()}


def in_memory(name: str) -> str:
    """transformers renames what it reads from files."""
    return "model." + name.replace("language_model.model.", "language_model.")


def fill(model: Any, state: dict[str, np.ndarray]) -> None:
    theirs = model.state_dict()
    shaped = {name: torch.tensor(value).reshape(theirs[name].shape) for name, value in state.items()}
    model.load_state_dict(shaped, strict=True)


def processed(picture: Image.Image, size: int, name: str = "SiglipImageProcessorPil") -> np.ndarray:
    """(size, size, 3) float32: what one of transformers' processors on Pillow makes of a picture."""
    processor = getattr(transformers, name)(size={"height": size, "width": size})
    (pixels,) = processor(picture, return_tensors="np").pixel_values
    return pixels.transpose(1, 2, 0)


def crops(picture: Image.Image, smallest: int, most: int, from_ratio: float) -> list[np.ndarray]:
    """(height, width, 3) levels of each of a picture's crops by Gemma 3's processor."""
    channels_first = np.asarray(picture).transpose(2, 0, 1)
    found = transformers.Gemma3ImageProcessorPil().pan_and_scan(channels_first, smallest, most, from_ratio)
    return [crop.transpose(1, 2, 0) for crop in found]


def channels_first(pixels: np.ndarray) -> torch.Tensor:
    return torch.tensor(pixels.transpose(0, 3, 1, 2))


@torch.inference_mode()
def features(model: Any, pixels: np.ndarray) -> np.ndarray:
    """(B, N, D) of a tower."""
    return model(channels_first(pixels)).last_hidden_state.numpy()


def _inputs(pair: Pair, tokens: np.ndarray, prompts: Iterable[int], pictures_each: int = 1) -> dict[str, torch.Tensor]:
    patches, placeholder = pictures_each * pair.config.vision.patches, pair.config.decoder.vocab_size
    pictures = np.full((len(tokens), patches), placeholder)
    ids = np.concatenate([pictures, tokens], axis=1)
    types = (np.arange(ids.shape[1]) >= patches + np.array(list(prompts))[:, None]).astype(np.int64)
    return {"input_ids": torch.tensor(ids).long(), "token_type_ids": torch.tensor(types)}


@torch.inference_mode()
def whole(model: Any, pair: Pair, pixels: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
    """(length of the row, V) a row: the logits after each token of text; `pixels` may hold several for each row."""
    rows, each = [], len(pixels) // ROWS
    for row, (prompt, length) in enumerate(zip(PROMPTS, LENGTHS, strict=True)):
        inputs = _inputs(pair, tokens[row : row + 1, :length], [prompt], each)
        out = model(pixel_values=channels_first(pixels[each * row : each * (row + 1)]), use_cache=False, **inputs)
        rows.append(out.logits[0, each * pair.config.vision.patches :].numpy())
    return rows


def loss(model: Any, pair: Pair, pixels: np.ndarray, tokens: np.ndarray, row: int) -> float:
    """The mean loss over one row's answer, computed by the oracle from its labels."""
    inputs = _inputs(pair, tokens[row : row + 1, : LENGTHS[row]], [PROMPTS[row]])
    labels = torch.where(inputs["token_type_ids"] == 1, inputs["input_ids"], -100)
    with torch.inference_mode():
        return float(model(pixel_values=channels_first(pixels[row : row + 1]), labels=labels, **inputs).loss)


@torch.inference_mode()
def greedy(model: Any, pair: Pair, pixels: np.ndarray, tokens: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
    """(GREEDY,) tokens after one row's prompt from its cache, and the (GREEDY, V) logits they were read from."""
    inputs = _inputs(pair, tokens[row : row + 1, : PROMPTS[row]], [PROMPTS[row]])
    out = model(pixel_values=channels_first(pixels[row : row + 1]), use_cache=True, **inputs)
    logits = [out.logits[0, -1].numpy()]
    for _ in range(GREEDY - 1):
        feed = torch.tensor([[int(logits[-1].argmax())]])
        types = torch.ones_like(feed)
        out = model(feed, token_type_ids=types, past_key_values=out.past_key_values, use_cache=True)
        logits.append(out.logits[0, -1].numpy())
    read = np.stack(logits)
    return read.argmax(-1), read


def clear_greedy(model: Any, pair: Pair, pixels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens with their prompts, and `greedy` of each row, without near ties."""
    for attempt in range(100):
        tokens = tokens_of(pair, seed, 1 + attempt)
        chosen, logits = map(
            np.stack, zip(*(greedy(model, pair, pixels, tokens, row) for row in range(ROWS)), strict=True)
        )
        second, first = np.moveaxis(np.sort(logits, axis=-1)[..., -2:], -1, 0)
        if (first - second).min() > 2 * LOGITS:
            return tokens, chosen, logits
    raise RuntimeError(f"{pair.name}, seed {seed}: every prompt runs into a near tie")
