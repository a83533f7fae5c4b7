"""The optimizer: orthogonalised momentum for matrices (Muon), Adam for the embedding, norms and the like."""

from typing import Any

import optax

from gemwright.core.module import Spec, map_specs, named_leaves
from gemwright.training.muon import scale_by_muon
from gemwright.training.run import Run


def make_optimizer(run: Run, specs: Any) -> optax.GradientTransformation:
    """Clip, then Muon or Adam by what a weight is, under one rate that rises and then falls in a straight line.

    A weight is orthogonalised as the matrix from its inputs to its outputs that its Spec declares.
    Lookup tables are not such maps; they take Adam, undecayed, as do norms and biases.
    """
    rise = optax.linear_schedule(0.0, run.peak_rate, run.warmup)
    fall = optax.linear_schedule(run.peak_rate, run.peak_rate * run.final_share, run.steps - run.warmup)
    rate = optax.join_schedules([rise, fall], [run.warmup])
    matrices = [spec for spec in named_leaves(specs).values() if is_matrix(spec)]
    muon = optax.chain(
        scale_by_muon(matrices), optax.add_decayed_weights(run.weight_decay), optax.scale_by_learning_rate(rate)
    )
    adam = optax.adam(rate, b1=0.9, b2=run.adam_b2)
    kinds = map_specs(lambda _, spec: "muon" if is_matrix(spec) else "adam", specs)
    by_kind = optax.partition({"muon": muon, "adam": adam}, lambda _: kinds)  # optax would call a module itself
    return optax.chain(optax.clip_by_global_norm(run.clip), by_kind)


def is_matrix(spec: Spec) -> bool:
    """Whether a weight maps inputs to outputs: no norm, no bias, no table of tokens or places."""
    return spec.is_matrix and "vocab" not in spec.axes
