"""Google's Flax layouts of Gemma 3 and RecurrentGemma, written here as their code documents them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.flax_gemma import match_gemma
from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.orbax import FlaxTensors
from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import abstract
from gemwright.models import gemma3
from gemwright.models.gemma3 import Gemma3
from gemwright.models.griffin import Griffin
from gemwright.models.recurrence import Linear
from tests.checkpoints.conftest import GEMMA3, GRIFFIN, assert_same, sharp_weights
from tests.checkpoints.test_orbax import Tree, flax_tree, write

GEMMA3_CONFIG = replace(GEMMA3, query_scale=16**-0.5, windows=(512,) * 5 + (None,), rope_factor=1.0)
GRIFFIN_CONFIG = replace(GRIFFIN, window=2049, num_layers=4)


def gemma3_tree(weights: Gemma3) -> Tree:
    """As Gemma 2's, with norms of queries and keys, and gates that are (out, in)."""
    tree = flax_tree(weights, gate_out_in=True)  # pyright: ignore[reportArgumentType]
    for number, layer in enumerate(weights.layers):
        tree[f"transformer/layer_{number}/attn/_query_norm"] = {"scale": layer.attention.query_norm}
        tree[f"transformer/layer_{number}/attn/_key_norm"] = {"scale": layer.attention.key_norm}
    return tree


def griffin_tree(weights: Griffin) -> Tree:
    tree: Tree = {"embedder": {"input_embedding": weights.embedding}, "final_norm": {"scale": weights.final_norm}}
    for number, layer in enumerate(weights.layers):
        block: Tree = {
            "temporal_pre_norm": {"scale": layer.mixer_norm},
            "channel_pre_norm": {"scale": layer.mlp_norm},
            "mlp_block": {
                "ffw_up": {
                    "w": jnp.stack([layer.mlp.gate.weight.T, layer.mlp.up.weight.T]),
                    "b": jnp.stack([layer.mlp.gate.bias, layer.mlp.up.bias])[:, None, None],
                },
                "ffw_down": dense(layer.mlp.down),
            },
        }
        if layer.attention is not None:
            mix = layer.attention
            names = {"proj_q": mix.query, "proj_k": mix.key, "proj_v": mix.value}
            kernels = {name: {"kernel": heads.reshape(-1, heads.shape[-1]).T} for name, heads in names.items()}
            block["attention_block"] = {**kernels, "proj_final": dense(mix.output)}
        else:
            mix = layer.recurrence
            block["recurrent_block"] = {
                "linear_x": dense(mix.input),
                "linear_y": dense(mix.gate),
                "linear_out": dense(mix.output),
                "conv_1d": {"w": mix.conv_weight[:, 0].T, "b": mix.conv_bias},
                "rg_lru": {
                    "input_gate": {"w": mix.input_gate, "b": mix.input_gate_bias},
                    "a_gate": {"w": mix.decay_gate, "b": mix.decay_gate_bias},
                    "a_param": mix.decay,
                },
            }
        tree[f"blocks.{number}"] = block
    return tree


def dense(linear: Linear) -> dict[str, Any]:
    return {"kernel": linear.weight.reshape(len(linear.weight), -1).T, "bias": linear.bias}


@pytest.mark.parametrize("beside", [False, True])
def test_gemma_3_comes_back_with_pictures_left_out(tmp_path: Path, beside: bool) -> None:
    weights = sharp_weights(GEMMA3_CONFIG, jnp.bfloat16)
    tree = gemma3_tree(weights)
    if beside:
        tree["SigLiPFromPatches_0/siglip_encoder/embedding"] = {"kernel": jnp.zeros((2, 2))}
        tree["transformer/embedder/mm_input_projection"] = {"w": jnp.zeros((2, 2))}
    loaded = load_checkpoint(write(tmp_path / "flax", tree))
    assert loaded.config == GEMMA3_CONFIG
    assert_same(loaded.weights, weights)


@pytest.mark.parametrize("name", gemma3.PRESETS)
def test_published_shapes_are_the_presets(name: str) -> None:
    """Without a byte of weights: shapes alone tell which model it is."""
    preset = gemma3.PRESETS[name]
    tree = jax.eval_shape(gemma3_tree, abstract(Gemma3.specs(preset), jnp.dtype("bfloat16")))
    leaves = {f"{key}/{leaf}": array.shape for key, group in tree.items() for leaf, array in group.items()}
    shapes = {path.removeprefix("transformer/").removesuffix("/w"): shape for path, shape in leaves.items()}
    config, _ = match_gemma(FlaxTensors(Path("published"), shapes, {}, {}))
    assert config == preset


@pytest.mark.parametrize("above", [None, "params"])
def test_recurrent_gemma_comes_back(tmp_path: Path, above: str | None) -> None:
    weights = sharp_weights(GRIFFIN_CONFIG)
    tree = griffin_tree(weights)
    loaded = load_checkpoint(write(tmp_path / "flax", {above: tree} if above else tree))
    assert loaded.config == GRIFFIN_CONFIG
    assert_same(loaded.weights, weights)
    save_checkpoint(tmp_path / "folder", loaded.config, loaded.weights)
    assert_same(load_checkpoint(tmp_path / "folder").weights, weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree["blocks.1"]["recurrent_block"].pop("conv_1d"), "blocks.1/recurrent_block/conv_1d"),
        (lambda tree: tree["blocks.2"].update(extra=jnp.zeros(2)), "blocks.2/extra: expected none of this name"),
        (lambda tree: widen(tree["blocks.2"]["attention_block"]["proj_q"]), r"proj_q/kernel: expected \(32, 32\)"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Any, message: str) -> None:
    tree = griffin_tree(sharp_weights(GRIFFIN_CONFIG))
    change(tree)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(write(tmp_path / "flax", tree))


def widen(kernel: dict[str, jax.Array]) -> None:
    kernel["kernel"] = jnp.concatenate([kernel["kernel"]] * 2, axis=1)
