"""Stages one after the other: each has a folder and a mark that it is done, and goes on where it was."""

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemwright.data.pipeline.shards import write_json
from gemwright.gemma_mini.outcome import Outcome

SETTINGS, DONE, _CLOCK = "settings.json", "outcome.json", "seconds.json"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """A part of the chain.

    Attributes:
      share: of the time of all, as expected.
      work: fills the folder that it is given, or goes on filling it; called again after an interruption.
    """

    name: str
    share: float
    work: Callable[[Path], Outcome]


@dataclass(frozen=True)
class Done:
    """A stage that is done, and the seconds that it took in all its sessions."""

    name: str
    outcome: Outcome
    seconds: float


def folder_of(out: Path, stages: Sequence[str], name: str) -> Path:
    """Of a stage: its number stands before its name."""
    return out / f"{stages.index(name) + 1}-{name}"


def carry_out(
    stages: Sequence[Stage],
    out: Path,
    settings: Mapping[str, Any],
    minutes: float,
    say: Say,
    after_each: Callable[[Sequence[Done]], None] = lambda done: None,
) -> list[Done]:
    """Do what is left to do of the stages. One that gains nothing does not end the chain: its report shall be whole.

    Args:
      settings: what decides the run; a folder begun with others is refused.
      minutes: that all are expected to take.
      after_each: is given what is done so far.

    Raises:
      ValueError: if the folder is of another run; says in what.
    """
    _claim(out, json.loads(json.dumps(settings)))
    names, found = [stage.name for stage in stages], list[Done]()
    for number, stage in enumerate(stages, 1):
        folder = folder_of(out, names, stage.name)
        if not (folder / DONE).exists():
            say(f"stage {number} of {len(stages)}: {stage.name}; {_left(stages, found, minutes):.0f} min left in all")
            with _clock(folder):
                outcome = stage.work(folder)
            write_json(folder / DONE, outcome.to_json())
        done = _read(folder, stage.name)
        say(f"stage {number} of {len(stages)}: {stage.name}: {told(done.outcome)}")
        found.append(done)
        after_each(found)
    return found


def told(outcome: Outcome) -> str:
    """In a line."""
    word = "gained" if outcome.improved else "NO GAIN beyond chance"
    return f"{word}: {outcome.metric} {outcome.before} -> {outcome.after}, gain {outcome.gain}"


def failed(done: Sequence[Done]) -> list[str]:
    """The stages that gained nothing beyond their interval."""
    return [one.name for one in done if not one.outcome.improved]


def _claim(out: Path, settings: dict[str, Any]) -> None:
    path = out / SETTINGS
    if not path.exists():
        write_json(path, settings)
        return
    kept = json.loads(path.read_text(encoding="utf-8"))
    other = sorted(name for name in {*kept, *settings} if kept.get(name) != settings.get(name))
    if other:
        name = other[0]
        raise ValueError(
            f"{out}: holds a run with {name} = {kept.get(name)!r}, now it is {settings.get(name)!r}; give the same "
            "command to go on, or another --out"
        )


def _left(stages: Sequence[Stage], done: Sequence[Done], minutes: float) -> float:
    """Minutes: as expected, times how much slower this machine has been so far."""
    whole = 60 * minutes / sum(stage.share for stage in stages)
    expected = sum(stage.share for stage in stages[: len(done)]) * whole
    slower = sum(one.seconds for one in done) / expected if done else 1.0
    return slower * whole * sum(stage.share for stage in stages[len(done) :]) / 60


@contextmanager
def _clock(folder: Path) -> Generator[None]:
    """Adds the time of this session, interrupted or not, to the stage's."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    try:
        yield
    finally:
        write_json(folder / _CLOCK, _seconds(folder) + time.perf_counter() - begun)


def _seconds(folder: Path) -> float:
    path = folder / _CLOCK
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else 0.0


def _read(folder: Path, name: str) -> Done:
    kept = json.loads((folder / DONE).read_text(encoding="utf-8"))
    return Done(name, Outcome.from_json(kept), _seconds(folder))
