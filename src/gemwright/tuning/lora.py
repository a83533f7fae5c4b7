"""LoRA, QLoRA and DoRA: a model adapted by replacing weights by name, and what becomes of it."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import jax

from gemwright.core.lora import Lora, lora_set, map_lora, merged, row_norms, settled
from gemwright.core.module import Spec, drawn, map_specs, named_leaves, named_weights
from gemwright.models.family import Config, Decoder, specs_of

ATTENTION = ("*.attention.*",)
LINEAR = ("*.attention.*", "*.mlp.*", "*.recurrence.*")
"""Patterns of names for `Plan.targets`: all matrices of attention; all of every layer."""

_PARTS = re.compile(r"\.(a|b|magnitude)$")


@dataclass(frozen=True)
class Plan:
    """Which weights are adapted, and how.

    Attributes:
      rank: of each change.
      alpha: the change is multiplied by alpha / rank.
      targets: shell patterns of names (`*.attention.query`); a matrix that any of them matches is adapted.
      root: rsLoRA (arXiv 2312.03732), alpha / sqrt(rank) instead.
      dora: rows keep a trained length of their own.
      dropout: share of the inputs of each change that a step in training leaves out.
      ranks, alphas: by pattern, where they differ; the first that matches counts.
    """

    rank: int = 8
    alpha: float = 16
    targets: Sequence[str] = LINEAR
    root: bool = False
    dora: bool = False
    dropout: float = 0.0
    ranks: Mapping[str, int] = field(default_factory=dict[str, int])
    alphas: Mapping[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        if min([self.rank, *self.ranks.values()]) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"expected ranks of 1 or more and a dropout from 0 to less than 1, found rank {self.rank}, "
                f"ranks {dict(self.ranks)} and dropout {self.dropout}"
            )

    def declared(self, name: str, spec: Spec, base: Any) -> Any:
        """The change of one weight as Specs; `base` stays as it is."""
        alpha = next((alpha for pattern, alpha in self.alphas.items() if fnmatchcase(name, pattern)), self.alpha)
        rank = next((rank for pattern, rank in self.ranks.items() if fnmatchcase(name, pattern)), self.rank)
        return Lora.specs(base, spec, rank, alpha, root=self.root, dora=self.dora, dropout=self.dropout)

    def chooses(self, name: str, spec: Spec) -> bool:
        return spec.is_matrix and any(fnmatchcase(name, pattern) for pattern in self.targets)


# ------------------------------------------------------------------------------------------ adapting


def adapt(config: Config, weights: Decoder, plan: Plan, seed: int = 0) -> Decoder:
    """A model with changes of zero beside the weights that the plan names, dense or quantised.

    Raises:
      ValueError: if it names none, something that is no matrix, or one that is adapted already.
    """
    specs = specs_of(config)
    _check_targets(plan, named_leaves(specs))
    chosen = {name: spec for name, spec in named_leaves(specs).items() if plan.chooses(name, spec)}
    if not chosen:
        matrices = [name for name, spec in named_leaves(specs).items() if spec.is_matrix]
        raise ValueError(
            f"targets {list(plan.targets)}: expected to match a matrix, such as {matrices[:4]}, found none"
        )
    _check_rank(plan, chosen.values())

    def replaced(name: str, spec: Spec, weight: Any) -> Any:
        return _beginning(name, spec, weight, plan, seed) if plan.chooses(name, spec) else weight

    return map_specs(replaced, specs, weights)


def _check_rank(plan: Plan, specs: Iterable[Spec]) -> None:
    rank = max(plan.rank, *plan.ranks.values(), 0)
    widest = max(max(spec.fan_in, math.prod(spec.shape) // spec.fan_in) for spec in specs)
    if rank > widest:
        raise ValueError(
            f"rank {rank}: expected at most {widest}, the longest side of the matrices it changes; a larger one can do "
            "no more and only takes memory"
        )


def _check_targets(plan: Plan, specs: Mapping[str, Spec]) -> None:
    for pattern in plan.targets:
        found = [name for name in specs if fnmatchcase(name, pattern)]
        if found and not any(specs[name].is_matrix for name in found):
            raise ValueError(
                f"targets {pattern!r}: expected to match a matrix, found only {', '.join(found[:3])}: only matrices "
                "have a low-rank change; leave it out, or train it whole"
            )


def _beginning(name: str, spec: Spec, weight: Any, plan: Plan, seed: int) -> Lora:
    if isinstance(weight, Lora):
        raise ValueError(f"weight {name}: expected one without an adapter, found one; merge it first")
    if plan.dora and name.endswith("embedding"):
        raise ValueError(f"weight {name}: DoRA changes lengths of rows, which a table of tokens has no use for")
    declared = plan.declared(name, spec, weight)
    a, b = (drawn(seed, f"{name}.{part}", getattr(declared, part)) for part in ("a", "b"))
    begun = replace(declared, a=a, b=b, magnitude=None)
    return replace(begun, magnitude=row_norms(begun)) if plan.dora else begun


def adapted_specs(config: Config, plan: Plan) -> Decoder:
    """The Specs of an adapted dense model: shapes, shardings, and what the optimizer is told."""

    def declared(name: str, spec: Spec) -> Any:
        return plan.declared(name, spec, spec) if plan.chooses(name, spec) else spec

    return map_specs(declared, specs_of(config))


def is_change(name: str) -> bool:
    """Whether a leaf of an adapted model is part of a change, which is what LoRA trains."""
    return _PARTS.search(name) is not None


# ---------------------------------------------------------------------------------------------- use


def settle(weights: Decoder) -> Decoder:
    """For use alone: what DoRA would compute at every call is computed once."""
    return map_lora(lambda _, weight: settled(weight), weights)


def merge(weights: Decoder) -> Decoder:
    """A model without adapters that computes the same; quantised bases become dense.

    Raises:
      ValueError: if a base is packed; names it.
    """

    def one(name: str, weight: Lora) -> jax.Array:
        try:
            return merged(weight)
        except ValueError as error:
            raise ValueError(f"weight {name}: {error}") from None

    return map_lora(one, weights)


def bare(weights: Decoder) -> Decoder:
    """The model that was adapted."""
    return map_lora(lambda _, weight: weight.base, weights)


def together(config: Config, weights: Decoder, adapted: Sequence[Decoder]) -> Decoder:
    """One model with several adapters, of which each row of a call chooses: 1 is the first, 0 none.

    Args:
      weights: the base.
      adapted: models made from it by `adapt` or from files; they share its arrays.

    Raises:
      ValueError: if one of them has another base, or replaces weights instead of adding to them.
    """
    specs = specs_of(config)
    models = [named_weights(specs, model) for model in adapted]

    def gathered(name: str, spec: Spec, base: Any) -> Any:
        found = [model[name] for model in models]
        for number, weight in enumerate(found, 1):
            if not _same(weight.base if isinstance(weight, Lora) else weight, base):
                raise ValueError(
                    f"adapter {number}: weight {name}: expected the base's own, found another one; only changes beside "
                    "a shared base can be served together"
                )
        changes = [weight if isinstance(weight, Lora) else None for weight in found]
        return lora_set(base, changes) if any(changes) else base

    return map_specs(gathered, specs, weights)


def _same(one: Any, other: Any) -> bool:
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(leaves) == len(others) and all(a is b for a, b in zip(leaves, others, strict=True))
