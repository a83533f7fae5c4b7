"""How much of each benchmark was found: the table of a contamination report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gemwright.data.leaks.items import Benchmark


@dataclass(frozen=True)
class Contamination:
    """One benchmark's row.

    Attributes:
      items: rows of the benchmark.
      too_short: of them, those without a text long enough to look for.
      found: of them, those of which a passage was found in some document.
      times: finds in all, an item in a document each.
    """

    items: int
    too_short: int
    found: int
    times: int


def count_name(benchmark: str, item: str) -> str:
    """What a find is counted under."""
    return f"leak of {benchmark} item {item}"


def contamination(benchmarks: Sequence[Benchmark], counts: Mapping[str, int]) -> dict[str, Contamination]:
    """A row for each benchmark, those without a find too."""
    rows: dict[str, Contamination] = {}
    for benchmark in benchmarks:
        finds = [n for name, n in counts.items() if name.startswith(count_name(benchmark.name, ""))]
        rows[benchmark.name] = Contamination(benchmark.items, benchmark.too_short, len(finds), sum(finds))
    return rows
