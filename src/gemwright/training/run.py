"""A training run as a value: recipes are functions that return one."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from gemwright.core.sharding import MeshShape
from gemwright.models.family import Config


def _expect(what: object, least: float, *names: str, below: float = math.inf) -> None:
    """
    Raises:
      ValueError: if a field is no number, less than `least`, or not less than `below`.
    """
    for name in names:
        value = getattr(what, name)
        if not least <= value < below:
            upper = "" if below == math.inf else f" and below {below:g}"
            raise ValueError(f"{name} {value}: expected a number, {least:g} or more{upper}")


@dataclass(frozen=True)
class Stage:
    """Consecutive steps with rows of one length.

    Attributes:
      rate: what the learning rate is multiplied with.
    """

    steps: int
    length: int
    rate: float = 1.0

    def __post_init__(self) -> None:
        _expect(self, 0, "steps", "rate")
        _expect(self, 1, "length")


@dataclass(frozen=True)
class Optimizer:
    """How gradients change the weights.

    Attributes:
      kind: `muon` makes the updates of matrices orthogonal and gives the rest to Adam; `adamw` takes Adam for all.
      lr: the highest learning rate, reached after `warmup` steps.
      schedule: from there a straight line or a cosine down to `final_share` of it at the end; or `stable`: on until the
        last `cooldown` steps, which are a straight line.
      weight_decay: of matrices.
      adam_b1, adam_b2: what Adam keeps of its mean and mean square a step.
      clip: largest norm of the whole gradient.
    """

    kind: Literal["muon", "adamw"] = "muon"
    lr: float = 4e-3
    warmup: int = 100
    schedule: Literal["linear", "cosine", "stable"] = "linear"
    final_share: float = 0.01
    cooldown: int = 0
    weight_decay: float = 0.1
    adam_b1: float = 0.9
    adam_b2: float = 0.97
    clip: float = 1.0

    def __post_init__(self) -> None:
        _expect(self, 0, "lr", "warmup", "final_share", "cooldown", "weight_decay", "clip")
        _expect(self, 0, "adam_b1", "adam_b2", below=1)


@dataclass(frozen=True)
class Compute:
    """How a step is computed.

    Attributes:
      dtype: of products; weights and optimizer stay as they are (float32 where the run begins them).
      remat: what is computed again for the gradient: `none`; `products`, all that lies between products; `layers`,
        each layer whole, so that only what goes from one to the next is kept.
      scan: layers are one loop, which compiles in the time of one; only where all are alike (Gemma 1).
      accumulate: parts of a batch read one after the other, whose gradients are added up.
      z_loss: times the square of the logarithm of the softmax's divisor, added to each token's loss; 1e-4 is usual.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "products", "layers"] = "none"
    scan: bool = False
    accumulate: int = 1
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        _expect(self, 1, "accumulate")
        _expect(self, 0, "z_loss")


@dataclass(frozen=True)
class Guard:
    """What is done when something goes wrong.

    A step whose loss or gradient is no number changes nothing. After `patience` of them in a row, and after a spike,
    the run goes back to the newest checkpoint and passes over the batches since.

    Attributes:
      spike: a loss so many robust standard deviations above the median of the `window` before; 0 looks for none.
      rollbacks: after so many the run ends with an error.
      memory_every: steps after which the processes of a supervised run keep their state in their own and a neighbour's
        memory. 0: never.
      replay_every: steps; the `replay_steps` before each multiple are computed again and compared bit by bit. 0: never.
    """

    spike: float = 10.0
    window: int = 50
    patience: int = 10
    rollbacks: int = 5
    memory_every: int = 10
    replay_every: int = 0
    replay_steps: int = 1

    def __post_init__(self) -> None:
        _expect(self, 0, "spike", "rollbacks", "memory_every", "replay_every")
        _expect(self, 1, "window", "patience")
        if self.replay_every and not 1 <= self.replay_steps <= self.replay_every:
            raise ValueError(f"replay_steps {self.replay_steps}: expected 1 to replay_every, {self.replay_every}")


@dataclass(frozen=True)
class Run:
    """Everything that decides a training run besides its data.

    Attributes:
      stages: rows grow longer from stage to stage; tokens a step stay the same.
      tokens_per_step: a multiple of every stage's length.
    """

    model: Config
    stages: tuple[Stage, ...]
    tokens_per_step: int
    optimizer: Optimizer = field(default_factory=Optimizer)
    compute: Compute = field(default_factory=Compute)
    mesh: MeshShape = field(default_factory=MeshShape)
    guard: Guard = field(default_factory=Guard)
    seed: int = 0

    def __post_init__(self) -> None:
        _expect(self, 1, "steps", "tokens_per_step")
        _expect(self, 0, "seed")
        model: Any = self.model
        _expect(model, 1, *(one.name for one in fields(model) if one.type is int))

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> Stage:
        """The stage of a step."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        raise ValueError(f"the run has {self.steps} steps only")

    def length(self, step: int) -> int:
        """Length of the rows of a step."""
        return self.stage(step).length

    def rows(self, step: int) -> int:
        """How many rows a step reads."""
        return self.tokens_per_step // self.length(step)
