"""Folders of Hugging Face's libraries, read without them: a data set put down by `save_to_disk`, the hub's cache.

Both hold more files than the data set has: leftovers of `map`, blobs, older snapshots. Which ones count is
told by `state.json` there and by `refs/main` here.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

_STATE = "/state.json"
_CACHED = re.compile(r"^(.*/)?datasets--([^/]+)/(?:snapshots/([^/]+)/|blobs/|refs/)")
_SPLITS = ("train", "test", "validation", "valid", "dev")
_SHARD = re.compile(r"^(.*/)?([^/]+)-\d{5}-of-\d{5}\.(?:arrow|parquet)$")


def only_data(system: Any, paths: Iterable[str]) -> list[str]:
    """Of all files below a folder, those that are not leftovers of a data set's own folder.

    Args:
      system: fsspec's file system that holds them.

    Raises:
      FileNotFoundError: if a data set says it has a file that is not there.
      ValueError: if its `state.json` cannot be read.
    """
    found = sorted(paths)
    saved = {path.removesuffix(_STATE): _shards(system, path) for path in found if path.endswith(_STATE)}
    for folder, names in saved.items():
        if missing := [name for name in names if f"{folder}/{name}" not in set(found)]:
            raise FileNotFoundError(f"{folder}: its state.json names {missing[0]}, which is not there; copy it whole")
    heads = {path.removesuffix("refs/main"): _text(system, path) for path in found if path.endswith("/refs/main")}
    return [path for path in found if _counts(path, saved, heads)]


def _counts(path: str, saved: dict[str, list[str]], heads: dict[str, str]) -> bool:
    folder, _, name = path.rpartition("/")
    if folder in saved and name.endswith(".arrow"):
        return name in saved[folder]
    cached = _CACHED.match(path)
    if cached is None:
        return True
    head = heads.get(f"{cached[1] or ''}datasets--{cached[2]}/")
    return cached[3] is not None and head in (None, cached[3])


def _shards(system: Any, path: str) -> list[str]:
    try:
        return [str(row["filename"]) for row in json.loads(_text(system, path))["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected the state of a saved data set, with _data_files: {error!r}") from None


def _text(system: Any, path: str) -> str:
    with system.open(path, "rb") as file:
        return file.read().decode("utf-8").strip()


def name_of(path: str) -> tuple[str, str] | None:
    """What a data set's file is called in ids, and its source: the data set with its split; None for other files."""
    shard = _SHARD.match(path)
    if shard is None:
        return None
    if cached := _CACHED.match(path):
        name = cached[2].replace("--", "/")
        return f"{name}/{path[cached.end() :]}", f"{name}/{shard[2]}"
    folders = (shard[1] or "").rstrip("/").split("/")[-2:]
    return "/".join([*folders, path.rpartition("/")[2]]).lstrip("/"), "/".join(_source(folders, shard[2]))


def _source(folders: list[str], stem: str) -> list[str]:
    """A split stands in the file's name, or is its folder; else the folder is the data set."""
    if stem != "data":
        return [*folders[-1:], stem]
    return folders if folders[-1] in _SPLITS else folders[-1:]
