"""What two tokenizers cost, language by language."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gemwright.text.tokenizer import Tokenizer

_SUFFIXES = frozenset({".txt", ".tsv", ".md", ".rst", ".py"})
_NOT_TEXT = frozenset({"LICENSE", "LICENCE", "COPYING", "README"})  # lie beside a data set, in no language of it


@dataclass(frozen=True)
class Comparison:
    """One language, or all of them together.

    Attributes:
      language: the name of its file, without the ending.
      bytes: size of its text in UTF-8.
      characters: Unicode code points.
      tokens_a, tokens_b: how many ids each tokenizer makes of it.
    """

    language: str
    bytes: int
    characters: int
    tokens_a: int
    tokens_b: int

    @property
    def bytes_per_token_a(self) -> float:
        """UTF-8 bytes; more is cheaper."""
        return self.bytes / self.tokens_a

    @property
    def bytes_per_token_b(self) -> float:
        """UTF-8 bytes; more is cheaper."""
        return self.bytes / self.tokens_b

    @property
    def relative_cost(self) -> float:
        """Tokens of B for one of A: above 1, B is the dearer."""
        return self.tokens_b / self.tokens_a

    def to_json(self) -> dict[str, Any]:
        """All counts and ratios, for `json.dump`."""
        ratios = ("bytes_per_token_a", "bytes_per_token_b", "relative_cost")
        return asdict(self) | {name: getattr(self, name) for name in ratios}


def compare_tokenizers(a: Tokenizer, b: Tokenizer, paths: Sequence[Path]) -> list[Comparison]:
    """Count the tokens of each file, one language a file.

    Args:
      a: the reference.
      b: the tokenizer compared with it.
      paths: UTF-8 text files, or folders of them. Of a `.tsv` file the last column is the text.

    Raises:
      FileNotFoundError: if a path does not exist, or a folder has no text file.
      ValueError: if a file is empty or not UTF-8.
    """
    return [_compare_file(a, b, path) for path in _text_files(paths)]


def total(rows: Iterable[Comparison]) -> Comparison:
    """The sums of all rows, under the name `all`."""
    rows = list(rows)
    counts = ("bytes", "characters", "tokens_a", "tokens_b")
    return Comparison("all", *(sum(getattr(row, name) for row in rows) for name in counts))


def plot_comparison(rows: Sequence[Comparison], names: tuple[str, str], path: Path) -> None:
    """Draw bytes per token by language, both tokenizers side by side, into an image file.

    Args:
      rows: one language each.
      names: how the legend calls A and B.
      path: where to write; the ending says the format, `.png` for one.

    Raises:
      ValueError: if matplotlib is not installed, or the ending names no image format.
    """
    try:
        from matplotlib.figure import Figure  # an extra: only plots need it
    except ImportError:
        raise ValueError("a plot needs matplotlib: install gemwright with the extra 'plot'") from None
    figure: Any = Figure(figsize=(7, 1.2 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    positions = range(len(rows))
    axes.barh([p - 0.2 for p in positions], [row.bytes_per_token_a for row in rows], 0.38, label=names[0])
    axes.barh([p + 0.2 for p in positions], [row.bytes_per_token_b for row in rows], 0.38, label=names[1])
    axes.set_yticks(list(positions), [row.language for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("bytes per token (more is cheaper)")
    axes.legend()
    figure.savefig(path, dpi=150)


def _compare_file(a: Tokenizer, b: Tokenizer, path: Path) -> Comparison:
    text = _read(path)
    return Comparison(path.stem, len(text.encode()), len(text), len(a.encode(text)), len(b.encode(text)))


def _text_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder; expected text to compare on")
        files = [path] if path.is_file() else _files_below(path)
        if not files:
            raise FileNotFoundError(f"{path}: no text file in this folder; expected {', '.join(sorted(_SUFFIXES))}")
        yield from files


def _files_below(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    return [path for path in paths if path.stem.upper() not in _NOT_TEXT]


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected UTF-8 text, found byte {error.object[error.start]:#04x} at {error.start}"
        ) from None
    if path.suffix == ".tsv":
        text = "".join(line.rpartition("\t")[2] for line in text.splitlines(keepends=True))
    if not text:
        raise ValueError(f"{path}: expected text, found an empty file")
    return text
