"""Models that see, adapted in tower and decoder: trained through a picture, stored, read again and merged."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.peft_reader import read_adapter
from gemwright.checkpoints.peft_writer import save_adapter
from gemwright.core.lora import lora_weights
from gemwright.core.module import named_leaves
from gemwright.core.trainable import join, split
from gemwright.models import gemma3_vision, paligemma
from gemwright.tuning.lora import Plan, adapt, is_change, merge
from tests.checkpoints.test_peft import edit_tensors
from tests.tiny import GEMMA3, PALIGEMMA
from tests.tolerances import LOGITS
from tests.tuning.test_lora import base, sharp

Config = gemma3_vision.Config | paligemma.Config

TOKENS = jnp.asarray(np.random.default_rng(0).integers(3, 700, (1, 16)), jnp.int32)
PLANS = {
    "lora": Plan(rank=3, alpha=5),
    "rslora": Plan(rank=3, alpha=5, root=True, ranks={"vision.*": 2}),
    "dora": Plan(rank=3, alpha=5, dora=True),
}
models = pytest.mark.parametrize("config", [GEMMA3, PALIGEMMA], ids=lambda config: config.family)
plans = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())


@partial(jax.jit, static_argnames="config")
def shown(weights: Any, config: Config) -> jax.Array:
    """(16, V) logits of a row of tokens with a picture."""
    side = config.vision.image_size
    pixels = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (1, side, side, 3)), jnp.float32)
    if isinstance(config, paligemma.Config):
        hidden, _ = weights.read(pixels, TOKENS, config, prompts=jnp.array([4]))
    else:
        places = jnp.asarray([[-1, -1, *range(9), *[-1] * 5]], jnp.int32)
        hidden, _ = weights.read(TOKENS, weights.look(pixels, config), places, config)
    return weights.logits(hidden, config)[0]


@pytest.mark.parametrize(
    ("config", "plan"), [(GEMMA3, PLANS["lora"]), (PALIGEMMA, PLANS["dora"])], ids=["gemma3", "paligemma"]
)
def test_a_step_through_a_picture_changes_tower_and_decoder(config: Config, plan: Plan) -> None:
    """Every change has a gradient where it can have one: `a` has none while `b` is zero."""
    adapted = adapt(config, base(config), plan)
    np.testing.assert_allclose(shown(adapted, config), shown(base(config), config), rtol=0, atol=LOGITS)
    changes, rest = split(adapted, is_change)

    @jax.jit
    @jax.value_and_grad
    def loss(changes: Any) -> jax.Array:
        scores = jax.nn.log_softmax(shown(join(changes, rest), config)[11:15])
        return -jnp.mean(jnp.take_along_axis(scores, TOKENS[0, 12:, None], axis=1))

    before, gradient = loss(changes)
    reached = {name for name, part in named_leaves(gradient).items() if float(jnp.abs(part).max()) > 0}
    assert reached == {name for name in named_leaves(changes) if not name.endswith(".a")}
    assert any(name.startswith("vision.layers.0.") for name in reached)
    rate = 1e-3 / float(optax.tree.norm(gradient))
    after, _ = loss(jax.tree.map(lambda leaf, part: leaf - rate * part, changes, gradient))
    assert float(after) < float(before)


@pytest.mark.parametrize(
    ("config", "target"), [(GEMMA3, "projector.*"), (GEMMA3, "vision.patch"), (PALIGEMMA, "vision.position")]
)
def test_what_has_no_low_rank_change_is_refused(config: Config, target: str) -> None:
    """Gemma 3's projector is a parameter and no module, a tower's patches are a convolution."""
    with pytest.raises(ValueError, match=r"targets '.*': expected to match a matrix, found only (projector|vision)\."):
        adapt(config, base(config), Plan(targets=("*.mlp.*", target)))


def test_a_parameter_that_is_no_module_is_not_stored_whole(tmp_path: Path) -> None:
    adapted = adapt(GEMMA3, base(GEMMA3), Plan(rank=2, targets=("*.mlp.*",)))
    with pytest.raises(CheckpointError, match="mm_input_projection_weight: PEFT stores modules whole"):
        save_adapter(tmp_path / "adapter", GEMMA3, adapted, whole=["projector.matrix"])
    assert not (tmp_path / "adapter").exists()


def test_a_change_of_a_convolution_is_refused_by_name(tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", GEMMA3, adapt(GEMMA3, base(GEMMA3), Plan(rank=2, targets=("*.mlp.*",))))
    module = "base_model.model.model.vision_tower.embeddings.patch_embedding"
    parts = {f"{module}.lora_A.weight": np.ones((2, 3, 4, 4), np.float32)}
    edit_tensors(tmp_path / "adapter", lambda tensors: tensors.update(parts))
    with pytest.raises(CheckpointError, match=r"patch_embedding: expected no change, found one: .*\(24, 3, 4, 4\)"):
        read_adapter(tmp_path / "adapter", GEMMA3, base(GEMMA3))


@models
@plans
def test_an_adapted_tower_is_read_again_and_merged(config: Config, plan: Plan, tmp_path: Path) -> None:
    adapted = sharp(adapt(config, base(config), plan), 1)
    expected = np.asarray(shown(adapted, config))
    assert np.abs(expected - np.asarray(shown(base(config), config))).max() > 0.1
    save_adapter(tmp_path / "adapter", config, adapted)
    again = read_adapter(tmp_path / "adapter", config, base(config))
    np.testing.assert_array_equal(shown(again, config), expected)
    whole = merge(again)
    assert not lora_weights(whole)
    np.testing.assert_allclose(shown(whole, config), expected, rtol=0, atol=LOGITS)
