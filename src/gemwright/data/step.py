"""What a step of the pipeline is: verdicts on documents, with or without knowledge of all the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from gemwright.data.columns import Columns
from gemwright.data.documents import Document
from gemwright.data.rules.batch import Verdicts

Arrays = dict[str, npt.NDArray[Any]]


class Step(Protocol):
    """A step that looks at one text alone, or at one text and what is known of all (`Global`)."""

    @property
    def name(self) -> str: ...

    def judge(self, documents: Sequence[Document], first: int, decision: Arrays) -> Verdicts:
        """Verdicts on some documents; `first` is the number of the first of them among all that come into the step."""
        ...


@runtime_checkable
class Global(Step, Protocol):
    """A step that must see all documents first: each piece is sketched, the sketches decide, each piece is judged."""

    def sketch(self, documents: Sequence[Document], first: int) -> Arrays:
        """What the decision needs to know of some documents; arrays that can be put one after the other."""
        ...

    def decide(self, sketches: Columns, scratch: Path) -> Arrays:
        """What all documents together say.

        Args:
          sketches: in the documents' order.
          scratch: an empty folder for what does not fit in memory; it goes afterwards.
        """
        ...
