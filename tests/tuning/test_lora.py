"""Adapted models: the same at the start, trained alone, merged, and several on one base."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gemwright.core import int_weights as int_weights_file
from gemwright.core.int_weights import IntWeight, int_weights, to_dense
from gemwright.core.lora import LoraSet, chosen_for, lora_weights
from gemwright.core.module import generator, named_leaves, path_name
from gemwright.core.packed import pack_weights
from gemwright.core.sharding import MeshShape, make_mesh, sharding_of
from gemwright.core.trainable import join, specs_like, split
from gemwright.core.weights import project_gated
from gemwright.data.packing import Batch, Rows, pack, rows_to_batch
from gemwright.inference.engine import Engine
from gemwright.inference.generate import decode
from gemwright.inference.session import Session
from gemwright.models.family import Config, specs_of
from gemwright.models.gemma import gemma1
from gemwright.training import head_loss
from gemwright.training.loop import train
from gemwright.training.report import read_losses
from gemwright.training.run import Compute, Optimizer, Run, Stage
from gemwright.training.step import batch_losses, fresh_state, make_steps, token_losses
from gemwright.training.store import Store
from gemwright.tuning.lora import ATTENTION, Plan, adapt, adapted_specs, is_change, merge, settle, together
from tests.core.test_sharding import POD
from tests.tiny import CONFIG, GRIFFIN, PALIGEMMA, sharp_weights
from tests.tolerances import LOGITS, SAME

TOKENS = np.random.default_rng(0).integers(3, 700, (3, 20))
PLAN = Plan(rank=3, alpha=5)
KEY = jax.random.key(0)


def sharp(weights: Any, seed: int) -> Any:
    """An adapted model whose changes are half as large as its weights."""

    def draw(path: Any, leaf: jax.Array) -> jax.Array:
        if not is_change(path_name(path)):
            return leaf
        values = jnp.asarray(generator(seed, path_name(path)).standard_normal(leaf.shape), jnp.float32)
        return leaf * (1 + 0.2 * values) if leaf.ndim == 1 else 0.5 * values / np.float32(np.sqrt(leaf.shape[-1]))

    return jax.tree_util.tree_map_with_path(draw, weights)


@cache
def base(config: Config = CONFIG) -> Any:
    return sharp_weights(config)


@partial(jax.jit, static_argnames="config")
def _logits(weights: Any, tokens: jax.Array, config: Config) -> jax.Array:
    return weights.logits(weights(tokens, config)[0], config)


def logits(weights: Any, config: Config = CONFIG, tokens: np.ndarray = TOKENS) -> np.ndarray:
    return np.asarray(_logits(weights, jnp.asarray(tokens), config))


def batch() -> Batch:
    rows = TOKENS.copy()
    rows[:, 0] = 2
    return rows_to_batch(rows, 2)


# ------------------------------------------------------------------------------------------ adapting


@pytest.mark.parametrize("config", [CONFIG, GRIFFIN, PALIGEMMA], ids=lambda config: config.family)
def test_a_model_begins_bit_by_bit_as_its_base(config: Config) -> None:
    adapted = adapt(config, base(config), PLAN)
    assert len(lora_weights(adapted)) > 6
    np.testing.assert_array_equal(logits(adapted, config), logits(base(config), config))


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_and_packed_models_begin_as_their_bases(bits: int) -> None:
    specs = specs_of(CONFIG)
    rows, packed = int_weights(specs, base(), bits), pack_weights(specs, base(), bits)
    for quantised, plan in ((rows, PLAN), (packed, replace(PLAN, targets=ATTENTION))):
        np.testing.assert_array_equal(logits(adapt(CONFIG, quantised, plan)), logits(quantised))


def test_gates_of_packed_weights_are_those_of_the_kernel_for_both() -> None:
    mlp = pack_weights(specs_of(CONFIG), base(), 8).layers[0].mlp
    begun = adapt(CONFIG, pack_weights(specs_of(CONFIG), base(), 8), PLAN).layers[0].mlp
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 24)), jnp.float32)
    found, expected = (project_gated(x, part.gate, part.up) for part in (begun, mlp))
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=SAME)


def test_dora_begins_as_its_base() -> None:
    begun = adapt(CONFIG, base(), replace(PLAN, dora=True))
    assert np.abs(logits(begun) - logits(base())).max() < LOGITS


def test_patterns_of_names_choose_weights_ranks_and_scales() -> None:
    plan = Plan(rank=3, alpha=6, targets=("*.mlp.*", "layers.0.*"), ranks={"*.up": 5}, alphas={"*.down": 1}, root=True)
    found = lora_weights(adapt(CONFIG, base(), plan))
    assert {name for name in found if name.startswith("layers.1")} == {
        f"layers.1.mlp.{x}" for x in ("gate", "up", "down")
    }
    assert len([name for name in found if name.startswith("layers.0")]) == 7
    assert found["layers.1.mlp.up"].a.shape == (5, 24)
    assert found["layers.1.mlp.up"].b.shape == (40, 5)
    assert found["layers.1.mlp.up"].scale == pytest.approx(6 / 5**0.5)
    assert found["layers.0.mlp.down"].scale == pytest.approx(1 / 3**0.5)


def test_targets_that_match_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected to match a matrix, such as .*, found none"):
        adapt(CONFIG, base(), Plan(targets=("*.q_proj",)))


def test_a_weight_is_not_adapted_twice() -> None:
    with pytest.raises(ValueError, match="expected one without an adapter"):
        adapt(CONFIG, adapt(CONFIG, base(), PLAN), PLAN)


def test_a_plan_without_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="expected ranks of 1 or more"):
        Plan(rank=0)


def test_a_rank_beyond_the_matrices_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(ValueError, match="rank 99999999: expected at most 40, the longest side of the matrices"):
        adapt(CONFIG, base(), Plan(rank=99_999_999, targets=("*.mlp.*",)))


def test_changes_are_sharded_as_their_weights() -> None:
    specs = named_leaves(adapted_specs(replace(CONFIG, num_heads=4, mlp_dim=48), replace(PLAN, dora=True)))
    named = {name: sharding_of(spec, POD).spec for name, spec in specs.items()}
    assert tuple(named["layers.0.mlp.gate.a"]) == (None, None)
    assert tuple(named["layers.0.mlp.gate.b"]) == ("tensor", None)
    assert tuple(named["layers.0.mlp.down.a"]) == (None, "tensor")
    assert tuple(named["layers.0.attention.query.magnitude"]) == ("tensor",)


# ------------------------------------------------------------------------------------------ training

MESH = make_mesh(MeshShape(fsdp=1))
TUNING = Compute(remat="products")


def tuned_loss(changes: Any, frozen: Any, rows: Batch, key: jax.Array) -> jax.Array:
    """Summed over a batch, as a step of tuning computes it."""
    return batch_losses(changes, frozen, rows, key, CONFIG, TUNING, MESH).objective


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, dora=True, dropout=0.1)], ids=["lora", "dora"])
@pytest.mark.parametrize("config", [CONFIG, GRIFFIN], ids=lambda config: config.family)
def test_steps_lower_the_loss_by_changes_alone(config: Config, plan: Plan) -> None:
    """Of a 4-bit base: no gradient reaches its integers, and Adam keeps moments of the changes alone."""
    weights = adapt(config, int_weights(specs_of(config), base(config), 4), plan)
    changes, frozen = split(weights, is_change)
    optimizer: Any = optax.adam(1e-2)
    declared = specs_like(specs_of(config), changes)
    state = fresh_state(changes, declared, optimizer, MESH)
    sizes = [leaf.size for leaf in jax.tree.leaves(changes)]
    assert sum(leaf.size for leaf in jax.tree.leaves(state.optimizer)) == 2 * sum(sizes) + 1
    steps = make_steps(config, optimizer, MESH, TUNING, specs=declared, frozen=frozen)
    losses: list[float] = []
    for _ in range(6):
        state, measures = steps(state, jax.tree.map(lambda part: part[None], batch()))
        losses += measures.loss.tolist()
    assert losses[-1] < losses[0] - 0.5
    trained = named_leaves(join(state.weights, frozen))
    for name, leaf in named_leaves(weights).items():
        assert np.array_equal(np.asarray(leaf), np.asarray(trained[name])) != is_change(name), name


def test_the_loss_in_pieces_has_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_loss, "_LOGITS", 7 * CONFIG.vocab_size)  # 57 tokens in 9 pieces, the last padded
    changes, frozen = split(sharp(adapt(CONFIG, base(), PLAN), 1), is_change)
    rows = batch()

    def whole(changes: Any) -> jax.Array:
        model = join(changes, frozen)
        losses = token_losses(model, rows.inputs, rows.targets, CONFIG, rows.positions, rows.segments)
        return jnp.sum(losses * rows.weights.astype(jnp.float32))

    expected, gradient = jax.jit(jax.value_and_grad(whole))(changes)
    found, other = jax.jit(jax.value_and_grad(lambda changes: tuned_loss(changes, frozen, rows, KEY)))(changes)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    for name, leaf in named_leaves(gradient).items():
        scale = float(jnp.abs(leaf).max())
        assert scale > 0, name
        np.testing.assert_allclose(np.asarray(named_leaves(other)[name]), np.asarray(leaf), rtol=0, atol=LOGITS * scale)


def test_the_gradient_beside_a_quantised_base_is_that_beside_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the base's matrices are taken whole or in parts."""

    def gradient(model: Any) -> Any:
        changes, frozen = split(model, is_change)
        return jax.jit(jax.grad(tuned_loss))(changes, frozen, batch(), KEY)

    quantised = sharp(adapt(CONFIG, int_weights(specs_of(CONFIG), base(), 4), PLAN), 1)
    dense: Any = jax.tree.map(
        lambda weight: to_dense(weight) if isinstance(weight, IntWeight) else weight,
        quantised,
        is_leaf=lambda leaf: isinstance(leaf, IntWeight),
    )
    expected, whole = gradient(dense), gradient(quantised)
    monkeypatch.setattr(int_weights_file, "_VALUES", 1 << 12)  # the table is taken in 6 parts
    jax.clear_caches()
    parts = gradient(quantised)
    monkeypatch.undo()
    jax.clear_caches()
    for found in (whole, parts):
        for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            scale = float(jnp.abs(other).max())
            np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=LOGITS * scale)


def test_an_adapted_embedding_is_trained_as_table_and_head() -> None:
    changes, frozen = split(sharp(adapt(CONFIG, base(), Plan(rank=2, targets=("embedding",))), 1), is_change)
    gradient = jax.jit(jax.grad(tuned_loss))(changes, frozen, batch(), KEY)
    moved = np.abs(np.asarray(named_leaves(gradient)["embedding.b"])).max(axis=1) > 0
    assert moved.all()  # every row through the head; through the table alone, only those that were read


def test_integers_are_not_trained() -> None:
    with pytest.raises(ValueError, match=r"layers\.0\.attention\.key\.codes: expected floats to train, found"):
        split(int_weights(specs_of(CONFIG), base(), 8), lambda name: name == "layers.0.attention.key.codes")


def test_dropout_acts_in_training_alone_and_differs_from_step_to_step() -> None:
    model = sharp(adapt(CONFIG, base(), replace(PLAN, dropout=0.5)), 1)
    np.testing.assert_array_equal(logits(model), logits(sharp(adapt(CONFIG, base(), PLAN), 1)))
    changes, frozen = split(model, is_change)
    loss = jax.jit(tuned_loss)
    found = [float(loss(changes, frozen, batch(), jax.random.key(seed))) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


COUNTING = Run(
    model=gemma1(vocab_size=40, embed_dim=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=32),
    stages=(Stage(6, 16),), tokens_per_step=64, optimizer=Optimizer(lr=3e-2, warmup=1), compute=TUNING,
)  # fmt: skip


def test_a_run_trains_changes_and_resumes(tmp_path: Path) -> None:
    starts = np.random.default_rng(0).integers(3, 20, 60)
    data = Rows(pack(([2, *range(start, start + 15)] for start in starts), 2, 40), 2, 0)
    weights = adapt(COUNTING.model, sharp_weights(COUNTING.model), replace(PLAN, dropout=0.1))
    run = partial(train, COUNTING, data, weights=weights, is_trained=is_change)
    whole = run(tmp_path / "whole")
    assert np.mean(read_losses(tmp_path / "whole")[-2:]) < read_losses(tmp_path / "whole")[0] - 0.2
    run(tmp_path / "parts", until=3)
    again = run(tmp_path / "parts")
    assert jax.tree.all(jax.tree.map(np.array_equal, whole, again))
    store = Store(tmp_path / "whole")
    stored = {name for name in store.shapes(6) if name.startswith("weights.")}
    assert {name.removeprefix("weights.") for name in stored} == set(filter(is_change, named_leaves(weights)))


# ------------------------------------------------------------------------------------------- merging


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, dora=True)], ids=["lora", "dora"])
def test_merged_and_settled_models_compute_the_same(plan: Plan) -> None:
    adapted = sharp(adapt(CONFIG, base(), plan), 1)
    assert np.abs(logits(adapted) - logits(base())).max() > 0.1
    assert np.abs(logits(merge(adapted)) - logits(adapted)).max() < LOGITS
    assert np.abs(logits(settle(adapted)) - logits(adapted)).max() < LOGITS
    assert not lora_weights(merge(adapted))


def test_a_tied_embedding_is_merged_for_both_its_uses() -> None:
    adapted = sharp(adapt(CONFIG, base(), Plan(rank=2, targets=("embedding",))), 1)
    assert np.abs(logits(adapted) - logits(base())).max() > 0.1
    assert np.abs(logits(merge(adapted)) - logits(adapted)).max() < LOGITS


def test_a_quantised_base_is_merged_into_its_values() -> None:
    adapted = sharp(adapt(CONFIG, int_weights(specs_of(CONFIG), base(), 4), PLAN), 1)
    assert np.abs(logits(merge(adapted)) - logits(adapted)).max() < LOGITS


def test_a_packed_base_is_not_merged() -> None:
    packed = adapt(CONFIG, pack_weights(specs_of(CONFIG), base(), 4), PLAN)
    with pytest.raises(ValueError, match=r"weight layers\.0\.attention\.query: its base is packed with 4 bits"):
        merge(packed)


# ------------------------------------------------------------------------------------- several at once

MODELS = {
    "small": Plan(rank=2, targets=ATTENTION),
    "large": Plan(rank=5, alpha=3, root=True),
    "dora": Plan(rank=3, dora=True),
}


@cache
def adapted(name: str) -> Any:
    return settle(sharp(adapt(CONFIG, base(), MODELS[name]), len(name)))


@cache
def served() -> Any:
    return together(CONFIG, base(), [adapted(name) for name in MODELS])


def test_each_row_takes_its_own_adapter() -> None:
    tokens = np.repeat(TOKENS[:1], 4, axis=0)
    found = logits(chosen_for(served(), jnp.array([3, 0, 1, 2])), tokens=tokens)
    np.testing.assert_array_equal(found[1], logits(base(), tokens=tokens)[0])
    for row, name in ((0, "dora"), (2, "small"), (3, "large")):
        assert np.abs(found[row] - logits(adapted(name), tokens=tokens)[0]).max() < LOGITS, name


def test_an_adapted_table_is_chosen_by_row_too() -> None:
    other = sharp(adapt(CONFIG, base(), Plan(rank=2, targets=("embedding",))), 1)
    both = chosen_for(together(CONFIG, base(), [other]), jnp.array([0, 1, 1]))
    assert isinstance(both.embedding, LoraSet)
    found = logits(both)
    assert np.abs(found[0] - logits(base())[0]).max() < SAME
    assert np.abs(found[1:] - logits(other)[1:]).max() < LOGITS


def test_an_adapter_of_another_base_is_not_served_beside() -> None:
    other = adapt(CONFIG, sharp_weights(CONFIG, seed=1), PLAN)
    with pytest.raises(ValueError, match="adapter 2: weight embedding: expected the base's own"):
        together(CONFIG, base(), [adapted("small"), other])


def alone(weights: Any, prompt: list[int], new: int) -> list[int]:
    session = Session(weights, CONFIG, 1, 128)
    session.extend([prompt])
    return [token for chosen in decode(session, new) for token in chosen.tokens if token is not None]


def test_an_engine_serves_requests_of_several_adapters_at_once() -> None:
    """With the same prompt, of which no row may lend another adapter's reading."""
    prompt = [2, *map(int, TOKENS[0, :17])]
    engine = Engine(served(), CONFIG, slots=3, capacity=128, prefill_chunk=16)
    assert engine.adapters == 3
    requests = [engine.submit(prompt, 8, adapter=adapter) for adapter in (1, 0, 2, 3, 1)]
    while engine.step():
        pass
    models = [adapted("small"), base(), adapted("large"), adapted("dora"), adapted("small")]
    answers = [[token.id for token in request.result()] for request in requests]
    assert answers == [alone(model, prompt, 8) for model in models]
    assert len({tuple(answer) for answer in answers}) == 4
    with pytest.raises(ValueError, match="adapter: expected 0 to 3, of which 0 is the base, found 4"):
        engine.submit(prompt, 8, adapter=4)


def test_rows_lend_each_other_what_the_same_adapter_has_read() -> None:
    prompt = [2, *map(int, TOKENS[0])]
    engine = Engine(served(), CONFIG, slots=2, capacity=128, prefill_chunk=16)
    for adapter, shared in ((1, 0), (2, 0), (1, len(prompt) - 1)):
        request = engine.submit(prompt, 1, adapter=adapter)
        while engine.step():
            pass
        assert request.shared == shared
