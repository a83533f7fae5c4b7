"""A recipe: which files, which steps, in which order. A Python function returns one; there is no other language."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gemwright.data.documents import Document
from gemwright.data.leaks.search import Decontaminate
from gemwright.data.rules.batch import Rule, Verdicts, judge
from gemwright.data.rules.learned import Learned
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
        """Of everything that the result depends on: the settings, and all files read with their sizes and times.

        Raises:
          ValueError: if a step or rule cannot be told from another when the run goes on.
        """
        settings = repr(replace(self, inputs=()))
        if unsettled := re.search(r"<[^<>]* at 0x[0-9a-f]+>", settings):
            raise ValueError(
                f"{unsettled[0]}: a run that goes on would not know it again; make its class a dataclass, whose fields "
                f"are its settings"
            )
        versions = "".join(f"\n{file} {_version(file)}" for file in (*files, *self._beside()))
        return hashlib.sha256((settings + versions).encode("utf-8", "surrogateescape")).hexdigest()

    def _beside(self) -> Iterator[str]:
        """Files that the steps read beside the documents: benchmarks, models, the tokenizer's."""
        for step in self.steps:
            if isinstance(step, Decontaminate):
                yield from (file for given in step.against for file in _files(given, "*"))
            if isinstance(step, Filter):
                yield from (rule.model for rule in step.rules if isinstance(rule, Learned))
        if self.tokenizer is not None:
            yield from _files(self.tokenizer, "tokenizer*")


def _files(name: str, pattern: str) -> list[str]:
    path = Path(name)
    return sorted(map(str, path.rglob(pattern))) if path.is_dir() else [name]


def _version(file: str) -> str:
    path = Path(file)
    return f"{path.stat().st_size} {path.stat().st_mtime_ns}" if path.is_file() else ""
