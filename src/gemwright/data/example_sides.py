"""What is learned, and what is held out to measure on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from gemwright.data.examples import Example, check_faults, example_of, read_made, write_faults
from gemwright.data.rows import Row
from gemwright.text.tokenizer import Tokenizer

T = TypeVar("T")


@dataclass(frozen=True)
class Sides(Generic[T]):
    """Examples that are learned, those that are measured on, and how many rows were left out."""

    learned: list[T]
    held_out: list[T]
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
) -> Sides[Example]:
    """All examples, checked; arguments and errors are those of `sides_of`.

    Args:
      longest: most tokens of an example.
    """

    def make(row: Row) -> Example:
        return example_of(row, tokenizer, longest)

    return sides_of(data, eval_data, make, _conversation, share=share, seed=seed, bad_rows=bad_rows)


def sides_of(
    data: Path,
    eval_data: Path | None,
    make: Callable[[Row], T],
    key: Callable[[T], Any],
    *,
    share: float,
    seed: int,
    bad_rows: Path | None = None,
) -> Sides[T]:
    """All that is made of rows, checked.

    Args:
      eval_data: to measure on; None holds a `share` of `data` back.
      make: of a row; raises ValueError where it cannot.
      key: what is on one side alone.
      bad_rows: file for the rows that cannot be learned from; None refuses them.

    Raises:
      ValueError: as `read_made` does, or if rows are bad and there is no file for them, or none is left.
    """
    parts = [read_made(path, make) for path in (data, eval_data) if path]
    faults = [fault for _, bad in parts for fault in bad]
    total = len(faults) + sum(len(good) for good, _ in parts)
    if bad_rows and faults:
        bad_rows.parent.mkdir(parents=True, exist_ok=True)
        write_faults(faults, bad_rows)
    else:
        check_faults(faults, total, "mend them, or leave them out with --skip-bad (skip_bad=True)")
    learned, held_out = parts[0][0], parts[1][0] if eval_data else []
    if not eval_data:
        learned, held_out = hold_out(learned, share, seed, key)
    if not learned:
        raise ValueError(f"{data}: no row is left to learn from")
    return Sides(learned, held_out, len(faults))


def _conversation(example: Example) -> tuple[int, ...]:
    return tuple(example.ids)


def hold_out(
    examples: list[T], share: float, seed: int, key: Callable[[T], Any] = _conversation
) -> tuple[list[T], list[T]]:
    """Keep a share back, chosen by the seed; what is alike in its key is on one side alone."""
    texts = sorted({key(example) for example in examples})
    count = min(round(len(texts) * share), len(texts) - 1)
    kept = {texts[index] for index in np.random.default_rng([seed, 1]).permutation(len(texts))[:count]}
    sides: tuple[list[T], list[T]] = ([], [])
    for example in examples:
        sides[key(example) in kept].append(example)
    return sides
