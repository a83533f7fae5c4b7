"""What a step of the pipeline is: verdicts on documents, with or without knowledge of all the others."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from gemwright.data.documents import Document
from gemwright.data.rules.batch import Verdicts

Arrays = dict[str, npt.NDArray[Any]]
Sketch = Callable[[], Arrays]


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

    def decide(self, sketches: Sequence[Sketch]) -> Arrays:
        """What all documents together say. The sketches are in the documents' order; each is loaded when called."""
        ...
