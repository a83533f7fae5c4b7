"""Reward models and learning from pairs, on a tiny model: a constructed preference is learned."""

import json
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import gemwright
from gemwright.checkpoints.reward_folder import load_reward_model
from gemwright.data.example_rows import laid_out
from gemwright.data.pair_rows import pair_layout
from gemwright.data.pairs import Pair, mismatch, pair_of
from gemwright.data.rows import Row
from gemwright.models.reward import RewardModel
from gemwright.text.chat import Message
from gemwright.text.tokenizer import Tokenizer
from gemwright.training.loop import Interrupted
from gemwright.training.step import token_losses
from gemwright.tuning.beginning import Change
from gemwright.tuning.dpo import Compared, Loss, dpo, objective_of
from gemwright.tuning.pair_learning import PairCourse, PairSettings
from gemwright.tuning.pair_scores import answer_sums, divergences_of_pairs, rewards_of_pairs, sums_of_pairs
from gemwright.tuning.reward import Rewarding, reward
from gemwright.tuning.reward_report import reward_report, told
from gemwright.tuning.rewards.model import ModelReward
from gemwright.tuning.rewards.reward import Task
from tests.tiny import CONFIG, sharp_weights
from tests.tolerances import SAME

WORDS = ["import", "json", "class", "return", "value", "self", "def", "if", "else", "for", "in", "not"]
FAST = PairSettings(epochs=3, rate=1e-2, batch_tokens=512, held_out=0.25, length=128)


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers with `json` are preferred, whatever was asked."""
    rows = [{"prompt": f"{a} {b}", "chosen": f"{b} json", "rejected": f"{b} value"} for a in WORDS for b in WORDS]
    path = tmp_path_factory.mktemp("simple") / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def rewarding(tiny_folder: Path, simple: Path, tmp_path_factory: pytest.TempPathFactory) -> Rewarding:
    return reward(tiny_folder, simple, tmp_path_factory.mktemp("reward") / "out", settings=FAST)


def pairs_of(path: Path, tokenizer: Tokenizer) -> list[Pair]:
    lines = path.read_text().splitlines()
    return [pair_of(Row(path, n, json.loads(line)), tokenizer, 128) for n, line in enumerate(lines, 1)]


# ---------------------------------------------------------------------------------------- reward models


def test_a_reward_model_learns_a_constructed_preference(rewarding: Rewarding) -> None:
    """Of 36 pairs held out: 33 right by guessing has a chance of 1 in 10 million."""
    assert rewarding.report is not None
    assert rewarding.held_out == 36
    assert rewarding.report.accuracy > 0.9
    assert rewarding.report.loss < 0.4
    assert {"reward.json", "reward.png", "steps.jsonl", "config.json"} <= {p.name for p in rewarding.folder.iterdir()}
    assert "right about" in told(rewarding.report)


def test_the_folder_gives_the_same_rewards_as_a_reward(
    rewarding: Rewarding, simple: Path, tiny_tokenizer: Tokenizer
) -> None:
    found = load_reward_model(rewarding.folder)
    pairs = pairs_of(simple, tiny_tokenizer)[:8]
    expected = rewards_of_pairs(found.weights, CONFIG, pairs)
    rows = [json.loads(line) for line in simple.read_text().splitlines()[:8]]
    judge, tasks = ModelReward(found), [Task([Message("user", row["prompt"])]) for row in rows]
    for side, name in enumerate(("chosen", "rejected")):
        values = [one.value for one in judge(tasks, [row[name] for row in rows])]
        np.testing.assert_allclose(values, expected[:, side], rtol=0, atol=10 * SAME)
    assert "too many" in judge(tasks[:1], ["value " * 200])[0].fault


def test_a_reward_model_by_lora_is_a_whole_folder(tiny_folder: Path, simple: Path, tmp_path: Path) -> None:
    settings = PairSettings(Change(lora=2), rate=1e-2, batch_tokens=512, held_out=0.25, length=128)
    done = reward(tiny_folder, simple, tmp_path / "out", settings=settings)
    assert 0 < done.trained < 0.2
    base, found = gemwright.load(tiny_folder).weights, load_reward_model(done.folder).weights
    assert not np.array_equal(base.layers[0].mlp.up, found.decoder.layers[0].mlp.up)
    assert np.array_equal(base.embedding, found.decoder.embedding)


def test_pairs_in_one_row_have_the_rewards_they_have_alone(simple: Path, tiny_tokenizer: Tokenizer) -> None:
    """And they are read at the last learned token: what is behind it in the row says nothing."""
    pairs = pairs_of(simple, tiny_tokenizer)[:6]
    head = jnp.asarray(np.random.default_rng(0).normal(size=(1, CONFIG.embed_dim)), jnp.float32)
    weights = RewardModel(sharp_weights(CONFIG), head)
    together = rewards_of_pairs(weights, CONFIG, pairs)
    for number, pair in enumerate(pairs):
        for side, one in enumerate(pair.sides):
            ids = jnp.asarray([one.ids + [7] * (64 - len(one.ids))])
            alone = jax.jit(lambda ids, ends: weights(ids, CONFIG, ends))(ids, jnp.asarray([[len(one.ids) - 1]]))
            np.testing.assert_allclose(together[number, side], alone[0, 0], rtol=SAME, atol=10 * SAME)


def test_a_report_says_what_length_has_to_do_with_it(simple: Path, tiny_tokenizer: Tokenizer) -> None:
    """Hand-made rewards: a model that counts tokens is right exactly where the longer side is the better."""

    def pair(chosen: str, rejected: str, **more: Any) -> Pair:
        value = {"prompt": "json", "chosen": chosen, "rejected": rejected, **more}
        return pair_of(Row(Path("x"), 1, value), tiny_tokenizer, 128)

    pairs = [
        pair("self self self", "value"),
        pair("self self", "value"),
        pair("self", "value value value"),
        pair("a", "b", tie=True),
    ]
    lengths = np.array([[len(side.ids) for side in one.sides] for one in pairs], np.float32)
    report = reward_report(pairs, lengths)
    assert report.pairs == 3
    assert report.accuracy == pytest.approx(2 / 3)
    assert (report.accuracy_longer_chosen, report.accuracy_longer_rejected) == (1, 0)
    assert report.longer_is_chosen == pytest.approx(2 / 3)
    assert report.length_correlation == pytest.approx(1)
    margins = np.log([3.0, 3.0, 3.0])  # 75% sure each time, right two times of three
    sure = reward_report(pairs[:3], np.stack([margins * [1, 1, -1], np.zeros(3)], axis=1))
    assert sure.calibration_error == pytest.approx(0.75 - 2 / 3)
    assert sure.loss == pytest.approx(-(2 * np.log(0.75) + np.log(0.25)) / 3)
    level = reward_report(pairs[:3], np.zeros((3, 2)))
    assert (level.accuracy, level.loss, level.length_correlation) == (0.5, pytest.approx(np.log(2)), None)


# ------------------------------------------------------------------------------------------------ pairs


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_preferred_answers_gain_on_prompts_held_out(
    loss: Loss, tiny_folder: Path, simple: Path, tmp_path: Path
) -> None:
    """Of 36 pairs: 30 right by guessing has a chance of 1 in 20,000."""
    done = dpo(
        tiny_folder,
        simple,
        tmp_path / "out",
        loss,
        settings=PairSettings(rate=3e-3, batch_tokens=512, held_out=0.25, length=192),
    )
    assert done.right is not None
    assert done.right > 0.8
    assert done.margin.low > 0
    assert done.kl.mean > 0
    assert isinstance(gemwright.load(done.folder).chat([{"role": "user", "content": "json"}], 2), str)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "kto", "orpo"])
def test_the_first_gradient_of_each_loss_prefers_the_chosen_side(
    loss: Loss, simple: Path, tiny_tokenizer: Tokenizer
) -> None:
    weights, pairs = sharp_weights(CONFIG), pairs_of(simple, tiny_tokenizer)[:3]
    pairs = mismatch(pairs, 128) if loss == "kto" else pairs
    batch: Any = jax.tree.map(jnp.asarray, pair_layout(pairs).lay([pairs], 1, 384))
    before = answer_sums(weights, batch, CONFIG)
    objective = objective_of(loss, CONFIG, 0.1)

    @jax.jit
    def moved(weights: Any) -> jax.Array:
        slope = jax.grad(lambda w: objective(w, Compared(batch, before), jax.random.key(0))[0])(weights)
        return answer_sums(jax.tree.map(lambda weight, by: weight - 1e-4 * by, weights, slope), batch, CONFIG)

    gains = np.asarray(moved(weights) - before)[0, :3]
    assert (gains[:, 0] - gains[:, 1]).mean() > 0


def test_the_reference_is_the_frozen_base_of_lora(tiny_folder: Path, simple: Path, tmp_path: Path) -> None:
    settings = PairSettings(Change(lora=2, bits=8), rate=1e-2, batch_tokens=512, held_out=0.25, length=128)
    done = dpo(tiny_folder, simple, tmp_path / "out", settings=settings)
    first = json.loads((done.folder / "steps.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-5)  # nothing is changed yet: both sides are the same
    assert done.right is not None
    assert done.right > 0.7
    assert (done.folder / "adapter_model.safetensors").exists()


@jax.jit
def _alone(weights: Any, batch: Any) -> jax.Array:
    return token_losses(weights, batch.inputs, batch.targets, CONFIG, batch.positions, batch.segments)


def test_sums_are_those_of_each_answer_alone_and_nothing_diverges_from_itself(
    simple: Path, tiny_tokenizer: Tokenizer
) -> None:
    weights, pairs = sharp_weights(CONFIG), mismatch(pairs_of(simple, tiny_tokenizer)[:5], 128)
    found = sums_of_pairs(weights, CONFIG, pairs)
    assert found.shape == (5, 3)
    for number, pair in enumerate(pairs):
        for side, one in enumerate(pair.sides):
            batch = jax.tree.map(jnp.asarray, laid_out([[one]], 1, 64))
            alone = _alone(weights, batch)
            expected = -(np.asarray(alone) * np.asarray(batch.weights)).sum()
            np.testing.assert_allclose(found[number, side], expected, rtol=10 * SAME)
    assert np.abs(divergences_of_pairs(weights, weights, CONFIG, pairs)).max() < SAME
    assert divergences_of_pairs(weights, sharp_weights(CONFIG, 1), CONFIG, pairs).min() > 0.1


def test_a_mismatched_answer_is_anothers(simple: Path, tiny_tokenizer: Tokenizer) -> None:
    pairs = pairs_of(simple, tiny_tokenizer)[:3]
    found = mismatch(pairs, 128)
    for pair, one in zip(pairs, found, strict=True):
        assert one.mismatched is not None
        assert one.mismatched.ids[: pair.prompt] == pair.chosen.ids[: pair.prompt]
        assert one.mismatched.ids != pair.chosen.ids
        assert sum(one.mismatched.learned) > 0


# ------------------------------------------------------------------------------------------ what goes wrong


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    rewarding: Rewarding, tiny_folder: Path, simple: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PairCourse._learn

    def stopping(self: PairCourse, learner: Any, step: int, more: Any) -> Any:
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return real(self, learner, step, more)

    with monkeypatch.context() as patch:
        patch.setattr(PairCourse, "_learn", stopping)
        with pytest.raises(Interrupted, match=f"stopped after step 3 of {rewarding.steps}"):
            reward(tiny_folder, simple, tmp_path / "out", settings=FAST)
    with pytest.raises(ValueError, match=r"out.run: the run in it differs in centre; give the same command"):
        reward(tiny_folder, simple, tmp_path / "out", centre=0.5, settings=FAST)
    done = reward(tiny_folder, simple, tmp_path / "out", settings=FAST)
    assert done.report == rewarding.report
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (done.folder, rewarding.folder))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_bad_rows_are_named_before_training_or_left_out(tiny_folder: Path, simple: Path, tmp_path: Path) -> None:
    bad = {"prompt": "a", "chosen": "same", "rejected": "same"}
    path = tmp_path / "pairs.jsonl"
    path.write_text(simple.read_text() + "\n" + json.dumps(bad))
    with pytest.raises(ValueError, match=r"1 of 145 rows .*\n.*row 145: chosen and rejected are equal"):
        reward(tiny_folder, path, tmp_path / "out", settings=FAST)
    tie = {"prompt": "a", "chosen": "b", "rejected": "c", "tie": True}
    path.write_text("\n".join([json.dumps(tie)] * 9))
    with pytest.raises(ValueError, match=r"row 1: a tie says nothing to ipo"):
        dpo(tiny_folder, path, tmp_path / "out", "ipo", settings=PairSettings(held_out=0))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"beta": -0.1}, "beta: expected more than 0, found -0.1"),
        ({"beta": float("nan")}, "beta: expected more than 0, found nan"),
        ({"smoothing": 0.7}, "smoothing: expected 0 to less than 0.5, found 0.7"),
    ],
)
def test_what_would_teach_the_rejected_answers_is_refused(
    options: dict[str, Any], reason: str, tiny_folder: Path, simple: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        dpo(tiny_folder, simple, tmp_path / "out", **options)


@pytest.mark.parametrize("options", [{"length": 0}, {"batch_tokens": -5}, {"rate": float("inf")}, {"seed": -1}])
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(options))}: expected .* found"):
        PairSettings(**options)


def test_a_loss_that_is_no_number_names_its_rows(tiny_folder: Path, simple: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"step \d+: the loss is .*keeps the last good state.*pairs.jsonl, row \d+"):
        dpo(
            tiny_folder,
            simple,
            tmp_path / "out",
            settings=PairSettings(epochs=9, rate=1e30, batch_tokens=512, length=128),
        )
