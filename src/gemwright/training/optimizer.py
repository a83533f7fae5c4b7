"""The optimizer: orthogonalised momentum for matrices (Muon), AdamW for embeddings and norms."""

from typing import Any

import optax
from optax import contrib

from gemwright.core.module import Spec, map_specs
from gemwright.training.run import Run

_UPDATE_SIZE = 0.2  # root mean square of AdamW's updates: matrices and vectors share one rate


def make_optimizer(run: Run, specs: Any) -> optax.GradientTransformation:
    """Muon in the form of Liu et al. (arXiv 2502.16982), whose rate is AdamW's rate.

    A weight is orthogonalised as the matrix from its inputs to its outputs that its Spec declares.
    The embedding is a lookup table and not such a map; it takes AdamW, as do the norms.
    """
    rate = optax.warmup_cosine_decay_schedule(
        0.0, run.peak_rate, run.warmup, run.steps, end_value=run.peak_rate * run.final_share
    )
    muon = contrib.muon(
        rate,
        weight_decay=run.weight_decay,
        muon_weight_dimension_numbers=lambda _: map_specs(_matrix, specs),  # optax would call a module itself
        consistent_rms=_UPDATE_SIZE,
    )
    return optax.chain(optax.clip_by_global_norm(run.clip), muon)


def _matrix(_: str, spec: Spec) -> contrib.MuonDimensionNumbers | None:
    if len(spec.shape) < 2 or "vocab" in spec.axes:
        return None
    split = len(spec.shape) - spec.inputs
    return contrib.MuonDimensionNumbers(
        reduction_axis=tuple(range(split, len(spec.shape))), output_axis=tuple(range(split))
    )
