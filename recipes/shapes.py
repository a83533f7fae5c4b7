"""A PaliGemma of 1.1M parameters that learns to see shapes, digits and colours.

    python -m recipes.shapes --out runs/shapes

trains on rendered pictures of two things with captions and questions (`recipes/shapes_data.py`), then asks about
combinations of thing and colour that training never showed, and counts the answers that are right to the letter.
Interrupted at any moment, the same command goes on.
Expected: see docs/pictures.md for the share and the time.
"""

import argparse
import itertools
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import gemwright
from gemwright.core.module import initialise
from gemwright.images.pixels import to_pixels
from gemwright.inference.generate import decode
from gemwright.inference.pictures import read_pictures
from gemwright.inference.session import Session
from gemwright.models import siglip
from gemwright.models.gemma import gemma1
from gemwright.models.paligemma import Config, PaliGemma
from gemwright.text.picture_prompt import format_picture_prompt
from gemwright.text.tokenizer import Tokenizer, load_tokenizer
from gemwright.training.optimizer import make_optimizer
from gemwright.training.pictures import PictureBatch, make_picture_step
from gemwright.training.report import plot_losses, trim
from gemwright.training.run import Optimizer, Run, Stage
from gemwright.training.step import State
from gemwright.training.store import Store
from recipes.shapes_data import Example, examples

LENGTH = 22
"""Tokens that the longest prompt and its answer need."""

ROWS = 32
SAVE_EVERY = 200


def model() -> Config:
    """Pictures of 48 pixels in 36 patches; text in the default model's vocabulary."""
    vision = siglip.Config(image_size=48, patch_size=8, embed_dim=96, num_layers=4, num_heads=4, mlp_dim=256)
    decoder = gemma1(
        vocab_size=4096, embed_dim=96, num_layers=3, num_heads=4, num_kv_heads=1, head_dim=32, mlp_dim=256,
        max_positions=128,
    )  # fmt: skip
    return Config(vision, decoder)


def run(steps: int) -> Run:
    optimizer = Optimizer(lr=4e-3, warmup=60, weight_decay=0.02)
    return Run(model().decoder, (Stage(steps, LENGTH),), ROWS * LENGTH, optimizer)


def tokenizer() -> Tokenizer:
    return load_tokenizer(Path(gemwright.__file__).parent / "default_model")


def batch(found: list[Example], words: Tokenizer, config: Config) -> PictureBatch:
    """Pictures and text as the model reads them."""
    tokens = np.zeros((len(found), LENGTH), np.int32)
    prompts, lengths = np.zeros(len(found), np.int32), np.zeros(len(found), np.int32)
    for row, one in enumerate(found):
        text = format_picture_prompt(words, one.prompt, one.answer)
        tokens[row, : len(text.ids)] = text.ids
        prompts[row], lengths[row] = text.answer.index(True), len(text.ids)
    return PictureBatch(*map(jnp.asarray, (pixels(found, config), tokens, prompts, lengths)))


def pixels(found: list[Example], config: Config) -> np.ndarray:
    return np.stack([to_pixels(one.picture, config.vision.image_size) for one in found])


def train(steps: int, folder: Path) -> PaliGemma:
    """Train, or go on training where `folder` left off, and return the weights; their losses in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config, words, recipe = model(), tokenizer(), run(steps)
    optimizer = make_optimizer(recipe, PaliGemma.specs(config))
    fresh: Any = initialise(PaliGemma.specs(config), recipe.seed)
    state, store = State(fresh, optimizer.init(fresh), jnp.zeros((), jnp.int32)), Store(folder)
    if saved := store.steps():
        state = store.restore(saved[-1], state)
    step, first = make_picture_step(config, optimizer), int(state.step)
    trim(folder / "losses.jsonl", first)
    with (folder / "losses.jsonl").open("a", buffering=1) as log:
        for number in range(first, steps):
            begun = time.perf_counter()
            weights: Any = state.weights
            weights, inner, loss = step(weights, state.optimizer, batch_of_step(number, words, config))
            state = State(weights, inner, state.step + 1)
            record = {"step": number, "loss": round(float(loss), 5), "seconds": round(time.perf_counter() - begun, 3)}
            log.write(json.dumps(record) + "\n")
            if (number + 1) % SAVE_EVERY == 0 or number + 1 == steps:
                store.save(number + 1, state, {})
    store.close()
    plot_losses(folder)
    trained: Any = state.weights
    return trained


def batch_of_step(number: int, words: Tokenizer, config: Config) -> PictureBatch:
    """The same for the same number, whatever came before."""
    return batch(list(itertools.islice(examples("train", number), ROWS)), words, config)


def answers(weights: PaliGemma, config: Config, found: list[Example], words: Tokenizer) -> list[str]:
    """What the model says to each, the likeliest word each time."""
    session = Session(weights.decoder, config.decoder, len(found), capacity=config.vision.patches + LENGTH)
    prompts = [format_picture_prompt(words, one.prompt).ids for one in found]
    read_pictures(session, weights, config, pixels(found, config), prompts)
    said: list[list[int]] = [[] for _ in found]
    for chosen in decode(session, LENGTH, stop_ids=words.stop_ids):
        for row, token in zip(said, chosen.tokens, strict=True):
            row.extend([] if token is None else [token])
    return [words.decode(row) for row in said]


def shares_right(weights: PaliGemma, config: Config, count: int = 1000) -> dict[str, float]:
    """Of held-out combinations, the share of answers right to the letter: by the prompt's beginning, and of all."""
    words, right = tokenizer(), defaultdict[str, list[bool]](list)
    stream = examples("heldout", seed=0)
    for _ in range(count // ROWS + 1):
        found = list(itertools.islice(stream, ROWS))
        for one, said in zip(found, answers(weights, config, found, words), strict=True):
            right[" ".join(one.prompt.split()[:4])].append(said == one.answer)
            right["all"].append(said == one.answer)
    return {kind: float(np.mean(values)) for kind, values in sorted(right.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for losses, state and the report; resumed")
    parser.add_argument("--steps", type=int, default=8000)
    arguments = parser.parse_args()
    weights = train(arguments.steps, arguments.out)
    report = shares_right(weights, model())
    (arguments.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
