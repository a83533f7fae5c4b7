"""What is learned, and what is held out to measure on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemwright.data.examples import Example, check_faults, read_examples, write_faults
from gemwright.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Sides:
    """Examples that are learned, those that are measured on, and how many rows were left out."""

    learned: list[Example]
    held_out: list[Example]
    skipped: int


def read_sides(
    data: Path,
    eval_data: Path | None,
    tokenizer: Tokenizer,
    longest: int,
    *,
    share: float,
    seed: int,
    bad_rows: Path | None = None,
) -> Sides:
    """All examples, checked.

    Args:
      eval_data: to measure on; None holds a `share` of `data` back.
      longest: most tokens of an example.
      bad_rows: file for the rows that cannot be learned from; None refuses them.

    Raises:
      ValueError: as `read_examples` does, or if rows are bad and there is no file for them, or none is left.
    """
    parts = [read_examples(path, tokenizer, longest) for path in (data, eval_data) if path]
    faults = [fault for _, bad in parts for fault in bad]
    total = len(faults) + sum(len(good) for good, _ in parts)
    if bad_rows and faults:
        bad_rows.parent.mkdir(parents=True, exist_ok=True)
        write_faults(faults, bad_rows)
    else:
        check_faults(faults, total, "mend them, or leave them out with --skip-bad (skip_bad=True)")
    learned, held_out = parts[0][0], parts[1][0] if eval_data else []
    if not eval_data:
        learned, held_out = hold_out(learned, share, seed)
    if not learned:
        raise ValueError(f"{data}: no row is left to learn from")
    return Sides(learned, held_out, len(faults))


def hold_out(examples: list[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Keep a share back, chosen by the seed; the same conversation is on one side alone."""
    texts = sorted({tuple(example.ids) for example in examples})
    count = min(round(len(texts) * share), len(texts) - 1)
    kept = {texts[index] for index in np.random.default_rng([seed, 1]).permutation(len(texts))[:count]}
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        sides[tuple(example.ids) in kept].append(example)
    return sides
