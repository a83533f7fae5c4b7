"""Parquet tables to documents, a row group at a time."""

from collections.abc import Iterator
from typing import Any

from gemwright.data.reading.files import open_raw
from gemwright.data.reading.quarantined import Quarantined
from gemwright.data.reading.rows import Origin, Read, checked_text

_ROWS = 512  # held at a time


def read_table(origin: Origin) -> Read:
    """Documents of a Parquet file; a row group that is damaged is set aside with all its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_raw(origin.file) as stream:
        try:
            table = pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as error:
            yield Quarantined(origin.file, "whole file", "damaged", str(error))
            return
        first = 0
        for group in range(table.num_row_groups):
            size = table.metadata.row_group(group).num_rows
            yield from _group(table, group, first, size, origin)
            first += size


def _group(table: Any, group: int, first: int, size: int, origin: Origin) -> Read:
    import pyarrow as pa

    done = 0
    try:
        for row in _rows(table, group):
            done += 1
            yield _document(row, first + done, origin)
    except (pa.ArrowException, OSError) as error:
        place = f"row group {group}, from row {first + done + 1}"
        yield Quarantined(origin.file, place, "damaged", str(error), records=size - done)


def _rows(table: Any, group: int) -> Iterator[dict[str, Any]]:
    for batch in table.iter_batches(batch_size=_ROWS, row_groups=[group]):
        yield from batch.to_pylist()


def _document(row: dict[str, Any], number: int, origin: Origin) -> Any:
    try:
        return origin.document(number, checked_text(_plain(row), origin.text_field), _plain(row))
    except ValueError as error:
        return Quarantined(origin.file, f"row {number}", "not a row with a text", str(error), repr(row).encode()[:4096])


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Values that JSON has no form for (times, bytes) as their text."""
    plain = (str, int, float, bool, list, dict, type(None))
    return {key: value if isinstance(value, plain) else str(value) for key, value in row.items()}
