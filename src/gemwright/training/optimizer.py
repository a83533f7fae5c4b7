"""The optimizer: orthogonalised momentum for matrices (Muon), Adam for the embedding, norms and the like; or AdamW."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from gemwright.core.module import Spec, map_specs, named_leaves
from gemwright.training.muon import scale_by_muon
from gemwright.training.run import Run


def make_optimizer(run: Run, specs: Any, mesh: Mesh | None = None) -> optax.GradientTransformation:
    """Clip, then Muon or Adam by what a weight is, under one rate.

    A weight is orthogonalised as the matrix from its inputs to its outputs that its Spec declares.
    Lookup tables are not such maps; they take Adam, undecayed, as do norms and biases.

    Args:
      specs: of the weights that are trained.
      mesh: that they are spread over, if over more than one device.
    """
    how, rate = run.optimizer, learning_rate(run)
    matrices = [spec for spec in named_leaves(specs).values() if is_matrix(spec)]
    moments = optax.scale_by_adam(b1=how.adam_b1, b2=how.adam_b2)
    inner = scale_by_muon(matrices, mesh=mesh) if how.kind == "muon" else moments
    decayed = optax.chain(inner, optax.add_decayed_weights(how.weight_decay), optax.scale_by_learning_rate(rate))
    adam = optax.adam(rate, b1=how.adam_b1, b2=how.adam_b2)
    kinds = map_specs(lambda _, spec: "matrix" if is_matrix(spec) else "other", specs)
    by_kind = optax.partition({"matrix": decayed, "other": adam}, lambda _: kinds)  # optax would call a module itself
    return optax.chain(optax.clip_by_global_norm(how.clip), by_kind)


def is_matrix(spec: Spec) -> bool:
    """Whether a weight maps inputs to outputs: no norm, no bias, no table of tokens or places."""
    return spec.is_matrix and "vocab" not in spec.axes


def learning_rate(run: Run) -> optax.Schedule:
    """The rate of a step: its rise, its fall and its stage's share."""
    how, steps = run.optimizer, run.steps
    rise = optax.linear_schedule(0.0, 1.0, how.warmup)
    fall = _fall(run)
    whole = optax.join_schedules([rise, fall], [how.warmup])
    ends = np.cumsum([stage.steps for stage in run.stages])[:-1]
    shares = jnp.asarray([stage.rate for stage in run.stages], jnp.float32)

    def rate(step: Any) -> jax.Array:
        stage = jnp.sum(jnp.asarray(ends, jnp.int32) <= step)
        return jnp.asarray(how.lr * whole(jnp.minimum(step, steps)) * shares[stage])

    return rate


def _fall(run: Run) -> optax.Schedule:
    """From 1 after the warm-up to the final share at the end."""
    how, left = run.optimizer, run.steps - run.optimizer.warmup
    if how.schedule == "cosine":
        return optax.cosine_decay_schedule(1.0, max(1, left), how.final_share)
    if how.schedule == "stable":
        begin = max(0, left - how.cooldown)
        return optax.linear_schedule(1.0, how.final_share, how.cooldown, begin)
    return optax.linear_schedule(1.0, how.final_share, left)
