"""A folder or a file that appears whole or not at all."""

import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from gemwright.checkpoints.errors import CheckpointError


@contextmanager
def whole_folder(folder: Path, *, overwrite: bool = False, mark: str = "config.json") -> Generator[Path]:
    """Yield a temporary sibling to write into; it takes the folder's name when the block ends well.

    On any failure, an interruption by the keyboard included, the sibling is removed and what was
    there before stays.

    Args:
      overwrite: replace a folder that holds a checkpoint.
      mark: the file by which such a folder is known.

    Raises:
      CheckpointError: if the folder holds something and may not be replaced.
    """
    folder = folder.resolve()  # through a link, so that the link stays one
    check_target(folder, overwrite, mark)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir()
    try:
        yield partial
        _publish(partial, folder, overwrite)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_target(folder: Path, overwrite: bool, mark: str = "config.json") -> None:
    """Raises CheckpointError if the folder may not be written: before long work whose result it shall hold."""
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a folder to write into, found a file; choose another name")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise CheckpointError(f"{folder}: is there already and not empty; choose another name or say to overwrite it")
    if not (folder / mark).is_file():  # a slip of the hand must not delete a home folder
        raise CheckpointError(f"{folder}: expected a checkpoint to overwrite, found no {mark} in it; remove it first")


def _publish(partial: Path, folder: Path, overwrite: bool) -> None:
    if not overwrite or not folder.exists():
        partial.replace(folder)  # the system refuses if another has filled the folder meanwhile
        return
    old = partial.with_name(partial.name + "-old")
    folder.rename(old)
    try:
        partial.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


# ---------------------------------------------------------------------------------------- one file


@contextmanager
def whole_file(path: Path, *, overwrite: bool = False) -> Generator[Path]:
    """Yield the path of a temporary sibling to write; it takes the file's name when the block ends well.

    Args:
      overwrite: replace a file of that name.

    Raises:
      CheckpointError: if there is something and it may not be replaced.
    """
    check_file(path, overwrite)
    path = path.resolve()  # through a link, so that the link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_file(path: Path, overwrite: bool) -> None:
    """Raises CheckpointError if the file may not be written: before long work whose result it shall hold."""
    if path.exists() and not path.is_file():  # root would replace a device
        found = "a folder" if path.is_dir() else "a device or a pipe"
        raise CheckpointError(f"{path}: expected a file to write, found {found}; choose another name")
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path}: is there already; choose another name or say to overwrite it")


def lone_file(path: Path, suffix: str, but: str = "") -> Path | None:
    """The file of this kind that a path means: itself, or the only one in a folder without a `config.json`.

    Args:
      but: pattern of names of files that are never meant.

    Returns:
      None if there is none.

    Raises:
      CheckpointError: if the folder has several.
    """
    if path.is_file():
        return path if path.suffix == suffix and not fnmatchcase(path.name, but) else None
    if not path.is_dir() or (path / "config.json").exists():
        return None
    found = sorted(file for file in path.glob(f"*{suffix}") if not fnmatchcase(file.name, but))
    if len(found) > 1:
        raise CheckpointError(f"{path}: expected one {suffix} file, found {len(found)}; name one, as {found[0]}")
    return found[0] if found else None


# -------------------------------------------------------------------------------------------- room


def check_room(path: Path, needed: int) -> None:
    """Raises CheckpointError if the disk has not so many bytes left for what shall be at `path`."""
    whole = path.resolve()
    existing = next(parent for parent in (*whole.parents, whole) if parent.exists())  # "/" has no parents
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise CheckpointError(f"{path}: expected {needed / 1e9:.1f} GB of free space, found {free / 1e9:.1f} GB")
