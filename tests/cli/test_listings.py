import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemwright.checkpoints.gguf_writer import save_gguf
from gemwright.core.cache import SPARE
from gemwright.models import gemma
from gemwright.models.family import PRESETS
from gemwright.models.summary import cache_bytes, summarise
from tests.checkpoints.test_npz_paligemma import CONFIGS as NPZ_CONFIGS
from tests.checkpoints.test_npz_paligemma import arrays_of as npz_arrays_of
from tests.checkpoints.test_npz_paligemma import write as write_npz
from tests.tiny import CONFIG, sharp_weights

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def empty_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's downloads are none of these tests' business."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def test_models_lists_the_presets_and_what_is_here(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "mine")
    found = json.loads(run("models", "--json").out)
    assert [preset["name"] for preset in found["presets"]] == list(PRESETS)
    assert {preset["name"]: preset["parameters"] for preset in found["presets"]}["gemma-2b"] == 2_506_172_416
    (mine,) = [model for model in found["local"] if model["folder"].endswith("mine")]
    assert mine["family"] == "gemma2"
    assert mine["bytes"] == (tiny_folder / "model.safetensors").stat().st_size


def test_models_prints_a_table(run: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # so that no path is folded
    shutil.copytree(tiny_folder, tmp_path / "mine")
    done = run("models")
    assert done.code == 0
    assert "google/gemma-2-27b" in done.out
    assert "27,227,128,320" in done.out
    assert str(tmp_path / "mine") in done.out


def test_the_summary_of_the_7b_states_its_published_numbers(run: Run) -> None:
    found = json.loads(run("summary", "gemma-7b", "--json").out)
    assert found["parameters"] == {"embedding": 786_432_000, "other": 7_751_248_896, "total": 8_537_680_896}
    assert found["asset_bytes"] == {"bf16": 17_075_361_792, "int8": 8_537_680_896, "int4": 4_268_840_448}
    # 2 (keys, values) x 28 layers x 16 heads x 256 x 2 bytes a token
    assert found["cache_bytes"]["8192"] == 2 * 28 * 16 * 256 * 2 * 8192
    assert found["weights"]["layers.27.attention.query"] == [16, 256, 3072]
    assert sum(_size(shape) for shape in found["weights"].values()) == 8_537_680_896


def _size(shape: list[int]) -> int:
    size = 1
    for each in shape:
        size *= each
    return size


def test_the_summary_shows_tree_parameters_sizes_and_memory(run: Run) -> None:
    done = run("summary", "gemma-7b")
    for text in ("0 to 27, alike", "query 16 x 256 x 3,072", "8,537,680,896", "15.90 GiB", "3.50 GiB", "int4", "8,192"):
        assert text in done.out, text
    assert "layers.27" not in done.out


def test_the_summary_shows_each_kind_of_layer(run: Run) -> None:
    shown = run("summary", "recurrentgemma-2b").out
    for text in ("0 and 17 more, alike", "2 and 7 more, alike", "input_gate 10 x 256 x 256", "2,682,862,080"):
        assert text in shown, text
    assert "layers.3" not in shown
    assert shown.count("mixer_norm") == 2


def test_the_summary_can_show_every_layer(run: Run) -> None:
    shown = run("summary", "gemma-2b", "--layers").out
    assert shown.count("attention_norm") == 18


def test_the_summary_of_a_folder_needs_no_weights(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config only").mkdir()
    shutil.copy(tiny_folder / "config.json", tmp_path / "config only")
    found = json.loads(run("summary", tmp_path / "config only", "--json").out)
    assert found["config"]["embed_dim"] == 24
    assert set(found["cache_bytes"]) == {"16", "32", "64", "128"}


@pytest.fixture
def gguf_folder(tmp_path: Path) -> Path:
    """With a model's GGUF file and a broken one."""
    config = replace(CONFIG, query_scale=CONFIG.head_dim**-0.5)  # what llama.cpp computes
    save_gguf(tmp_path / "ggufs" / "mine.gguf", config, sharp_weights(config), kind="f16")
    (tmp_path / "ggufs" / "broken.gguf").write_bytes(b"GGUF")
    return tmp_path / "ggufs"


def test_the_summary_of_a_gguf_file_is_of_its_header(run: Run, gguf_folder: Path) -> None:
    found = json.loads(run("summary", gguf_folder / "mine.gguf", "--json").out)
    assert found["config"]["family"] == CONFIG.family
    assert found["config"]["embed_dim"] == CONFIG.embed_dim
    assert found["parameters"]["total"] == summarise(CONFIG).total
    done = run("summary", gguf_folder / "broken.gguf")
    assert done.code == 1
    assert "broken.gguf: the version: expected 4 bytes" in done.err


def test_models_lists_gguf_files(run: Run, gguf_folder: Path) -> None:
    found = json.loads(run("models", "--json").out)
    (mine,) = [model for model in found["local"] if "ggufs" in model["folder"]]
    assert mine["name"].endswith("mine.gguf")
    assert mine["family"] == CONFIG.family
    assert mine["bytes"] == (gguf_folder / "mine.gguf").stat().st_size


def test_an_npz_of_a_paligemma_is_summarised_listed_and_converted(run: Run, tmp_path: Path) -> None:
    config = NPZ_CONFIGS["PaliGemma 2"]
    (tmp_path / "bv").mkdir()
    file = write_npz(tmp_path / "bv" / "pt_224.npz", npz_arrays_of(config))
    write_npz(tmp_path / "bv" / "other.npz", {})
    found = json.loads(run("summary", file, "--json").out)
    assert found["parameters"]["total"] == summarise(config).total
    (mine,) = [model for model in json.loads(run("models", "--json").out)["local"] if "bv" in model["folder"]]
    assert (mine["family"], mine["bytes"]) == ("paligemma2", file.stat().st_size)
    assert "out: paligemma2, float32, 0.00 GB, without a tokenizer" in run("convert", file, tmp_path / "out").out
    assert json.loads(run("summary", tmp_path / "out", "--json").out)["parameters"] == found["parameters"]
    done = run("convert", tmp_path / "bv" / "other.npz", tmp_path / "other")
    assert done.code == 1
    assert (
        "other.npz: tensor img/embedding/kernel: expected 4 axes in a PaliGemma of big_vision, found none" in done.err
    )


def test_the_cache_of_windowed_layers_stops_growing() -> None:
    config = gemma.PRESETS["gemma2-2b"]
    a_slot = 2 * config.num_kv_heads * config.head_dim * 2
    assert cache_bytes(config, 4096) == 26 * 4096 * a_slot
    assert cache_bytes(config, 8192) == 13 * (4096 + SPARE + 8192) * a_slot


@pytest.mark.parametrize("preset", PRESETS)
def test_a_summary_adds_up(preset: str) -> None:
    found = summarise(PRESETS[preset])
    assert found.embedding + found.other == found.total
    assert found.asset_bytes["bf16"] == 2 * found.total
    limit = PRESETS[preset].max_positions
    assert list(found.cache_bytes) == [limit // 8, limit // 4, limit // 2, limit]
