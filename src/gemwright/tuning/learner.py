"""Weights that learn by any loss, one batch at a time, for loops whose batches depend on the weights."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gemwright.core.trainable import join, split
from gemwright.training.step import State, changed

Objective = Callable[[Any, Any, jax.Array], tuple[jax.Array, Mapping[str, jax.Array]]]
"""(weights, batch, key) -> a loss to be made small, and numbers to be told beside it."""


class Learner:
    """A model, adapted or not, and its optimizer.

    Attributes:
      state: what changes, and is saved: the trained weights, the optimizer's state, the number of steps.
    """

    def __init__(
        self,
        weights: Any,
        is_trained: Callable[[str], bool] | None,
        objective: Objective,
        optimizer: optax.GradientTransformation,
        seed: int = 0,
    ) -> None:
        """Begin with these weights, which stay as they are.

        Args:
          is_trained: by the name of a leaf; None trains all.
        """
        trained, self._frozen = (weights, None) if is_trained is None else split(weights, is_trained)
        trained = jax.tree.map(jnp.copy, trained)
        self.state = State(trained, optimizer.init(trained), jnp.zeros((), jnp.int32))
        self._step = jax.jit(partial(_step, objective, optimizer, seed), donate_argnums=1)

    @property
    def weights(self) -> Any:
        """As they are now. The next step gives their arrays up."""
        return _joined(self.state.weights, self._frozen)

    @property
    def share(self) -> float:
        """Of the model's parameters, those that are trained."""
        trained, rest = (
            sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (self.state.weights, self._frozen)
        )
        return trained / (trained + rest)

    def learn(self, batch: Any) -> dict[str, float]:
        """One step; the loss before it, the norm of its gradient, and what the objective tells.

        A loss or gradient that is no number changes nothing.
        """
        self.state, told = self._step(self._frozen, self.state, batch)
        return {name: float(np.asarray(value)) for name, value in told.items()}


def _joined(trained: Any, frozen: Any) -> Any:
    return trained if frozen is None else join(trained, frozen)


def _step(
    objective: Objective, optimizer: optax.GradientTransformation, seed: int, frozen: Any, state: State, batch: Any
) -> tuple[State, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    gradient_of = jax.value_and_grad(lambda trained: objective(_joined(trained, frozen), batch, key), has_aux=True)
    (loss, more), gradient = gradient_of(state.weights)
    norm = optax.tree.norm(gradient)
    sound = jnp.isfinite(loss) & jnp.isfinite(norm)
    after = changed(optimizer, state, gradient)
    kept: Any = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, state)
    return kept, {"loss": loss, "norm": norm, **more}


def adamw(rate: float, steps: int, warmup: int, clip: float = 1.0) -> optax.GradientTransformation:
    """A rate that rises and then falls in a straight line to a tenth. No decay: it would pull away from the start."""
    rise = optax.linear_schedule(0.0, rate, warmup)
    fall = optax.linear_schedule(rate, rate / 10, max(1, steps - warmup))
    return optax.chain(
        optax.clip_by_global_norm(clip), optax.adam(optax.join_schedules([rise, fall], [warmup]), b1=0.9, b2=0.95)
    )
