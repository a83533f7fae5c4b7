"""A folder appears whole or not at all."""

import os
from pathlib import Path

import pytest

from gemwright.checkpoints import folders
from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.folders import check_room, whole_file, whole_folder
from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.save import save_checkpoint
from tests.checkpoints.conftest import CONFIGS, assert_same, sharp_weights

CONFIG = CONFIGS["gemma2"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError, ValueError, SystemExit])
def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise failure

    with pytest.raises(failure):
        save_checkpoint(tmp_path / "model", CONFIG, sharp_weights(CONFIG), progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_overwriting_leaves_the_old_model(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(folder, CONFIG, sharp_weights(CONFIG), overwrite=True, progress=interrupt)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_failure_at_the_last_moment_brings_the_old_model_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if self.name.startswith(".model.partial") and not self.name.endswith("-old"):
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="no"), whole_folder(folder, overwrite=True):
        pass
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    load_checkpoint(folder)


def test_a_folder_that_is_there_is_not_overwritten(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="overwrite"):
        save_checkpoint(folder, CONFIG, sharp_weights(CONFIG))


def test_a_model_can_be_overwritten_by_itself_changed(folder: Path) -> None:
    loaded = load_checkpoint(folder).weights
    save_checkpoint(folder, CONFIG, loaded, overwrite=True)  # reads the files that it replaces
    assert_same(load_checkpoint(folder).weights, loaded)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_overwriting_never_deletes_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"found no config\.json"):
        save_checkpoint(tmp_path / "home", CONFIG, sharp_weights(CONFIG), overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_filled_and_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save_checkpoint(tmp_path / "empty", CONFIG, sharp_weights(CONFIG))
    save_checkpoint(tmp_path / "a" / "b" / "model", CONFIG, sharp_weights(CONFIG))
    load_checkpoint(tmp_path / "empty")
    load_checkpoint(tmp_path / "a" / "b" / "model")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(CheckpointError, match="found a file"):
        save_checkpoint(tmp_path / "model", CONFIG, sharp_weights(CONFIG))


def test_a_pipe_or_a_device_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="expected a file to write, found a device or a pipe"):
        whole_file(pipe, overwrite=True).__enter__()


def test_the_root_of_the_disk_has_room_too() -> None:
    check_room(Path("/"), 1)


def test_a_full_disk_is_noticed_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = folders.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(CheckpointError, match="free space"):
        save_checkpoint(tmp_path / "model", CONFIG, sharp_weights(CONFIG))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_the_constants_are_not_written(tmp_path: Path) -> None:
    for config, weights in (
        (CONFIGS["gemma"], sharp_weights(CONFIG)),
        (CONFIG, sharp_weights(CONFIGS["gemma"])),
    ):
        with pytest.raises(CheckpointError, match="weight layers"):
            save_checkpoint(tmp_path / "model", config, weights)
    with pytest.raises(CheckpointError, match="expected bfloat16 or float32, found float16"):
        save_checkpoint(tmp_path / "model", CONFIG, sharp_weights(CONFIG, "float16"))
    assert list(tmp_path.iterdir()) == []
