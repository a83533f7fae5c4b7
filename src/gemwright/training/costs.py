"""What a run has cost over all its sessions: time on the wall, energy, carbon. And its goodput."""

import contextlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

COSTS = "costs.json"

_EVERY = 10.0
"""Seconds between two writings."""


@dataclass
class Costs:
    """Kept in `costs.json`: a record a session, of its seconds and, where codecarbon is, its energy.

    Attributes:
      began: of this session, in seconds since 1970. A process that joins a session under way gives that one's, so that
        the time in which it was lost counts.
      country: ISO code of three letters, for the carbon of its electricity; without one only energy is told.
    """

    folder: Path
    began: float = field(default_factory=time.time)
    country: str | None = None

    def __enter__(self) -> Self:
        path = self.folder / COSTS
        sessions: list[dict[str, float]] = json.loads(path.read_text()) if path.exists() else []
        self._others = [session for session in sessions if session["began"] != self.began]
        same = [session for session in sessions if session["began"] == self.began]
        self._before = same[0] if same else {}
        self._meter, self._noted = _meter(self.country), time.monotonic()
        self._told = ""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.note()
        if self._meter is not None:
            self._meter.stop()

    def tick(self) -> None:
        """Note the costs if they were not for a while."""
        if time.monotonic() - self._noted > _EVERY:
            self.note()

    def note(self) -> None:
        """Write the costs so far."""
        self._noted = time.monotonic()
        energy = self._energy()
        self._told = "  " + tell_energy(energy) if energy else ""
        session = {"began": self.began, "seconds": time.time() - self.began, **energy}
        half = self.folder / f"{COSTS}.partial"
        half.write_text(json.dumps([*self._others, session]))
        half.replace(self.folder / COSTS)

    def told(self) -> str:
        """The energy of this session, as it was noted last, for a progress bar."""
        return self._told

    def _energy(self) -> dict[str, float]:
        if self._meter is None:
            return {}
        with contextlib.suppress(AttributeError):  # it has no public way to ask before the end
            found = self._meter._prepare_emissions_data()
            used = {"kwh": found.energy_consumed, **({"kg": found.emissions} if self.country else {})}
            return {name: value + self._before.get(name, 0.0) for name, value in used.items()}
        return {}


def read_costs(folder: Path) -> dict[str, float]:
    """The sums over all sessions of a run: `seconds`, and `kwh` and `kg` (of CO2) where they were measured."""
    path = folder / COSTS
    sums: dict[str, float] = defaultdict(float)
    for session in json.loads(path.read_text()) if path.exists() else []:
        for name in session.keys() - {"began"}:
            sums[name] += session[name]
    return dict(sums)


def tell_energy(used: Mapping[str, float]) -> str:
    """Energy in the unit that fits, and its carbon if known."""
    watt_hours = 1000 * used["kwh"]
    energy = f"{watt_hours:.3g} Wh" if watt_hours < 1000 else f"{watt_hours / 1000:.4g} kWh"
    return energy + (f", {1000 * used['kg']:.3g} g CO2" if "kg" in used else "")


def goodput(seconds: Sequence[float], groups: Sequence[int], wall: float) -> float:
    """Useful time over time on the wall: what is lost to starting, compiling, saving, waiting and steps done again.

    Args:
      seconds: of each step that counts, once.
      groups: steps of the same group need the same time. The middle one's is what each of them needs.
      wall: seconds of all sessions.
    """
    by_group: dict[int, list[float]] = defaultdict(list)
    for one, group in zip(seconds, groups, strict=True):
        by_group[group].append(one)
    needed = sum(min(one, median(times)) for times in by_group.values() for one in times)
    return needed / wall if wall else 0.0


def _meter(country: str | None) -> Any:
    """What measures energy; None without codecarbon."""
    try:
        from codecarbon import OfflineEmissionsTracker
    except ModuleNotFoundError:
        return None
    logging.getLogger("codecarbon").disabled = True  # else it talks into the progress bar
    # It asks nothing of the network: the country decides, and without one its carbon is not told.
    meter = OfflineEmissionsTracker(country_iso_code=country or "USA", output_methods=[], allow_multiple_runs=True)
    meter.start()
    return meter
