"""EmbeddingGemma in the files of sentence-transformers: what is read, and what is refused with its reason."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.sentence_folder import read_sentence_folder
from gemwright.model import load
from tests.checkpoints.conftest import assert_same
from tests.sentence_folders import CONFIG, edit, sharp, write, write_sentence_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sentence_folder(tmp_path / "model", sharp())


def test_files_come_back_as_the_weights_they_were_made_of(folder: Path) -> None:
    found = read_sentence_folder(folder)
    assert found.config == CONFIG
    assert found.prompts["query"] == "task: search result | query: "
    assert_same(found.weights, sharp())


def test_newer_files_say_the_pooling_otherwise(folder: Path) -> None:
    write(folder / "1_Pooling" / "config.json", {"embedding_dimension": 24, "pooling_mode": "mean"})
    assert read_sentence_folder(folder).config == CONFIG


def test_types_may_be_asked_for(folder: Path) -> None:
    weights = read_sentence_folder(folder, "bfloat16").weights
    assert {str(leaf.dtype) for leaf in (weights.text.embedding, *weights.dense)} == {"bfloat16"}


def without_the_file(folder: Path, name: str) -> None:
    (folder / name).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: without_the_file(f, "modules.json"), "modules.json: expected here of an embedding model"),
        (lambda f: without_the_file(f, "2_Dense/config.json"), "2_Dense/config.json: expected here"),
        (lambda f: write(f / "modules.json", {}), "expected a JSON list, found dict"),
        (lambda f: (f / "modules.json").write_text("{"), "not valid JSON"),
        (lambda f: drop_the_norm(f), "expected Transformer, Pooling, any number of Dense, Normalize"),
        (lambda f: lead_away(f), "expected names of folders in this one"),
        (lambda f: edit(f / "config.json", use_bidirectional_attention=False), "only EmbeddingGemma embeds texts"),
        (lambda f: edit(f / "config.json", num_hidden_layers="x"), "num_hidden_layers: expected a positive integer"),
        (lambda f: edit(f / "1_Pooling/config.json", pooling_mode_mean_tokens=False), "by the mean of all tokens"),
        (lambda f: edit(f / "3_Dense/config.json", activation_function="torch.nn.Tanh"), "without activation .* Tanh"),
        (lambda f: dense(f, "3_Dense", np.zeros((20, 41), np.float32)), r"expected shape \(20, 40\), found \(20, 41\)"),
        (
            lambda f: edit(f / "config_sentence_transformers.json", prompts=[1]),
            "prompts: expected a text for each task",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_with_its_reason(folder: Path, change: Any, message: str) -> None:
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        read_sentence_folder(folder)


def drop_the_norm(folder: Path) -> None:
    write(folder / "modules.json", json.loads((folder / "modules.json").read_text())[:-1])


def lead_away(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["path"] = "../2_Dense"
    write(folder / "modules.json", modules)


def dense(folder: Path, name: str, weight: np.ndarray) -> None:
    save_file({"linear.weight": weight}, folder / name / "model.safetensors")


def test_it_does_not_pass_for_a_model_that_writes(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="use_bidirectional_attention"):
        load(folder)
