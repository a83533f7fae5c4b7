"""The texts of benchmarks, cut into passages that are looked for."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gemwright.data.plain import Array, word_hashes
from gemwright.data.reading.files import open_file, plain_name

_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
_NO_DATA = ("LICENSE", "LICENCE", "README", "NOTICE")
_LONGEST = 48  # words of a passage: part of a long item may leak alone


@dataclass(frozen=True)
class Passage:
    """Some words in a row of a benchmark's item.

    Attributes:
      benchmark: name of the folder or file it is from.
      item: number of the row in that file.
      words: (words,) hashes.
    """

    benchmark: str
    item: str
    words: Array


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's passages, and how many items have none long enough to be told from chance."""

    name: str
    items: int
    passages: tuple[Passage, ...]
    too_short: int


def read_benchmarks(against: Sequence[str], min_words: int) -> list[Benchmark]:
    """The benchmarks in files and folders.

    A file given is a benchmark of its name. A folder given is one of the folder's name, but for the folders in it,
    which are one each: a folder of benchmarks and a single one can both be given.

    Raises:
      FileNotFoundError: if there is nothing to read, which must not pass for a clean corpus.
      ValueError: if a file cannot be understood, or a benchmark has no item.
    """
    found: dict[str, list[Benchmark]] = {}
    for given in against:
        for path, name in _files(given):
            found.setdefault(name, []).append(read_benchmark(path, name, min_words))
    if not found:
        raise FileNotFoundError(f"{', '.join(against)}: no benchmark to read (endings {', '.join(_ENDINGS)})")
    whole = [_together(name, parts) for name, parts in sorted(found.items())]
    empty = [benchmark.name for benchmark in whole if not benchmark.items]
    if empty:
        raise ValueError(f"{', '.join(empty)}: expected the items of a benchmark, found none; get its files again")
    return whole


def _files(given: str) -> Iterator[tuple[str, str]]:
    import fsspec

    system, root = fsspec.core.url_to_fs(given)
    for path in [root] if not system.isdir(root) else sorted(map(str, system.find(root))):
        inside = path.removeprefix(root).strip("/")
        below = inside.partition("/")[0] if "/" in inside else ""
        name = below or root.rstrip("/").rpartition("/")[2].partition(".")[0]
        if plain_name(path).endswith(_ENDINGS) and not path.rpartition("/")[2].upper().startswith(_NO_DATA):
            yield path if "://" not in given else str(system.unstrip_protocol(path)), name


def _together(name: str, parts: Sequence[Benchmark]) -> Benchmark:
    passages = tuple(passage for part in parts for passage in part.passages)
    return Benchmark(name, sum(part.items for part in parts), passages, sum(part.too_short for part in parts))


def read_benchmark(path: str, name: str, min_words: int) -> Benchmark:
    """Every text of at least `min_words` words in a file of JSON lines, JSON, CSV, TSV or plain lines."""
    passages: list[Passage] = []
    items = short = 0
    for number, texts in enumerate(_items(path), 1):
        items += 1
        item = f"{path.rpartition('/')[2]}:{number}"
        found = [p for text in texts for p in _passages(name, item, word_hashes(text), min_words)]
        short += not found
        passages += found
    return Benchmark(name, items, tuple(passages), short)


def _passages(name: str, item: str, words: Array, min_words: int) -> Iterator[Passage]:
    count = -(-len(words) // _LONGEST)
    for part in range(count):
        piece = words[part * len(words) // count : (part + 1) * len(words) // count]
        if len(piece) >= min_words:
            yield Passage(name, item, piece)


def _items(path: str) -> Iterator[Sequence[str]]:
    with open_file(path) as stream:
        text = stream.read().decode("utf-8-sig", "replace")
        if stream.fault:
            raise ValueError(f"{path}: {stream.fault}; a benchmark must be whole")
    try:
        yield from _parsed(text, plain_name(path).rpartition(".")[2])
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except (csv.Error, RecursionError) as error:
        raise ValueError(f"{path}: expected rows of a benchmark, found what no reader takes: {error}") from None


def _parsed(text: str, ending: str) -> Iterator[Sequence[str]]:
    if ending in ("jsonl", "ndjson"):
        yield from (_texts(json.loads(line)) for line in text.split("\n") if line.strip())
    elif ending == "json":
        yield from map(_texts, _rows(json.loads(text)))
    elif ending in ("csv", "tsv"):
        rows = csv.reader(io.StringIO(text), delimiter="," if ending == "csv" else "\t")
        yield from (row for row in rows)
    else:
        yield from ([line] for line in text.split("\n") if line.strip())


def _rows(value: Any) -> Iterator[Any]:
    """The members of a file's list, or of the longest list in its object."""
    if isinstance(value, dict):
        lists = [member for member in value.values() if isinstance(member, list)]
        value = max(lists, key=len, default=list(value.values()))
    yield from value if isinstance(value, list) else [value]


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for member in members for text in _texts(member)]
