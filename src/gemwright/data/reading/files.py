"""Files of any kind of place: found by folder, pattern or address (fsspec), decompressed while reading."""

from collections.abc import Sequence
from typing import Any

from gemwright.data.compressed import COMPRESSED, Stream, decompressed
from gemwright.data.reading.datasets import only_data

TEXTS = (".txt", ".md", ".rst", ".py")
ROWS = (".jsonl", ".ndjson")
TABLES = (".parquet", ".arrow")
PAGES = (".html", ".htm")
ARCHIVES = (".warc", ".wet", ".warc.txt")
KNOWN = (*ARCHIVES, *TEXTS, *ROWS, *TABLES, *PAGES)  # .warc.txt before .txt


def find_files(inputs: Sequence[str]) -> list[str]:
    """Files with a known ending, in the order of the inputs and, in a folder or pattern, of their names.

    An input is a file, a folder, a pattern with `*`, or an address such as `s3://...`, `gs://...`, `hf://datasets/...`.

    Raises:
      FileNotFoundError: if an input has no readable file.
      ValueError: if there is no input, an address of a kind that is not known here, or a name that is not UTF-8.
    """
    if not inputs:
        raise ValueError("no inputs: name files, folders or addresses in the recipe or with --input")
    found: list[str] = []
    for name in inputs:
        paths = _below(name)
        if not paths:
            endings = ", ".join(KNOWN)
            raise FileNotFoundError(f"{name}: no file to read (endings {endings}, also compressed {COMPRESSED})")
        found += map(_checked_name, paths)
    return list(dict.fromkeys(found))


def _checked_name(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path!a}: the name is not UTF-8, so that no record can tell it; rename the file") from None
    return path


def _below(name: str) -> list[str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError) as error:  # the package for such addresses is missing, or there is none
        raise ValueError(f"{name}: {error}") from None
    if "*" in name:
        paths = [p for p in map(str, system.glob(path)) if kind_of(p) and system.isfile(p)]
    elif system.isdir(path):
        paths = [p for p in only_data(system, map(str, system.find(path))) if kind_of(p)]
    else:
        paths = [path] if system.exists(path) else []
    return [p if "://" not in name else str(system.unstrip_protocol(p)) for p in sorted(paths)]


def kind_of(path: str) -> str:
    """The ending that says how a file is read, compression left off, or an empty text."""
    return next((end for end in KNOWN if plain_name(path).endswith(end)), "")


def plain_name(path: str) -> str:
    """A path in small letters without the ending of its compression."""
    lower = path.lower()
    return next((lower[: -len(end)] for end in COMPRESSED if lower.endswith(end)), lower)


def open_raw(path: str) -> Any:
    """A file's bytes as they are stored; can be searched."""
    import fsspec

    system, name = fsspec.core.url_to_fs(path)
    return system.open(name, "rb")


def open_file(path: str) -> Stream:
    """A file's bytes, decompressed by its ending.

    Compressed data that ends early or is damaged gives what can be had of it, and then `fault`.

    Raises:
      OSError: if the place cannot be reached; nothing is known of the file then.
    """
    return decompressed(open_raw(path), path)
