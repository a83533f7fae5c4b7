"""A reward model as reward: it reads prompt and answer as a conversation, and says a number at its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from gemwright.checkpoints.reward_folder import RewardCheckpoint
from gemwright.models.family import Config
from gemwright.models.reward import RewardModel
from gemwright.text.chat import Message, format_chat
from gemwright.tuning.rewards.reward import Judged, Task, checked

_BLOCK, _ROWS = 64, 16  # rows and lengths are multiples, so that few programs are compiled


@dataclass(frozen=True)
class ModelReward:
    """A model of `gemwright reward`."""

    model: RewardCheckpoint

    @property
    def name(self) -> str:
        return self.model.folder.name

    def needs(self, task: Task) -> None:
        """Nothing of the row."""

    def __call__(self, tasks: Sequence[Task], answers: Sequence[str]) -> list[Judged]:
        texts = [self._text(task, answer) for task, answer in zip(tasks, answers, strict=True)]
        longest = self.model.config.max_positions
        rewards = rewards_of(self.model.weights, self.model.config, [ids[:longest] for ids in texts])
        return [
            Judged.failed(task, f"{len(ids)} tokens are too many for the reward model's {longest}")
            if len(ids) > longest
            else checked(task, value)
            for task, ids, value in zip(tasks, texts, rewards, strict=True)
        ]

    def _text(self, task: Task, answer: str) -> list[int]:
        messages = [*task.messages, Message("model", answer)]
        return format_chat(self.model.tokenizer, messages, add_generation_prompt=False).ids


def rewards_of(weights: RewardModel, config: Config, texts: Sequence[Sequence[int]]) -> list[float]:
    """The reward of each text, read at its last token."""
    found: list[float] = []
    length = -(-max(map(len, texts)) // _BLOCK) * _BLOCK
    for first in range(0, len(texts), _ROWS):
        part = texts[first : first + _ROWS]
        tokens, positions = np.zeros((_ROWS, length), np.int32), np.full((_ROWS, length), -1, np.int32)
        ends = np.zeros((_ROWS, 1), np.int32)
        for row, ids in enumerate(part):
            tokens[row, : len(ids)], positions[row, : len(ids)], ends[row] = ids, np.arange(len(ids)), len(ids) - 1
        found += np.asarray(_rewards(weights, tokens, positions, ends, config))[: len(part), 0].tolist()
    return found


@partial(jax.jit, static_argnames="config")
def _rewards(
    weights: RewardModel, tokens: jax.Array, positions: jax.Array, ends: jax.Array, config: Config
) -> jax.Array:
    return weights(tokens, config, ends, positions=positions)
