"""How large everything of the small chain is: the model, and steps by the minutes that they may take."""

from dataclasses import dataclass

from gemwright.models.gemma import Config, gemma1

TOKENS = 2048
"""Of a pretraining step."""

MODEL = gemma1(
    vocab_size=1024,
    embed_dim=128,
    num_layers=4,
    num_heads=4,
    num_kv_heads=1,
    head_dim=32,
    mlp_dim=384,
    max_positions=256,
)
"""0.9 million parameters."""


@dataclass(frozen=True)
class Sizes:
    """Of one run.

    Attributes:
      pretraining, reinforcement: steps.
      examples: conversations to fine-tune on.
      pairs: of answers, for the reward model.
      questions: of an examination.
      documents: held out, of each kind.
    """

    model: Config = MODEL
    pretraining: int = 4500
    examples: int = 120_000
    pairs: int = 30_000
    reinforcement: int = 500
    questions: int = 600
    documents: int = 40

    @classmethod
    def of(cls, minutes: float) -> "Sizes":
        """In proportion to the minutes; examinations stay as they are, so that intervals do.

        Raises:
          ValueError: if they are too few to learn anything.
        """
        if not 1 <= minutes <= 6000:
            raise ValueError(f"minutes {minutes:g}: expected 1 to 6000")
        usual, times = cls(), minutes / 50
        return cls(
            pretraining=round(usual.pretraining * times),
            examples=round(usual.examples * times),
            pairs=round(usual.pairs * times),
            reinforcement=round(usual.reinforcement * times),
        )
