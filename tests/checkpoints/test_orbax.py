"""Google's Flax layouts of Gemma 1 and 2, written here as their code documents them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.flax_gemma import match_gemma
from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.orbax import FlaxTensors
from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import abstract, named_leaves
from gemwright.models.gemma import PRESETS, Config, Gemma
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import CONFIGS, assert_same, sharp_weights

Tree = dict[str, Any]

CONFIGS_BY_LAYOUT = {
    "2b": CONFIGS["gemma"],  # one key head: q_einsum and kv_einsum
    "7b": replace(CONFIGS["gemma"], num_kv_heads=4),  # as many as query heads: qkv_einsum
    "gemma2": replace(CONFIGS["gemma2"], windows=(4096, None), query_scale=16**-0.5),
}


def flax_tree(weights: Gemma, gate_out_in: bool = False) -> Tree:
    """Keys joined by slashes, one level of leaves below: the form of the releases."""
    tree: Tree = {
        "transformer/embedder": {"input_embedding": weights.embedding},
        "transformer/final_norm": {"scale": weights.final_norm},
    }
    for number, layer in enumerate(weights.layers):
        at, attention = f"transformer/layer_{number}", layer.attention
        query, key, value = (w.transpose(0, 2, 1) for w in (attention.query, attention.key, attention.value))
        if query.shape == key.shape:
            tree[f"{at}/attn/qkv_einsum"] = {"w": jnp.stack([query, key, value])}
        else:
            tree[f"{at}/attn/q_einsum"] = {"w": query}
            tree[f"{at}/attn/kv_einsum"] = {"w": jnp.stack([key, value])}
        tree[f"{at}/attn/attn_vec_einsum"] = {"w": attention.output.transpose(1, 2, 0)}
        gating = jnp.stack([layer.mlp.gate, layer.mlp.up])
        tree[f"{at}/mlp/gating_einsum"] = {"w": gating if gate_out_in else gating.transpose(0, 2, 1)}
        tree[f"{at}/mlp/linear"] = {"w": layer.mlp.down.T}
        tree[f"{at}/pre_attention_norm"] = {"scale": layer.attention_norm}
        tree[f"{at}/pre_ffw_norm"] = {"scale": layer.mlp_norm}
        if layer.attention_post_norm is not None:
            tree[f"{at}/post_attention_norm"] = {"scale": layer.attention_post_norm}
            tree[f"{at}/post_ffw_norm"] = {"scale": layer.mlp_post_norm}
    return tree


def nested(tree: Tree) -> Tree:
    """The form that later versions of the library save: dicts in dicts, the MLP's weights without `w`."""
    root: Tree = {}
    for joined, leaves in tree.items():
        below = root
        *above, last = joined.removeprefix("transformer/").split("/")
        for key in above:
            below = below.setdefault(key, {})
        below[last] = leaves["w"] if "mlp" in above else leaves
    return root


def write(folder: Path, tree: Tree) -> Path:
    ocp = pytest.importorskip("orbax.checkpoint")
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(folder, tree)
    return folder


@pytest.mark.parametrize("form", [dict, nested])
@pytest.mark.parametrize("layout", CONFIGS_BY_LAYOUT)
def test_each_layout_gives_the_weights_back(tmp_path: Path, layout: str, form: Callable[[Tree], Tree]) -> None:
    config = CONFIGS_BY_LAYOUT[layout]
    weights = sharp_weights(config, jnp.bfloat16)
    loaded = load_checkpoint(write(tmp_path / "flax", form(flax_tree(weights))))
    assert loaded.config == config
    assert_same(loaded.weights, weights)


def test_a_transposed_gate_is_seen_by_its_shape(tmp_path: Path) -> None:
    config = CONFIGS_BY_LAYOUT["gemma2"]
    weights = sharp_weights(config)
    assert_same(load_checkpoint(write(tmp_path / "flax", flax_tree(weights, gate_out_in=True))).weights, weights)


def test_padding_rows_are_trimmed(tmp_path: Path) -> None:
    config = replace(CONFIGS_BY_LAYOUT["2b"], embed_dim=2, num_layers=1, vocab_size=256_000)
    weights = sharp_weights(config)
    tree = flax_tree(weights)
    padded = jnp.concatenate([weights.embedding, jnp.ones((128, 2))])
    tree["transformer/embedder"]["input_embedding"] = padded
    loaded = load_checkpoint(write(tmp_path / "flax", tree))
    assert loaded.config == config
    assert_same(loaded.weights, weights)


def test_it_converts_to_a_hugging_face_folder_with_the_tokenizer_beside_it(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    config = CONFIGS_BY_LAYOUT["gemma2"]
    weights = sharp_weights(config)
    tokenizer.save(tmp_path)
    loaded = load_checkpoint(write(tmp_path / "2b", flax_tree(weights)))
    assert loaded.tokenizer is not None
    save_checkpoint(tmp_path / "converted", loaded.config, loaded.weights, loaded.tokenizer)
    assert_same(load_checkpoint(tmp_path / "converted").weights, weights)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda tree: tree.pop("transformer/final_norm"),
            "final_norm/scale: expected it in a model of these families, found none",
        ),
        (lambda tree: tree.pop("transformer/layer_1/mlp/linear"), "layer_1/mlp/linear"),
        (lambda tree: tree.update({"transformer/layer_1/attn/_query_norm": {"scale": jnp.ones(16)}}), "_query_norm"),
        (lambda tree: tree["transformer/layer_2/mlp/linear"].update(w=jnp.ones((32, 48))), "found (48, 32)"),
        (lambda tree: tree.pop("transformer/embedder"), "embedder/input_embedding: expected 2 axes, found none"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Callable[[Tree], Any], said: str) -> None:
    tree = flax_tree(sharp_weights(CONFIGS_BY_LAYOUT["2b"]))
    change(tree)
    folder = write(tmp_path / "flax", tree)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_the_published_shapes_are_the_presets(name: str) -> None:
    """Without a byte of weights: shapes alone, with the padded vocabulary, tell which model it is."""
    preset = PRESETS[name]
    tensors = published(replace(preset, vocab_size=256_128), gate_out_in=name in ("gemma2-9b", "gemma2-27b"))
    config, weights = match_gemma(tensors)
    assert config == preset
    assert {n: w.shape() for n, w in weights.items()} == {
        n: s.shape for n, s in named_leaves(Gemma.specs(preset)).items()
    }


def published(config: Config, gate_out_in: bool) -> FlaxTensors:
    import jax

    tree = jax.eval_shape(lambda w: flax_tree(w, gate_out_in), abstract(Gemma.specs(config), jnp.dtype("bfloat16")))
    leaves = {f"{key}/{leaf}": array for key, group in tree.items() for leaf, array in group.items()}
    shapes = {path.removeprefix("transformer/").removesuffix("/w"): leaf.shape for path, leaf in leaves.items()}
    return FlaxTensors(Path("published"), shapes, dict.fromkeys(shapes, np.dtype(jnp.bfloat16)), {})


def test_without_orbax_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "_METADATA").write_text("{}")
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    monkeypatch.setitem(sys.modules, "orbax", None)
    with pytest.raises(CheckpointError, match=r"gemwright\[orbax\]"):
        load_checkpoint(tmp_path)


def test_a_broken_folder_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("orbax.checkpoint")
    (tmp_path / "_METADATA").write_text("{}")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)
