"""Answers of a model under training, by the inference engine: its weights are handed over in memory."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

import jax
import numpy as np

from gemwright.inference.engine import Engine
from gemwright.inference.request import Finish
from gemwright.inference.sampling import GREEDY, Sampling
from gemwright.models.family import Config, Decoder

_TRIES = 5


@dataclass(frozen=True)
class Rollout:
    """One answer.

    Attributes:
      ids: tokens chosen, a stop token included.
      log_probabilities: of each under the weights that chose it, in nats.
    """

    prompt: Sequence[int]
    ids: Sequence[int]
    log_probabilities: Sequence[float]
    finish: Finish | None

    @property
    def ended(self) -> bool:
        """By itself, not by the limit of tokens."""
        return self.finish == "stop"


class Roller:
    """One engine for all steps: nothing is compiled anew, nothing written to disk.

    Attributes:
      tokens, seconds: of all that was sampled so far.
    """

    def __init__(
        self, weights: Decoder, config: Config, stop_ids: Collection[int], slots: int, longest: int, most: int
    ) -> None:
        """Take the memory.

        Args:
          longest: tokens of a prompt.
          most: tokens of an answer.
        """
        self._engine = Engine(weights, config, slots, longest + most)
        self._stop_ids, self._most = stop_ids, most
        self.tokens, self.seconds = 0, 0.0

    def answers(self, weights: Decoder, prompts: Sequence[Sequence[int]], seed: Sequence[int] | None) -> list[Rollout]:
        """An answer to each prompt; a prompt that comes several times is read once.

        Args:
          seed: of the draws, at temperature 1, so that a token is drawn as likely as the weights say; None takes the
            likeliest tokens.

        Raises:
          RuntimeError: if the engine fails; says why.
        """
        begun = time.perf_counter()
        self._engine.take_weights(weights)
        draws = None if seed is None else np.random.default_rng(list(seed)).integers(2**32, size=len(prompts)).tolist()
        settings = [GREEDY] * len(prompts) if draws is None else [Sampling(1.0, seed=draw) for draw in draws]
        requests = [
            self._engine.submit(prompt, self._most, setting, self._stop_ids)
            for prompt, setting in zip(prompts, settings, strict=True)
        ]
        while self._engine.step():
            pass
        found: list[Rollout] = []
        for prompt, request in zip(prompts, requests, strict=True):
            tokens = request.result()
            ids, scores = [token.id for token in tokens], [token.log_probability for token in tokens]
            found.append(Rollout(prompt, ids, scores, request.finish))
        self.tokens += sum(len(rollout.ids) for rollout in found)
        self.seconds += time.perf_counter() - begun
        return found

    def plain_speed(self, weights: Decoder, prompts: Sequence[Sequence[int]]) -> float:
        """Tokens a second with weights that stay, the median of some tries: what rollouts are compared with."""
        speeds: list[float] = []
        for seed in range(_TRIES):
            tokens, seconds = self.tokens, self.seconds
            self.answers(weights, prompts, [seed])
            speeds.append((self.tokens - tokens) / (self.seconds - seconds))
        return median(speeds)


@jax.jit
def for_rollouts(weights: Decoder, like: Decoder) -> Decoder:
    """Weights under training in the types of those that the model was loaded with: as fast to read."""
    return jax.tree.map(lambda weight, wanted: weight.astype(wanted.dtype), weights, like)
