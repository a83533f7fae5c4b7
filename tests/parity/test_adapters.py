"""Adapters against PEFT: files written here are read there, and the other way round; logits are equal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints.peft_reader import read_adapter
from gemwright.checkpoints.peft_writer import save_adapter
from gemwright.core.module import generator, path_name
from gemwright.tuning.lora import LINEAR, Plan, adapt, is_change, merge
from tests.parity import ours
from tests.parity.cases import BY_NAME, Family, forced_tokens, weights_of
from tests.tolerances import LOGITS

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]  # PEFT's own, of its libraries


@dataclass(frozen=True)
class Kind:
    """A way of adapting, as our plan and as PEFT's configuration say it."""

    name: str
    plan: Plan
    theirs: dict[str, Any]


KINDS = (
    Kind("lora", Plan(rank=3, alpha=5), {"r": 3, "lora_alpha": 5}),
    Kind("rslora", Plan(rank=5, alpha=4, root=True), {"r": 5, "lora_alpha": 4, "use_rslora": True}),
    Kind("dora", Plan(rank=3, alpha=5, dora=True), {"r": 3, "lora_alpha": 5, "use_dora": True}),
    Kind(
        "patterns",
        Plan(rank=3, alpha=5, ranks={"*.mlp.up*": 7}, alphas={"*.mlp.down*": 11}, targets=("*.mlp.*",)),
        {"r": 3, "lora_alpha": 5, "rank_pattern": {"up_proj": 7}, "alpha_pattern": {r".*\.down_proj": 11}},
    ),
)
NAMES = ("gemma1-mqa", "gemma2-gqa", "gemma3-gqa", "griffin-mqa")

QUIETER = 0.5
"""Of the changes in a tower and a decoder behind it: two sharp models in a row amplify rounding to 1e-4."""

MLP = ["gate_proj", "up_proj", "down_proj"]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", *MLP]


def sharp(weights: Any, seed: int, gain: float = 1.0) -> Any:
    """An adapted model whose changes are as large as its weights, times a gain."""

    def draw(path: Any, leaf: jax.Array) -> jax.Array:
        name = path_name(path)
        if not is_change(name):
            return leaf
        values = generator(seed, name).standard_normal(leaf.shape)
        if name.endswith("magnitude"):
            return leaf * jnp.asarray(1 + 0.2 * values, jnp.float32)
        return jnp.asarray(values * np.sqrt(gain / leaf.shape[-1]), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, weights)


def theirs_sharp(model: Any, seed: int, gain: float = 1.0) -> None:
    import torch

    for name, parameter in model.named_parameters():
        if "lora_" in name:
            values = torch.tensor(generator(seed, name).standard_normal(tuple(parameter.shape)))
            factor = 1 + 0.2 * values if "magnitude" in name else values * (gain / parameter.shape[-1]) ** 0.5
            parameter.data = (parameter.data * factor if "magnitude" in name else factor).float()


def assert_same(mine: np.ndarray, theirs: np.ndarray, before: np.ndarray) -> None:
    assert np.abs(theirs - before).max() > 0.1  # or the adapter were not in use
    assert np.abs(mine - theirs).max() < LOGITS


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_made_here_gives_the_same_logits_in_peft(name: str, kind: Kind, tmp_path: Path) -> None:
    import peft

    from tests.parity import oracle

    family: Family = BY_NAME[name]
    weights, tokens = weights_of(family, 0), forced_tokens(family, 0)
    adapted = sharp(adapt(family.config, weights, kind.plan), 1)
    save_adapter(tmp_path / "adapter", family.config, adapted)
    model = oracle.build(family, weights)
    before = oracle.whole(model, tokens)
    theirs = oracle.whole(peft.PeftModel.from_pretrained(model, tmp_path / "adapter").eval(), tokens)
    assert_same(ours.whole(adapted, family.config, tokens), theirs, before)
    assert_same(ours.whole(merge(adapted), family.config, tokens), theirs, before)
    again = read_adapter(tmp_path / "adapter", family.config, weights)
    np.testing.assert_array_equal(ours.whole(again, family.config, tokens), ours.whole(adapted, family.config, tokens))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_of_peft_gives_the_same_logits_here(name: str, kind: Kind, tmp_path: Path) -> None:
    import peft

    from tests.parity import oracle

    family: Family = BY_NAME[name]
    weights, tokens = weights_of(family, 0), forced_tokens(family, 0)
    targets: Any = MLP if kind.plan.targets != LINEAR else TARGETS if name != "griffin-mqa" else "all-linear"
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=targets, **kind.theirs)
    model = oracle.build(family, weights)
    before = oracle.whole(model, tokens)
    adapted = peft.get_peft_model(model, config).eval()
    theirs_sharp(adapted, 2)
    adapted.save_pretrained(tmp_path / "adapter")
    theirs = oracle.whole(adapted, tokens)
    assert_same(
        ours.whole(read_adapter(tmp_path / "adapter", family.config, weights), family.config, tokens), theirs, before
    )


def of_paligemma() -> "Seeing":
    from tests.parity.pictures import cases, oracle
    from tests.parity.pictures import ours as pictures

    pair = cases.PAIRS[0]
    weights, tokens = cases.pair_weights(pair, 0), cases.tokens_of(pair, 0)
    pixels = cases.pixels_of(pair.config.vision, 0)
    return Seeing(
        pair.config,
        weights,
        lambda: oracle.build_pair(pair, weights),
        lambda adapted: np.concatenate(pictures.whole(adapted, pair.config, pixels, tokens)),
        lambda model: np.concatenate(oracle.whole(model, pair, pixels, tokens)),
        ["out_proj", "fc1", "fc2", "linear"],
    )


def of_gemma3() -> "Seeing":
    from tests.parity.interleaved import cases, oracle
    from tests.parity.interleaved import ours as interleaved

    family = cases.FAMILIES[0]
    weights, tokens = cases.weights_of(family, 0), cases.tokens_of(family, 0)
    pixels = cases.pixels_of(family.config.vision, 0)
    return Seeing(
        family.config,
        weights,
        lambda: oracle.build(family, weights),
        lambda adapted: np.concatenate(interleaved.whole(adapted, family, pixels, tokens)),
        lambda model: np.concatenate(oracle.whole(model, family, pixels, tokens)),
        ["out_proj", "fc1", "fc2"],
    )


@dataclass(frozen=True)
class Seeing:
    """A model that sees on both sides: how the oracle's is built, and logits of rows with pictures.

    Attributes:
      targets: last words of the modules that only the tower and its projector have.
    """

    config: Any
    weights: Any
    build: Callable[[], Any]
    mine: Callable[[Any], np.ndarray]
    theirs: Callable[[Any], np.ndarray]
    targets: list[str]


@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: kind.name)
@pytest.mark.parametrize("make", [of_paligemma, of_gemma3], ids=["paligemma", "gemma3"])
def test_tower_and_decoder_are_adapted_both_ways(make: Callable[[], Seeing], kind: Kind, tmp_path: Path) -> None:
    import peft

    seeing = make()
    adapted = sharp(adapt(seeing.config, seeing.weights, kind.plan), 1, QUIETER)
    save_adapter(tmp_path / "ours", seeing.config, adapted)
    model = seeing.build()
    before = seeing.theirs(model)
    loaded = peft.PeftModel.from_pretrained(model, tmp_path / "ours").eval()
    assert_same(seeing.mine(adapted), seeing.theirs(loaded), before)

    config = peft.LoraConfig(target_modules=[*TARGETS, *seeing.targets], **kind.theirs)
    other = peft.get_peft_model(seeing.build(), config).eval()
    theirs_sharp(other, 2, QUIETER)
    other.save_pretrained(tmp_path / "theirs")
    read = read_adapter(tmp_path / "theirs", seeing.config, seeing.weights)
    assert_same(seeing.mine(read), seeing.theirs(other), before)


def test_a_tied_embedding_and_a_norm_stored_whole_are_those_of_peft(tmp_path: Path) -> None:
    import peft

    from tests.parity import oracle

    family: Family = BY_NAME["gemma2-gqa"]
    weights, tokens = weights_of(family, 0), forced_tokens(family, 0)
    adapted = sharp(adapt(family.config, weights, Plan(rank=3, targets=("embedding", "*.mlp.*"))), 1)
    norm = jnp.asarray(adapted.final_norm * 1.1)
    adapted = type(adapted)(adapted.embedding, adapted.layers, norm)
    save_adapter(tmp_path / "adapter", family.config, adapted, whole=["final_norm"])
    model = oracle.build(family, weights)
    before = oracle.whole(model, tokens)
    theirs = oracle.whole(peft.PeftModel.from_pretrained(model, tmp_path / "adapter").eval(), tokens)
    assert_same(ours.whole(adapted, family.config, tokens), theirs, before)
