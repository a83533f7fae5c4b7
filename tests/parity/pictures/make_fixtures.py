"""What the oracle says where pictures are read, for tests that run without torch.

From the repository root: `python -m tests.parity.pictures.make_fixtures`.
"""

from collections.abc import Iterator

import numpy as np

from tests.parity.pictures import oracle
from tests.parity.pictures.cases import (
    PAIRS,
    SEEDS,
    TOWERS,
    Pair,
    Tower,
    pair_weights,
    pictures,
    pixels_of,
    tokens_of,
    tower_weights,
)
from tests.parity.pictures.stored import FOLDER

Arrays = dict[str, np.ndarray]


def tower_fixture(tower: Tower) -> Arrays:
    """(seeds, ROWS, N, D) features."""
    models = [oracle.build_tower(tower, tower_weights(tower, seed)) for seed in SEEDS]
    found = [oracle.features(model, pixels_of(tower.config, seed)) for seed, model in zip(SEEDS, models, strict=True)]
    return {"features": np.stack(found)}


def pair_fixture(pair: Pair) -> Arrays:
    """Arrays with one entry a seed: each row's logits and loss, prompts and their greedy continuations."""
    parts: dict[str, list[np.ndarray]] = {"first": [], "second": [], "losses": [], "prompts": [], "greedy": []}
    for seed in SEEDS:
        model, pixels = oracle.build_pair(pair, pair_weights(pair, seed)), pixels_of(pair.config.vision, seed)
        tokens = tokens_of(pair, seed)
        first, second = oracle.whole(model, pair, pixels, tokens)
        losses = np.array([oracle.loss(model, pair, pixels, tokens, row) for row in range(len(tokens))], np.float32)
        prompts, greedy, _ = oracle.clear_greedy(model, pair, pixels, seed)
        drawn = {"first": first, "second": second, "losses": losses, "prompts": prompts, "greedy": greedy}
        for name, value in drawn.items():
            parts[name].append(value.astype(np.int32) if name == "greedy" else value)
    return {name: np.stack(values) for name, values in parts.items()}


def pixel_fixture() -> Arrays:
    """What the processor makes of each picture of `cases.pictures`, by its name."""
    return {name: oracle.processed(picture, size) for name, (picture, size) in pictures().items()}


def fixtures() -> Iterator[tuple[str, Arrays]]:
    yield "pixels", pixel_fixture()
    for tower in TOWERS:
        yield tower.name, tower_fixture(tower)
    for pair in PAIRS:
        yield pair.name, pair_fixture(pair)


def main() -> None:
    for name, arrays in fixtures():
        np.savez_compressed(FOLDER / f"{name}.npz", **arrays, oracle=np.array(oracle.NAME))


if __name__ == "__main__":
    main()
