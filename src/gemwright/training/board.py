"""A run's measures as TensorBoard shows them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"


class Board:
    """Writes `tensorboard/` beside the run's log, where tensorboardX is installed; else nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._writer = folder / FOLDER, None

    def begin(self, step: int) -> None:
        """Go on from a step; what was written of later ones is hidden."""
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError:
            return
        self.close()
        self._writer: Any = SummaryWriter(str(self._folder), purge_step=step)

    def write(self, record: Mapping[str, Any], tokens: int) -> None:
        """A step's line of the log.

        Args:
          tokens: of the step.
        """
        if self._writer is None:
            return
        step, speed = record["step"], tokens / record["seconds"] if record["seconds"] else None
        for name, value in {**record, "tokens_per_second": speed}.items():
            if name not in ("step", "skipped", "seconds") and value is not None:
                self._writer.add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        """Write what waits to be written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
