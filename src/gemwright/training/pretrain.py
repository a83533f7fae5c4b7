"""From a recipe's file to a trained model: what `gemwright pretrain` does."""

import inspect
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from gemwright.checkpoints.save import save_checkpoint
from gemwright.data.ahead import Data, ReadAhead
from gemwright.data.recipe_file import in_recipe, run_recipe_file
from gemwright.text.tokenizer import Tokenizer
from gemwright.training.effort import machine_peak
from gemwright.training.loop import Diverged, train
from gemwright.training.members import Members
from gemwright.training.processes import all_arrived
from gemwright.training.run import Run
from gemwright.training.run_report import write_report
from gemwright.training.settings import changed, parsed
from gemwright.training.stopping import asked_to_stop

FUNCTION = "pretraining"
"""What a recipe's file defines."""


@dataclass(frozen=True)
class Corpus:
    """What a run reads.

    Attributes:
      data: in batches.
      tokenizer: is saved with the model.
      held_out: text that is not trained on, for the report.
    """

    data: Data
    tokenizer: Tokenizer | None = None
    held_out: Data | None = None


@dataclass(frozen=True)
class Pretraining:
    """What a recipe's function returns.

    Attributes:
      run: its fields can still be changed.
      read: the corpus of a run; may keep in the folder what it made.
      save_every: steps from checkpoint to checkpoint.
    """

    run: Run
    read: Callable[[Run, Path], Corpus]
    save_every: int = 100

    def __post_init__(self) -> None:
        if self.save_every < 1:
            raise ValueError(f"save_every {self.save_every}: expected 1 or more")


def read_recipe(path: Path, settings: Mapping[str, str]) -> Pretraining:
    """Run a recipe's function `pretraining`.

    Args:
      settings: texts by name, of the function's parameters and of the run's fields (`optimizer.lr`).

    Raises:
      ValueError: if the file cannot be run, has no such function, or a setting does not fit.
    """
    function = getattr(recipe_module(path), FUNCTION, None)
    if not inspect.isfunction(function):
        raise ValueError(f"{path}: expected a function {FUNCTION}(...) -> Pretraining, found none; see recipes/mini.py")
    parameters = inspect.signature(function).parameters
    with in_recipe(path):
        kinds = typing.get_type_hints(function)
    given = {name: parsed(text, kinds.get(name, str), name) for name, text in settings.items() if name in parameters}
    missing = [name for name, one in parameters.items() if one.default is one.empty and name not in given]
    if missing:
        raise ValueError(f"{path}: {missing[0]} is not set; add --set {missing[0]}=VALUE")
    with in_recipe(path):
        found: Any = function(**given)
    if not isinstance(found, Pretraining):
        raise ValueError(f"{path}: expected {FUNCTION} to return a Pretraining, found {type(found).__name__}")
    run = found.run
    for name, text in settings.items():
        run = run if name in parameters else changed(run, name, text)
    return replace(found, run=run)


def pretrain(
    recipe: Pretraining,
    out: Path,
    until: int | None = None,
    members: Members | None = None,
    country: str | None = None,
) -> Path:
    """Train what a recipe says, or go on, and write the model and `report.md`. Returns the model's folder.

    Args:
      members: the processes of a supervised run, that have met.
      country: as of `train`.

    Raises:
      ValueError: as `train` does.
      Interrupted: at the first Ctrl-C or SIGTERM, when the state is saved.
    """
    out.mkdir(parents=True, exist_ok=True)
    with asked_to_stop() as stop:
        while True:
            try:
                return _pretrained(recipe, out, until, stop, members, country)
            except Diverged:
                raise
            except (RuntimeError, ValueError) as error:  # of a collective computation: JAX has no name for it
                # The traceback would hold arrays of the devices that are about to go.
                traceback.clear_frames(error.__traceback__)
                if members is None or not members.meet_again():
                    raise


def _pretrained(
    recipe: Pretraining,
    out: Path,
    until: int | None,
    stop: Callable[[], bool],
    members: Members | None,
    country: str | None,
) -> Path:
    run, corpus = recipe.run, recipe.read(recipe.run, out)
    weights = train(
        run,
        ReadAhead(corpus.data),
        out,
        save_every=recipe.save_every,
        until=until,
        stop=stop,
        peak=machine_peak(run.compute.dtype),
        members=members,
        country=country,
    )
    write_report(out, run, weights, corpus.held_out)
    whole = _gathered(weights)
    if jax.process_index() == 0:
        save_checkpoint(out / "model", run.model, whole, corpus.tokenizer, overwrite=True)
    if members is not None:
        all_arrived("the model is written")
        members.done()
    return out / "model"


def _gathered(weights: Any) -> Any:
    """In bfloat16, as they are shipped, whole in every process."""

    def one(weight: jax.Array) -> jax.Array:
        narrow = weight.astype(jnp.bfloat16)
        if jax.process_count() == 1:
            return narrow
        from jax.experimental import multihost_utils

        return jnp.asarray(multihost_utils.process_allgather(narrow, tiled=True))

    return jax.tree.map(one, weights)


def recipe_module(path: Path) -> ModuleType:
    """A recipe's file, run.

    Raises:
      ValueError: if it is no Python file, or fails; names the line.
    """
    if not path.is_file() or path.suffix != ".py":
        raise ValueError(
            f"{path}: expected a recipe, a Python file, found {'none' if not path.exists() else 'another'}"
        )
    return run_recipe_file(path)
