"""`gemwright recipe gemma-mini`: from nothing to a model that was pretrained, tuned, rewarded and examined."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gemwright.compilation import cache_compilations
from gemwright.gemma_mini.course import Done, Say, carry_out
from gemwright.gemma_mini.report import write_report
from gemwright.gemma_mini.sizes import Sizes
from gemwright.gemma_mini.stages import Chain

REPORT = "report.html"


def gemma_mini(
    out: str | Path, *, minutes: float = 50, seed: int = 0, sizes: Sizes | None = None, say: Say = print
) -> list[Done]:
    """Carry out the chain; interrupted at any moment, the same call goes on.

    Args:
      out: folder of the run: a folder for each stage, and `report.html`.
      minutes: that two CPU cores shall take; all steps are in proportion.
      sizes: instead of those of the minutes.
      say: is told which stage begins, and what each came to.

    Raises:
      ValueError: if the minutes are too few, or the folder is of another run.
      Interrupted: at the first Ctrl-C or SIGTERM in a training, when the state is saved.
    """
    folder, chosen = Path(out), sizes or Sizes.of(minutes)
    cache_compilations()
    chain = Chain(folder, chosen, seed, say)
    command = shlex.join(["gemwright", "recipe", "gemma-mini", f"--minutes={minutes:g}", f"--seed={seed}"])

    def report(done: Sequence[Done]) -> None:
        write_report(folder / REPORT, done, len(chain.stages), command)

    settings = {"recipe": "gemma-mini", "seed": seed, **asdict(chosen)}
    return carry_out(chain.stages, folder, settings, minutes, say, report)
