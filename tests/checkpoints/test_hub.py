"""From names to folders, without a hub."""

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hub import ALIASES, local_models, resolve
from gemwright.models.family import PRESETS


class FakeHub:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None

    def snapshot_download(self, name: str, **options: Any) -> str:
        self.calls.append((name, options))
        if self.error is not None:
            raise self.error
        return str(self.folder)


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def test_a_folder_is_taken_as_it_is(folder: Path, hub: FakeHub) -> None:
    assert resolve(folder) == resolve(str(folder)) == folder
    assert hub.calls == []


def test_a_folder_here_goes_before_the_same_name_there(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("google/gemma-2b").mkdir(parents=True)
    assert resolve("google/gemma-2b") == Path("google/gemma-2b")
    assert hub.calls == []


@pytest.mark.parametrize("name", ["gemma2-2b", "gemma-2-2b", "google/gemma-2-2b"])
def test_every_spelling_of_a_name_reaches_the_hub(hub: FakeHub, name: str) -> None:
    assert resolve(name, revision="main", token="secret") == hub.folder
    assert hub.calls[0][0] == "google/gemma-2-2b"
    assert (hub.calls[0][1]["revision"], hub.calls[0][1]["token"]) == ("main", "secret")


def test_every_preset_has_a_name_on_the_hub() -> None:
    assert PRESETS.keys() <= ALIASES.keys()


def test_pickles_are_not_even_fetched(hub: FakeHub) -> None:
    resolve("google/gemma-2b")
    repository = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.model",
        "pytorch_model.bin",
        "gemma-2b.gguf",
        "consolidated.pt",
        "README.md",
        "original/params.pth",
        "tokenizer.pkl",
    ]
    patterns = hub.calls[0][1]["allow_patterns"]
    kept = list(huggingface_hub.utils.filter_repo_objects(repository, allow_patterns=patterns))
    assert kept == repository[:4]


def refused(name: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (errors.GatedRepoError, ["terms", "https://huggingface.co/google/gemma-2b", "HF_TOKEN"]),
        (errors.RepositoryNotFoundError, ["no such model", "HF_TOKEN"]),
        (errors.RevisionNotFoundError, ["no revision"]),
        (errors.LocalEntryNotFoundError, ["cannot be reached", "HF_HUB_OFFLINE"]),
        (errors.HfHubHTTPError, ["HfHubHTTPError", "first line", "try again"]),
        (TimeoutError, ["TimeoutError", "try again"]),
        (OSError, ["OSError: first line"]),
    ],
)
def test_a_hub_that_gives_nothing_is_one_line_with_what_to_do(
    hub: FakeHub, kind: type[Exception], said: list[str]
) -> None:
    hub.error = kind.__new__(kind)
    hub.error.args = ("first line\nsecond line",)
    message = refused("gemma-2b")
    assert all(words in message for words in said), message
    assert message.startswith("google/gemma-2b: ")


def test_a_name_nobody_knows_says_which_is_near(hub: FakeHub) -> None:
    assert "did you mean gemma2-2b" in refused("gemma2-2")
    assert "short names: gemma-2b" in refused("xyz")
    assert hub.calls == []


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "../model", "a/b/c", "~nobody/model"])
def test_a_path_that_is_not_there_is_not_asked_of_the_hub(hub: FakeHub, name: str) -> None:
    assert refused(name) == f"{name}: no such folder"
    assert hub.calls == []


def test_a_file_is_no_model(folder: Path) -> None:
    assert "found a file" in refused(str(folder / "model.safetensors"))


def test_models_of_the_cache_and_of_folders_are_listed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "cache" / "models--google--gemma-2-2b" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    other = tmp_path / "cache" / "models--who--llama" / "snapshots" / ("b" * 40)
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"model_type": "llama"}')
    for path in folder.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    scan = huggingface_hub.scan_cache_dir
    monkeypatch.setattr(huggingface_hub, "scan_cache_dir", lambda: scan(tmp_path / "cache"))
    models = local_models([tmp_path, tmp_path / "nowhere"])
    assert [(model.name, model.family) for model in models] == [
        ("google/gemma-2-2b", "gemma2"),
        (str(folder), "gemma2"),
    ]
    assert models[0].weight_bytes == (folder / "model.safetensors").stat().st_size


def test_no_cache_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = huggingface_hub.scan_cache_dir
    monkeypatch.setattr(huggingface_hub, "scan_cache_dir", lambda: scan(tmp_path / "none"))
    assert local_models() == []


@pytest.fixture
def offline(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library itself, without a hub, and a cache in which an earlier download lies."""
    cache, commit = tmp_path / "cache", "a" * 40
    snapshot = cache / "models--google--gemma-2-2b" / "snapshots" / commit
    shutil.copytree(folder, snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_model_in_the_cache_needs_no_hub(offline: Path) -> None:
    assert resolve("gemma2-2b") == offline


def test_a_model_not_in_the_cache_says_so(offline: Path) -> None:
    assert "the cache has no whole copy" in refused("gemma2-9b")
    with pytest.raises(CheckpointError, match="no whole copy"):
        resolve("gemma2-2b", revision="other")
