"""What a stage came to: its own held-out metric before and after, and whether the gain is beyond chance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gemwright.tuning.intervals import Interval

_INTERVALS = ("before", "after", "gain")


@dataclass(frozen=True)
class Outcome:
    """Of one stage.

    Attributes:
      metric: what is measured, on what is not trained on.
      bar: what `before` is of.
      before, after: with 95% intervals.
      gain: by how much it is better; positive is better, whichever way the metric goes.
      beside: other numbers and settings, as texts by their names.
      curve: a number a step, and `curve_of` what it is.
      samples: rows of what the models said, under `sample_heads`.
    """

    metric: str
    bar: str
    before: Interval
    after: Interval
    gain: Interval
    beside: Mapping[str, str] = field(default_factory=dict[str, str])
    curve: Sequence[float] = ()
    curve_of: str = ""
    sample_heads: Sequence[str] = ()
    samples: Sequence[Sequence[str]] = ()

    @property
    def improved(self) -> bool:
        """Whether the whole interval of the gain lies above 0."""
        return self.gain.low > 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "improved": self.improved}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Outcome":
        found: dict[str, Any] = {name: value for name, value in kept.items() if name != "improved"}
        found.update({name: Interval(**kept[name]) for name in _INTERVALS})
        return cls(**found)
