"""A recipe: which files, which steps, in which order. A Python function returns one; there is no other language."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gemwright.data.documents import Document
from gemwright.data.rules.batch import Rule, Verdicts, judge
from gemwright.data.step import Arrays, Global, Step


@dataclass(frozen=True)
class Filter:
    """A step of rules, each of which looks at one text alone."""

    rules: tuple[Rule, ...] = ()
    name: str = "filter"

    def judge(self, documents: Sequence[Document], first: int, decision: Arrays) -> Verdicts:
        return judge(self.rules, [document.text for document in documents])


@dataclass(frozen=True)
class Recipe:
    """Files and steps.

    Attributes:
      inputs: files, folders, patterns or addresses; empty where the command line gives them.
      steps: in this order.
      tokenizer: path of the tokenizer that cuts the kept texts into tokens at the end; None leaves them texts.
      text_field: the field of a row that is its text.
      longest: bytes; longer records are set aside.
      one_in: about one document in so many is held out of training, unless its row says.
      shard: characters of text in a shard, about.
      batch: characters of text judged together, about.
    """

    inputs: tuple[str, ...] = ()
    steps: tuple[Step, ...] = field(default_factory=tuple[Step, ...])
    tokenizer: str | None = None
    text_field: str = "text"
    longest: int = 32 << 20
    one_in: int = 50
    shard: int = 32 << 20
    batch: int = 1 << 20

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"steps named alike: {sorted(twice)}; give each a name of its own, as in Filter(..., name='web')"
            )

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """The steps, with one that only reads before a first one that must see all documents."""
        if self.steps and not isinstance(self.steps[0], Global):
            return self.steps
        return (Filter(name="read"), *self.steps)

    def with_inputs(self, inputs: Sequence[str]) -> "Recipe":
        return replace(self, inputs=tuple(inputs))

    def fingerprint(self, files: Sequence[str]) -> str:
        """Of everything that the result depends on: the settings, and the files with their sizes and times."""
        text = repr(replace(self, inputs=())) + "".join(f"\n{file} {_version(file)}" for file in files)
        return hashlib.sha256(text.encode()).hexdigest()


def _version(file: str) -> str:
    path = Path(file)
    return f"{path.stat().st_size} {path.stat().st_mtime_ns}" if path.is_file() else ""
