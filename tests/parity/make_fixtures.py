"""Make the fixtures: what the oracle says of the seeds in `cases`, for tests that run without torch.

From the repository root: `python -m tests.parity.make_fixtures`.
"""

import numpy as np

from tests.parity import oracle
from tests.parity.cases import FAMILIES, KEPT, SEEDS, Family, forced_tokens, weights_of
from tests.parity.stored import FOLDER


def fixture(family: Family) -> dict[str, np.ndarray]:
    """Arrays with one entry a seed: forced tokens and their logits, a prompt and its greedy continuation."""
    parts: dict[str, list[np.ndarray]] = {"tokens": [], "logits": [], "prompt": [], "greedy": []}
    for seed in SEEDS:
        model = oracle.build(family, weights_of(family, seed))
        tokens = forced_tokens(family, seed)
        prompt, greedy, _ = oracle.clear_greedy(model, family, seed)
        drawn = {"tokens": tokens, "logits": oracle.whole(model, tokens)[:, KEPT], "prompt": prompt, "greedy": greedy}
        for name, value in drawn.items():
            parts[name].append(value)
    arrays = {name: np.stack(values) for name, values in parts.items()}
    return {name: array if name == "logits" else array.astype(np.int32) for name, array in arrays.items()}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for family in FAMILIES:
        np.savez_compressed(FOLDER / f"{family.name}.npz", **fixture(family), oracle=np.array(oracle.NAME))


if __name__ == "__main__":
    main()
