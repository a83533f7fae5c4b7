"""A PaliGemma of 1.0M parameters that learns to see shapes, digits and colours.

    python -m recipes.shapes --out runs/shapes

trains on rendered pictures of one or two things with captions and questions (`recipes/shapes_data.py`), then asks
about combinations of thing and colour that training never showed, and counts the answers that are right to the letter.
Interrupted at any moment, the same command goes on.
Expected: see docs/pictures.md for the shares and the time.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import initialise
from gemwright.models import siglip
from gemwright.models.gemma import gemma1
from gemwright.models.paligemma import Config, PaliGemma
from gemwright.text.picture_prompt import format_picture_prompt
from gemwright.text.tokenizer import Tokenizer
from gemwright.training.loop import next_group
from gemwright.training.optimizer import make_optimizer
from gemwright.training.pictures import PictureBatch, make_picture_steps
from gemwright.training.report import Report, trim
from gemwright.training.run import Optimizer, Run, Stage
from gemwright.training.step import State
from gemwright.training.store import Store
from recipes.shapes_answers import LENGTH, Answered, ask, draw_answers, draw_learning, tokenizer, write_report
from recipes.shapes_data import CAPTION, KINDS, SPLITS, Example, Split, examples, pixels

ROWS = 32
BURST = 10
"""Steps of one program."""

CAPTIONS_ONLY = 0.3
"""The first share of the steps: a caption names all there is to see, so that it teaches most."""

MIXTURE = (*KINDS, "caption", "colour", "colour")
"""Of what comes then. Finding a thing by its name, to tell its colour, is learned last."""

SAVE_EVERY = 500
"""Steps between saved states, and between looks at how much the model gets right."""

WATCHED = 200
"""Questions of such a look, about each of what training shows and what it does not."""


def model() -> Config:
    """Pictures of 48 pixels in 36 patches; text in the default model's vocabulary."""
    vision = siglip.Config(image_size=48, patch_size=8, embed_dim=96, num_layers=4, num_heads=4, mlp_dim=256)
    decoder = gemma1(
        vocab_size=4096, embed_dim=96, num_layers=2, num_heads=4, num_kv_heads=1, head_dim=32, mlp_dim=256,
        max_positions=128,
    )  # fmt: skip
    return Config(vision, decoder)


def run(steps: int) -> Run:
    optimizer = Optimizer(lr=4e-3, warmup=60, weight_decay=0.02)
    return Run(model().decoder, (Stage(steps, LENGTH),), ROWS * LENGTH, optimizer)


def train(steps: int, folder: Path) -> PaliGemma:
    """Train, or go on training where `folder` left off, and return the weights.

    `folder` receives `checkpoints`, `losses.jsonl` (a line a step), and `shares.jsonl`: every `SAVE_EVERY` steps the
    shares of answers right to the letter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, words, recipe = model(), tokenizer(), run(steps)
    optimizer = make_optimizer(recipe, PaliGemma.specs(config))
    fresh: Any = initialise(PaliGemma.specs(config), recipe.seed)
    state, store = State(fresh, optimizer.init(fresh), jnp.zeros((), jnp.int32)), Store(folder)
    if saved := store.steps():
        state = store.restore(saved[-1], state)
    advance, first = make_picture_steps(config, optimizer), int(state.step)
    trim(folder / "shares.jsonl", -(-first // SAVE_EVERY))  # the last steps, too, are followed by a look
    with Report(folder, ROWS * LENGTH, steps) as report:
        report.go_back(first)
        while first < steps:
            numbers = next_group(recipe, first, steps, BURST, lambda step: step % SAVE_EVERY == 0)
            state, measures = advance(state, batches(numbers, steps, words, config))
            report.begun(numbers, measures)
            first = numbers.stop
            if first % SAVE_EVERY == 0 or first == steps:
                report.finish()
                note_shares(_seeing(state), config, first, folder / "shares.jsonl")
                store.save(first, state, {})
    store.close()
    return _seeing(state)


def _seeing(state: State) -> PaliGemma:
    weights: Any = state.weights
    return weights


def batches(numbers: range, steps: int, words: Tokenizer, config: Config) -> PictureBatch:
    """Some steps' batches, stacked; those of a step are the same whatever came before."""
    found: list[PictureBatch] = []
    for number in numbers:
        kinds = (CAPTION,) if number < CAPTIONS_ONLY * steps else MIXTURE
        found.append(batch(list(itertools.islice(examples("train", number, kinds), ROWS)), words, config))
    return jax.tree.map(lambda *parts: np.stack(parts), *found)


def batch(found: Sequence[Example], words: Tokenizer, config: Config) -> PictureBatch:
    """Pictures and text as the model reads them."""
    tokens = np.zeros((len(found), LENGTH), np.int32)
    prompts, lengths = np.zeros(len(found), np.int32), np.zeros(len(found), np.int32)
    for row, one in enumerate(found):
        text = format_picture_prompt(words, one.prompt, one.answer)
        tokens[row, : len(text.ids)] = text.ids
        prompts[row], lengths[row] = text.answer.index(True), len(text.ids)
    arrays: Any = (pixels(found, config.vision.image_size), tokens, prompts, lengths)
    return PictureBatch(*arrays)


def note_shares(weights: PaliGemma, config: Config, step: int, path: Path) -> None:
    """Add a line of the shares right at a step. The report asks other questions, so that none was seen before."""
    found = {split: ask(weights, config, split, WATCHED, seed=0) for split in SPLITS}
    shares = {split: float(np.mean([said == one.answer for one, said in pairs])) for split, pairs in found.items()}
    with path.open("a") as log:
        log.write(json.dumps({"step": step, **shares}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for losses, state and the report; resumed")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--questions", type=int, default=2000, help="of the report, for each of shown and held out")
    arguments = parser.parse_args()
    weights = train(arguments.steps, arguments.out)
    found: dict[Split, list[Answered]] = {}
    for split in SPLITS:
        found[split] = ask(weights, model(), split, arguments.questions, seed=1)
    write_report(found, arguments.out)
    draw_answers(found["heldout"][:16], model().vision.image_size, arguments.out / "answers.png")
    draw_learning(arguments.out)


if __name__ == "__main__":
    main()
