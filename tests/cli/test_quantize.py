"""`gemwright quantize`: a folder that loads and answers, a report, and refusals that write nothing."""

import argparse
import inspect
import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import count
from gemwright.model import load
from gemwright.models.gemma import Gemma
from tests.cli.conftest import Run
from tests.tiny import CONFIG, sharp_weights

QUICK = ("--tokens", "256")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "text.txt"
    path.write_text(inspect.getsource(argparse)[:8000], encoding="utf-8")
    return path


def test_a_model_becomes_a_folder_that_answers(run: Run, tiny_folder: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("quantize", tiny_folder, out, "--bits", "8", "--text", text, "--calibration", text, *QUICK)
    assert (done.code, done.err) == (0, "")
    for expected in ("layers.1.mlp.down", "KL divergence", "perplexity", str(out)):
        assert expected in done.out
    generated = run("generate", out, "--prompt", "def f(", "--max-new-tokens", "5")
    assert generated.code == 0
    assert generated.out
    assert run("chat", out, "--prompt", "Hello", "--max-new-tokens", "5").code == 0


def test_a_recurrent_model_goes_the_same_way(run: Run, griffin_folder: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("quantize", griffin_folder, out, "--bits-per-weight", "8", "--text", text, "--force", "--json", *QUICK)
    report = json.loads(done.out)
    assert {matrix["bits"] for matrix in report["weights"].values()} == {4, 8}
    assert not [name for name in report["weights"] if "gate_bias" in name or "conv" in name]
    assert run("generate", out, "--prompt", "def f(", "--max-new-tokens", "5").out
    assert run("chat", out, "--prompt", "Hello", "--max-new-tokens", "5").code == 0


def test_the_report_for_machines(run: Run, tiny_folder: Path, text: Path, tmp_path: Path) -> None:
    options = ("--bits-per-weight", "8", "--text", text, "--force", "--json", *QUICK)
    done = run("quantize", tiny_folder, tmp_path / "out", *options)
    report = json.loads(done.out)
    assert {matrix["bits"] for matrix in report["weights"].values()} == {4, 8}
    assert 0 < report["weights"]["embedding"]["error"] < 0.1
    assert 0 < report["error"] < 0.1
    assert report["text"] == str(text)
    assert report["measured"]["divergence"] > 0
    model = load(tmp_path / "out")
    assert report["bytes"] > count(Gemma.specs(model.config)) / 2


def test_too_great_a_loss_is_refused_unless_forced(run: Run, tiny_folder: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--text", text, "--calibration", text, "--max-perplexity-rise", "-100", *QUICK)
    done = run("quantize", tiny_folder, out, *options)
    assert done.code == 1
    assert done.err.startswith("error: perplexity rises by")
    assert len(done.err.splitlines()) == 1
    assert not any(tmp_path.iterdir())
    assert run("quantize", tiny_folder, out, *options, "--force").code == 0
    assert (out / "config.json").is_file()


def test_a_model_without_a_tokenizer_needs_force(run: Run, bare_folder: Path, tmp_path: Path) -> None:
    done = run("quantize", bare_folder, tmp_path / "out")
    assert (done.code, "no tokenizer" in done.err) == (1, True)
    assert run("quantize", bare_folder, tmp_path / "out", "--force").code == 0
    assert load(tmp_path / "out").generate_ids([2, 5], 3, stop_ids=())


def test_weights_that_are_not_numbers_are_refused_by_name(run: Run, tmp_path: Path) -> None:
    weights = sharp_weights(CONFIG)
    damaged = Gemma(weights.embedding.at[7, 3].set(jnp.nan), weights.layers, weights.final_norm)
    save_checkpoint(tmp_path / "damaged", CONFIG, damaged)
    done = run("quantize", tmp_path / "damaged", tmp_path / "out", "--force")
    assert done.code == 1
    assert done.err.startswith("error: weight embedding: expected finite values")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_is_refused_before_any_work(run: Run, text: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    none, out = tmp_path / "none", tmp_path / "out"  # no model is there to be worked on
    assert "not empty" in run("quantize", none, tmp_path / "full").err
    assert "expected 4 or 8, found 5" in run("quantize", none, out, "--bits", "5").err
    assert "expected 4.5 to 8.5" in run("quantize", none, out, "--bits-per-weight", "9", "--calibration", text).err
    assert "no such folder" in run("quantize", none, out).err


def test_a_model_is_not_read_where_it_cannot_be_converted_to(run: Run, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.gguf").touch()
    assert "not empty" in run("convert", tmp_path / "none", tmp_path / "full").err
    assert "is there already" in run("convert", tmp_path / "none", tmp_path / "full" / "model.gguf").err


def test_a_packed_model_is_not_quantised_again(run: Run, bare_folder: Path, tmp_path: Path) -> None:
    assert run("quantize", bare_folder, tmp_path / "once", "--force").code == 0
    done = run("quantize", tmp_path / "once", tmp_path / "twice", "--force")
    assert (done.code, "found packed ones" in done.err) == (1, True)
