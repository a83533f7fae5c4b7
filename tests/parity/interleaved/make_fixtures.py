"""What the oracle says where pictures stand between texts, for tests that run without torch.

From the repository root: `python -m tests.parity.interleaved.make_fixtures`.
"""

import numpy as np

from tests.parity.cases import SEEDS
from tests.parity.interleaved import oracle
from tests.parity.interleaved.cases import FAMILIES, KEPT, Family, pixels_of, tokens_of, weights_of
from tests.parity.pictures.oracle import NAME
from tests.parity.stored import FOLDER


def fixture(family: Family) -> dict[str, np.ndarray]:
    """Arrays with one entry a seed: soft tokens, logits of all rows, and rows with their greedy continuations."""
    parts: dict[str, list[np.ndarray]] = {"soft": [], "logits": [], "prompts": [], "greedy": []}
    for seed in SEEDS:
        model, pixels = oracle.build(family, weights_of(family, seed)), pixels_of(family.config.vision, seed)
        rows = oracle.whole(model, family, pixels, tokens_of(family, seed))
        prompts, read = oracle.clear_greedy(model, family, pixels, seed)
        parts["soft"].append(oracle.features(model, pixels))
        parts["logits"].append(np.concatenate([row[KEPT] for row in rows]))
        parts["prompts"].append(prompts)
        parts["greedy"].append(read.argmax(-1).astype(np.int32))
    return {name: np.stack(values) for name, values in parts.items()}


def main() -> None:
    for family in FAMILIES:
        np.savez_compressed(FOLDER / f"{family.name}.npz", **fixture(family), oracle=np.array(NAME))


if __name__ == "__main__":
    main()
