"""Fine-tuning on examples: what it gives, that it goes on where it was, and how it fails."""

import json
import signal
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import gemwright
from gemwright.data.example_rows import laid_out
from gemwright.data.example_sides import hold_out
from gemwright.data.examples import Example
from gemwright.training import loop
from gemwright.training.loop import Interrupted
from gemwright.training.step import token_losses
from gemwright.tuning.beginning import default_rate
from gemwright.tuning.measured_loss import mean_loss
from gemwright.tuning.sft import Settings, Tuned, sft
from tests.tiny import CONFIG, GRIFFIN, sharp_weights
from tests.tolerances import SAME

FAST: dict[str, Any] = {"rate": 1e-2, "epochs": 3, "batch_tokens": 256, "held_out": 0.2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words to be said again: 40 examples of some 20 tokens."""
    words = ["import", "json", "class", "return", "value", "self"]
    pairs = [(f"{a} {b}", f"{b} {b}") for a in words for b in words] + [(a, a) for a in words[:4]]
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": a, "completion": b}) for a, b in pairs))
    return path


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return sft(tiny_folder, data, tmp_path_factory.mktemp("whole") / "out", **FAST)


@pytest.fixture(scope="module")
def adapter(tiny_folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return sft(tiny_folder, data, tmp_path_factory.mktemp("adapter") / "out", lora=2, **FAST)


# -------------------------------------------------------------------------------------- what it gives


def test_a_model_learns_the_answers_and_is_written_whole(whole: Tuned, tiny_folder: Path) -> None:
    assert whole.loss_before is not None
    assert whole.loss_after is not None
    assert whole.loss_after < whole.loss_before - 1  # a sharp random model begins far above a uniform guess
    assert (whole.trained, whole.skipped, whole.examples + whole.held_out) == (1.0, 0, 40)
    tuned, base = gemwright.load(whole.folder), gemwright.load(tiny_folder)
    assert tuned.weights.embedding.dtype == base.weights.embedding.dtype
    assert tuned.tokenizer.fingerprint == base.tokenizer.fingerprint
    assert isinstance(tuned.chat([{"role": "user", "content": "json"}], 4), str)
    assert {"sft.json", "losses.jsonl", "loss.png"} <= {path.name for path in whole.folder.iterdir()}
    assert not whole.folder.with_name("out.run").exists()


def test_an_adapter_is_written_in_pefts_format(adapter: Tuned, tiny_folder: Path, data: Path) -> None:
    assert adapter.loss_before is not None
    assert adapter.loss_after is not None
    assert adapter.loss_after < adapter.loss_before - 0.3
    assert 0 < adapter.trained < 0.15
    told = json.loads((adapter.folder / "adapter_config.json").read_text())
    assert (told["r"], told["base_model_name_or_path"]) == (2, str(tiny_folder))
    adapted = gemwright.load(tiny_folder).with_adapter(adapter.folder)
    assert not np.allclose(adapted.logits([[2, 5]]), gemwright.load(tiny_folder).logits([[2, 5]]))


def test_a_quantised_base_and_dora_are_learned_beside(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    done = sft(tiny_folder, data, tmp_path / "out", lora=2, bits=4, dora=True, targets=["*.mlp.down"], **FAST)
    assert done.loss_before is not None
    assert done.loss_after is not None
    assert done.loss_after < done.loss_before
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all(".mlp.down_proj" in name for name in tensors)
    assert any("magnitude" in name for name in tensors)


# -------------------------------------------------------------------------------------- what is learned


@pytest.mark.parametrize("config", [CONFIG, GRIFFIN], ids=["gemma", "griffin"])
def test_examples_in_one_row_cost_what_they_cost_alone(config: Any) -> None:
    """Attention, windows and recurrences end with each example; what fills the row costs nothing."""
    rng = np.random.default_rng(0)
    weights = sharp_weights(config)

    def example(size: int) -> Example:
        ids = [2, *rng.integers(200, 700, size).tolist()]
        return Example(ids, [False, *(rng.random(size) < 0.6).tolist()], Path("x"), 1)

    def losses(group: list[Example]) -> np.ndarray:
        batch = laid_out([group], 1, 64)
        found = token_losses(
            weights, jnp.asarray(batch.inputs), jnp.asarray(batch.targets), config, jnp.asarray(batch.positions),
            jnp.asarray(batch.segments),
        )  # fmt: skip
        return np.asarray(found)[np.asarray(batch.weights) == 1]

    group = [example(size) for size in (30, 7, 25)]
    apart = np.concatenate([losses([one]) for one in group])
    np.testing.assert_allclose(losses(group), apart, atol=SAME * 10)  # losses of some 10 nats: relative
    assert mean_loss(weights, config, group) == pytest.approx(float(apart.mean()), rel=SAME)


def test_the_same_conversation_is_never_on_both_sides() -> None:
    found = [Example([2, number % 10], [False, True], Path("x"), number) for number in range(40)]
    learned, held_out = hold_out(found, 0.3, 0)
    assert len(held_out) == 12
    assert not {tuple(one.ids) for one in learned} & {tuple(one.ids) for one in held_out}
    assert hold_out(found[:1], 0.9, 0) == (found[:1], [])


# ---------------------------------------------------------------------------------- when it is stopped


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    adapter: Tuned, tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop._Loop._batches

    def stopping(self: Any, steps: range) -> Any:
        if steps.start == 2:
            signal.raise_signal(signal.SIGINT)
        return real(self, steps)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "_batches", stopping)
        with pytest.raises(Interrupted, match=f"stopped after step 3 of {adapter.steps}"):
            sft(tiny_folder, data, tmp_path / "out", lora=2, **FAST)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"out.run: the run in it differs in lora; give the same command"):
        sft(tiny_folder, data, tmp_path / "out", lora=3, **FAST)
    done = sft(tiny_folder, data, tmp_path / "out", lora=2, **FAST)
    assert (done.loss_before, done.loss_after) == (adapter.loss_before, adapter.loss_after)
    ours, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (done.folder, adapter.folder))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_loss_that_is_no_number_names_its_rows_and_keeps_the_last_state(
    tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    settings = {**FAST, "save_every": 2}
    with pytest.raises(ValueError, match=r"step \d+: loss or gradient was no number") as error:
        sft(tiny_folder, data, tmp_path / "out", lora=2, **{**settings, "rate": 1e30})
    assert "The step read: " in str(error.value)
    assert f"{data}, row " in str(error.value)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.run" / "settings.json").exists()


# ---------------------------------------------------------------------------------------- bad input


def test_bad_rows_are_refused_or_written_beside(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(data.read_text() + '\n{"prompt": "x"}\n')
    with pytest.raises(
        ValueError, match=r"1 of 41 rows cannot be learned from; .*--skip-bad.*:\n.*bad.jsonl, row 41: "
    ):
        sft(tiny_folder, bad, tmp_path / "out", lora=2, **FAST)
    done = sft(tiny_folder, bad, tmp_path / "out", lora=2, skip_bad=True, **{**FAST, "epochs": 1})
    assert done.skipped == 1
    (record,) = map(json.loads, (tmp_path / "out.bad.jsonl").read_text().splitlines())
    assert (record["row"], record["text"]) == (41, '{"prompt": "x"}')


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"dora": True}, "dora, bits and targets are LoRA's"),
        ({"lora": 2, "bits": 3}, "bits: expected 4 or 8, found 3"),
        ({"epochs": 0}, "expected epochs and likeliest of 1 or more"),
        ({"rate": -1.0}, "a positive rate"),
        ({"rate": float("nan")}, "a positive rate, found nan"),
        ({"held_out": float("nan")}, "held_out: expected 0 to less than 1, found nan"),
        ({"lengths": (0,)}, "length: expected rows of 1 token or more, found 0"),
        ({"batch_tokens": 0}, "batch_tokens: expected 1 or more, found 0"),
        ({"seed": -1}, "seed: expected 0 or more, found -1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Settings(**settings)


def test_a_model_without_turns_is_refused(bare_folder: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a tokenizer with <start_of_turn>, found none"):
        sft(bare_folder, data, tmp_path / "out")


def test_a_model_of_single_prompts_is_refused(paligemma_folder: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a paligemma2 answers one prompt about its pictures and knows no turns"):
        sft(paligemma_folder, data, tmp_path / "out", lora=2)
    assert not (tmp_path / "out.run").exists()


def test_a_result_that_is_there_is_not_overwritten_unasked(tiny_folder: Path, whole: Tuned, data: Path) -> None:
    with pytest.raises(ValueError, match=r"is there already and not empty"):
        sft(tiny_folder, data, whole.folder, **FAST)


def test_the_default_rate_falls_with_the_models_width() -> None:
    assert (default_rate(256, lora=False), default_rate(256, lora=True)) == (3e-3, 1e-2)
    assert 2e-5 < default_rate(2304, lora=False) < 5e-5 < default_rate(2304, lora=True) < 5e-4
