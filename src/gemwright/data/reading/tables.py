"""Parquet and Arrow tables to documents, some rows at a time."""

from collections.abc import Iterator
from typing import Any

from gemwright.data.documents import Document
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


def read_arrow(origin: Origin) -> Read:
    """Documents of an Arrow file, as data sets are saved in; what comes after damage is set aside as one record."""
    import pyarrow as pa

    done = 0
    with open_raw(origin.file) as stream:
        try:
            for batch in _arrow_batches(stream):
                for begin in range(0, batch.num_rows, _ROWS):
                    yield from _documents(batch.slice(begin, _ROWS), done, origin)
                    done += min(_ROWS, batch.num_rows - begin)
        except (pa.ArrowException, OSError) as error:
            yield Quarantined(origin.file, f"after row {done}", "damaged", str(error))


def _arrow_batches(stream: Any) -> Iterator[Any]:
    """The batches of a stream, or of a file with an index at its end."""
    import pyarrow as pa

    indexed = stream.read(6) == b"ARROW1"
    stream.seek(0)
    if not indexed:
        yield from pa.ipc.open_stream(stream)
        return
    with pa.ipc.open_file(stream) as file:
        yield from map(file.get_batch, range(file.num_record_batches))


def _group(table: Any, group: int, first: int, size: int, origin: Origin) -> Read:
    import pyarrow as pa

    done = 0
    try:
        for batch in table.iter_batches(batch_size=_ROWS, row_groups=[group]):
            yield from _documents(batch, first + done, origin)
            done += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        place = f"row group {group}, from row {first + done + 1}"
        yield Quarantined(origin.file, place, "damaged", str(error), records=size - done)


def _documents(batch: Any, before: int, origin: Origin) -> Read:
    """A batch's rows; one with a value that has no form in Python is set aside alone: tables check none of theirs."""
    try:
        for number, row in enumerate(_readable(batch, origin.text_field).to_pylist(), before + 1):
            yield _document(row, number, origin)
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            yield _unreadable(error, before + 1, origin)
            return
        for row in range(batch.num_rows):
            yield from _documents(batch.slice(row, 1), before + row, origin)


def _readable(batch: Any, text_field: str) -> Any:
    """Times as their text, since Python's have neither nanoseconds nor all years; a text kept as bytes as a text."""
    import pyarrow as pa

    kinds = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_time)
    for index, field in enumerate(batch.schema):
        if field.name != text_field and any(kind(field.type) for kind in kinds):
            batch = batch.set_column(index, field.name, batch.column(index).cast(pa.string()))
        elif field.name == text_field and (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)):
            batch = batch.set_column(index, field.name, batch.column(index).cast(pa.large_string(), safe=False))
    return batch


def _unreadable(error: ValueError | OverflowError, number: int, origin: Origin) -> Quarantined:
    place = f"row {number}"
    if isinstance(error, UnicodeDecodeError):
        return Quarantined(origin.file, place, "not UTF-8", f"at byte {error.start}", bytes(error.object)[:4096])
    return Quarantined(origin.file, place, "not a row with a text", str(error))


def _document(row: dict[str, Any], number: int, origin: Origin) -> Document | Quarantined:
    place = f"row {number}"
    try:
        text = checked_text(row, origin.text_field)
    except ValueError as error:
        return Quarantined(origin.file, place, "not a row with a text", str(error), repr(row).encode()[:4096])
    if (size := len(text.encode())) > origin.longest:
        detail = f"{size} bytes, at most {origin.longest} are read"
        return Quarantined(origin.file, place, "too long", detail, text[:1024].encode(), size)
    return origin.document(number, text, _plain(row))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Values that JSON has no form for (durations, bytes) as their text."""
    plain = (str, int, float, bool, list, dict, type(None))
    return {key: value if isinstance(value, plain) else str(value) for key, value in row.items()}
