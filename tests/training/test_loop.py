import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gemwright.core.module import initialise, named_leaves
from gemwright.core.sharding import MeshShape, make_mesh
from gemwright.data.packing import Batch, Rows, pack, rows_to_batch
from gemwright.models import griffin
from gemwright.models.gemma import Config, Gemma, gemma1, gemma2
from gemwright.training.loop import Interrupted, next_group, train
from gemwright.training.report import read_losses
from gemwright.training.run import Optimizer, Run, Stage
from gemwright.training.step import fresh_state, make_steps, token_losses
from tests.tolerances import AFTER_STEPS

BOS, VOCAB = 2, 40
SIZES = {"vocab_size": VOCAB, "embed_dim": 16, "num_layers": 1, "num_heads": 2, "head_dim": 8, "mlp_dim": 32}
RUN = Run(
    model=gemma1(num_kv_heads=1, **SIZES),
    stages=(Stage(12, 16),),
    tokens_per_step=64,
    optimizer=Optimizer(lr=2e-2, warmup=2),
    mesh=MeshShape(fsdp=2),
)


def stream() -> np.ndarray:
    """Documents that count upwards: easy to learn."""
    starts = np.random.default_rng(0).integers(3, 20, 60)
    return pack(([BOS, *range(start, start + 15)] for start in starts), BOS, VOCAB)


def mean_loss(weights: Gemma, batch: Batch, config: Config) -> jax.Array:
    """Over the targets that belong to their row's document."""
    losses = token_losses(weights, batch.inputs, batch.targets, config, batch.positions, batch.segments)
    return jnp.mean(losses[batch.weights == 1])


DATA = Rows(stream(), BOS, RUN.seed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Gemma, Path]:
    folder = tmp_path_factory.mktemp("run") / "whole"
    return train(RUN, DATA, folder), folder


def test_the_loss_falls(whole: tuple[Gemma, Path]) -> None:
    losses = read_losses(whole[1])
    assert len(losses) == RUN.steps
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.5
    assert (whole[1] / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_recurrent_model_learns_too(tmp_path: Path) -> None:
    """From rows of packed documents, with its gates and decays trained by Adam and its matrices by Muon."""
    model = griffin.Config(**SIZES, num_kv_heads=1, recurrent_dim=16, pattern=("recurrent", "attention"), window=5)
    train(replace(RUN, model=replace(model, num_layers=2)), DATA, tmp_path)
    losses = read_losses(tmp_path)
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.5


def test_a_run_that_was_interrupted_ends_bit_by_bit_the_same(whole: tuple[Gemma, Path], tmp_path: Path) -> None:
    train(RUN, DATA, tmp_path, until=5)
    with (tmp_path / "losses.jsonl").open("a") as log:
        log.write('{"step": 5, "loss": 99}\n')  # of a step that was done, but killed before it was saved
    resumed = train(RUN, DATA, tmp_path, save_every=2)
    for name, weight in named_leaves(whole[0]).items():
        np.testing.assert_array_equal(np.asarray(named_leaves(resumed)[name]), np.asarray(weight), err_msg=name)
    assert read_losses(tmp_path) == read_losses(whole[1])


def test_a_finished_run_is_left_as_it_is(whole: tuple[Gemma, Path]) -> None:
    again = train(RUN, DATA, whole[1])
    assert jax.tree.all(jax.tree.map(np.array_equal, again, whole[0]))
    assert len(read_losses(whole[1])) == RUN.steps


def test_the_state_of_another_run_is_refused(whole: tuple[Gemma, Path]) -> None:
    other = replace(RUN, model=gemma1(num_kv_heads=2, **SIZES))
    with pytest.raises(ValueError, match=r"state of another run: begun with model.num_kv_heads = 1, now it is 2"):
        train(other, DATA, whole[1])


def test_tokens_that_the_model_has_no_rows_for_are_refused(tmp_path: Path) -> None:
    """The gather of a row that is not there would take another."""
    small = replace(RUN, model=gemma1(num_kv_heads=1, **SIZES | {"vocab_size": 5}))
    with pytest.raises(ValueError, match=r"step 0: token \d+ in the data, where model\.vocab_size is 5"):
        train(small, DATA, tmp_path)


def test_a_damaged_checkpoint_is_named_and_without_it_the_run_goes_on(
    whole: tuple[Gemma, Path], tmp_path: Path
) -> None:
    train(RUN, DATA, tmp_path, save_every=2, until=4)
    shutil.rmtree(tmp_path / "checkpoints" / "4" / "state")
    with pytest.raises(ValueError, match=r"checkpoints/4: cannot be read .* goes on from step 2"):
        train(RUN, DATA, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "4")
    assert jax.tree.all(jax.tree.map(np.array_equal, train(RUN, DATA, tmp_path), whole[0]))
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").touch()
    with pytest.raises(ValueError, match="expected a folder of checkpoints, found a file"):
        train(RUN, DATA, tmp_path)


def test_a_state_of_an_older_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="state of an older version"):
        train(RUN, DATA, tmp_path)


def test_a_run_goes_on_over_another_mesh(whole: tuple[Gemma, Path], tmp_path: Path) -> None:
    train(RUN, DATA, tmp_path, until=5)
    resumed = train(replace(RUN, mesh=MeshShape(fsdp=1, tensor=2)), DATA, tmp_path)
    assert tuple(resumed.embedding.sharding.spec) == ("tensor", "fsdp")
    for name, weight in named_leaves(whole[0]).items():
        found = np.asarray(named_leaves(resumed)[name])
        np.testing.assert_allclose(found, np.asarray(weight), rtol=0, atol=AFTER_STEPS, err_msg=name)


def test_asked_to_stop_it_saves_and_goes_on_as_if_never_stopped(whole: tuple[Gemma, Path], tmp_path: Path) -> None:
    asked = iter([False, False, True])
    with pytest.raises(Interrupted, match="after step 3 of 12"):
        train(RUN, DATA, tmp_path, stop=lambda: next(asked))
    resumed = train(RUN, DATA, tmp_path)
    assert jax.tree.all(jax.tree.map(np.array_equal, resumed, whole[0]))
    assert read_losses(tmp_path) == read_losses(whole[1])


def test_rows_that_devices_cannot_share_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a multiple of 32"):
        train(replace(RUN, tokens_per_step=48), DATA, tmp_path)


def test_steps_of_one_program_are_those_of_many(whole: tuple[Gemma, Path], tmp_path: Path) -> None:
    together = train(RUN, DATA, tmp_path, burst=5, save_every=8)
    for one, other in zip(jax.tree.leaves(whole[0]), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=1e-4)
    np.testing.assert_allclose(read_losses(tmp_path), read_losses(whole[1]), rtol=0, atol=1e-4)


def test_programs_end_where_rows_grow_and_where_states_are_saved() -> None:
    run, step, found = replace(RUN, stages=(Stage(7, 8), Stage(6, 16))), 1, list[tuple[int, int]]()
    while step < 13:
        steps = next_group(run, step, last=13, burst=4, is_border=lambda step: step % 5 == 0)
        found.append((steps.start, steps.stop))
        step = steps.stop
    assert found == [(1, 5), (5, 7), (7, 10), (10, 13)]


def test_a_step_differentiates_the_mean_over_all_counted_targets() -> None:
    # Rows of two devices count differently many targets: a mean of means would weigh them wrongly.
    model = RUN.model
    row = [BOS, 5, 6, 7, 8, 9, BOS, 10, BOS]
    batch = rows_to_batch(np.array([row, [BOS, 5, BOS, 6, BOS, 7, BOS, 9, 3]], np.int32), BOS)
    specs = Gemma.specs(model)
    sgd, mesh = optax.sgd(1.0), make_mesh(MeshShape(fsdp=2))
    weights = initialise(specs, 2)
    expected = jax.jit(jax.grad(lambda weights: mean_loss(weights, batch, model)))(weights)
    stacked = jax.tree.map(lambda part: part[None], batch)
    after, _ = make_steps(model, sgd, mesh)(fresh_state(weights, specs, sgd, mesh), stacked)
    for old, new, slope in zip(*map(jax.tree.leaves, (weights, after.weights, expected)), strict=True):
        np.testing.assert_allclose(np.asarray(old) - np.asarray(new), np.asarray(slope), rtol=0, atol=1e-5)


def test_the_losses_are_cross_entropies() -> None:
    weights, config = initialise(Gemma.specs(RUN.model), 1), RUN.model
    inputs, targets = np.array([[2, 5, 7], [2, 9, 9]]), np.array([[5, 7, 0], [9, 9, 39]])
    hidden, _ = weights(jnp.asarray(inputs), config)
    logits = np.asarray(weights.logits(hidden, config), np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(shares, targets[..., None], -1))[..., 0]
    losses = token_losses(weights, jnp.asarray(inputs), jnp.asarray(targets), config)
    np.testing.assert_allclose(np.asarray(losses), expected, rtol=0, atol=1e-5)


def test_rows_grow_from_stage_to_stage() -> None:
    run = replace(RUN, stages=(Stage(8, 8), Stage(4, 16)))
    assert [run.length(step) for step in (0, 7, 8, 11)] == [8, 8, 16, 16]
    with pytest.raises(ValueError, match="the run has 12 steps only"):
        run.length(12)


@pytest.mark.parametrize("model", [RUN.model, gemma2(window=4, num_kv_heads=1, **SIZES)], ids=["gemma1", "gemma2"])
def test_packed_documents_have_the_losses_of_each_alone(model: Config) -> None:
    weights = initialise(Gemma.specs(model), 1)
    documents = [[BOS, 5, 6, 7], [BOS, 9], [BOS, 11, 12, 13, 14, 15]]
    losses = jax.jit(token_losses, static_argnames="config")

    def padded(row: list[int]) -> np.ndarray:
        return np.array([row + [0] * (12 - len(row))], np.int32)

    alone = []
    for document in documents:
        each = losses(weights, padded(document[:-1]), padded(document[1:]), config=model)
        alone.extend(np.asarray(each)[0, : len(document) - 1].tolist())
    row = np.array([[*documents[0], *documents[1], *documents[2], BOS]], np.int32)
    batch = rows_to_batch(row, BOS)
    packed = losses(weights, batch.inputs, batch.targets, model, batch.positions, batch.segments)
    counted = np.asarray(packed)[0][batch.weights[0] == 1]
    np.testing.assert_allclose(counted, alone, rtol=0, atol=1e-5)
    assert float(mean_loss(weights, batch, model)) == pytest.approx(np.mean(alone), abs=1e-5)
