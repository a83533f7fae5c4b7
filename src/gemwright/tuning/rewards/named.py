"""Rewards by the names that the command line gives them."""

from collections.abc import Callable
from pathlib import Path

from gemwright.checkpoints.hub import resolve
from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.reward_folder import is_reward_model, load_reward_model
from gemwright.tuning.rewards.answers import exact, number
from gemwright.tuning.rewards.asking import asker
from gemwright.tuning.rewards.function import Function
from gemwright.tuning.rewards.judge import Compare, Judge, asked_to_compare, by_reward
from gemwright.tuning.rewards.model import ModelReward
from gemwright.tuning.rewards.reward import Reward
from gemwright.tuning.rewards.sandbox import unit_tests
from gemwright.tuning.rewards.sql import sql

_RULES: dict[str, Callable[[], Reward]] = {"exact": exact, "number": number, "tests": unit_tests}
_EXPECTED = "a folder of `gemwright reward`, exact, number, tests, sql:DATABASE, judge:MODEL, or FILE.py:FUNCTION"


def reward_of(name: str) -> Reward:
    """The reward of a name.

    Raises:
      ValueError: if there is none; says what there is.
    """
    if name in _RULES:
        return _RULES[name]()
    kind, _, rest = name.partition(":")
    if kind == "sql" and rest:
        return _database(Path(rest))
    if kind == "judge" and rest:
        return Judge(asker(load_checkpoint(resolve(rest))))
    if kind.endswith(".py") and rest:
        return Function(Path(kind), rest)
    if is_reward_model(Path(name)):
        return ModelReward(load_reward_model(Path(name)))
    raise ValueError(f"reward {name!r}: expected {_EXPECTED}")


def rater_of(name: str, seed: int = 0) -> Compare:
    """What compares two answers: a judge shown both, or any other reward given to each."""
    kind, _, rest = name.partition(":")
    if kind == "judge" and rest:
        return asked_to_compare(asker(load_checkpoint(resolve(rest))), seed)
    return by_reward(reward_of(name))


def _database(path: Path) -> Reward:
    if not path.is_file():
        raise ValueError(f"{path}: expected an SQLite database, found no such file")
    return sql(path)
