"""The chain told to a reader: one HTML page, which needs nothing beside it."""

from collections.abc import Iterator, Sequence
from html import escape
from math import isfinite
from pathlib import Path

from gemwright.data.pipeline.page import table, write_page
from gemwright.data.pipeline.plots import curve
from gemwright.gemma_mini.course import Done, failed
from gemwright.gemma_mini.outcome import Outcome


def write_report(path: Path, done: Sequence[Done], stages: int, command: str) -> None:
    """What each stage gained on its own held-out metric, its curve, and what the models said.

    Args:
      stages: of the chain.
      command: that made it.
    """
    write_page(path, "gemma-mini", _parts(done, stages, command))


def _parts(done: Sequence[Done], stages: int, command: str) -> Iterator[str]:
    yield f"<h1>gemma-mini: {verdict(done, stages)}</h1>"
    minutes = sum(one.seconds for one in done) / 60
    yield f"<p><code>{escape(command)}</code>, {minutes:.1f} minutes. A stage passes if the whole 95% interval of its"
    yield " gain on data held out lies above 0.</p>"
    heads = ("stage", "before", "after", "gain", "passed", "minutes")
    yield table(heads, [_row(one) for one in done])
    for one in done:
        yield f"<h2>{escape(one.name)}</h2>"
        yield from _stage(one.outcome)


def verdict(done: Sequence[Done], stages: int) -> str:
    """In a line: passed, or which stages did not, or how far it is."""
    if found := failed(done):
        return f"not passed: no gain beyond chance in {', '.join(found)}"
    if len(done) < stages:
        return f"{len(done)} of {stages} stages done"
    return f"passed, all {stages} stages"


def _row(one: Done) -> tuple[str, ...]:
    found = one.outcome
    numbers = (str(found.before), str(found.after), str(found.gain))
    return (one.name, *numbers, "yes" if found.improved else "no", f"{one.seconds / 60:.1f}")


def _stage(found: Outcome) -> Iterator[str]:
    yield f"<p>{escape(found.metric)}; before: {escape(found.bar)}.</p>"
    values = [value for value in found.curve if isfinite(value)]
    if values:
        yield curve(values, "steps", found.curve_of)
    if found.beside:
        yield table(("also", ""), found.beside.items())
    if found.samples:
        yield "<details><summary>Some answers</summary>"
        yield table(found.sample_heads, found.samples) + "</details>"
