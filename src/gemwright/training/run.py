"""A training run as a value: recipes are functions that return one."""

from dataclasses import dataclass

from gemwright.models.family import Config


@dataclass(frozen=True)
class Stage:
    """Consecutive steps with rows of one length."""

    steps: int
    length: int


@dataclass(frozen=True)
class Run:
    """Everything that decides a training run besides its data.

    Attributes:
      stages: rows grow longer from stage to stage; tokens a step stay the same.
      tokens_per_step: a multiple of every stage's length.
      peak_rate: highest learning rate, reached after `warmup` steps, then a straight line
        down to `final_share` of it.
      adam_b2: what Adam keeps of its mean square a step.
      clip: largest norm of the whole gradient.
    """

    model: Config
    stages: tuple[Stage, ...]
    tokens_per_step: int
    peak_rate: float = 4e-3
    warmup: int = 100
    final_share: float = 0.01
    weight_decay: float = 0.1
    adam_b2: float = 0.97
    clip: float = 1.0
    seed: int = 0

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def length(self, step: int) -> int:
        """Length of the rows of a step."""
        for stage in self.stages:
            if step < stage.steps:
                return stage.length
            step -= stage.steps
        raise ValueError(f"the run has {self.steps} steps only")
