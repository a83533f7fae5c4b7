"""One file to its documents, by its ending."""

from collections.abc import Callable

from gemwright.data.reading.archives import read_archive
from gemwright.data.reading.datasets import name_of
from gemwright.data.reading.files import ARCHIVES, PAGES, ROWS, TABLES, kind_of, plain_name
from gemwright.data.reading.pages import read_page
from gemwright.data.reading.rows import Origin, Read, read_json_rows, read_text_file
from gemwright.data.reading.tables import read_arrow, read_table


def read_documents(origin: Origin) -> Read:
    """Documents and what was set aside, in the file's order; ids given here are the same on every reading.

    Raises:
      OSError: if the file cannot be reached.
    """
    return _reader(kind_of(origin.file))(origin)


def origin_of(file: str, longest: int = 32 << 20, text_field: str = "text", one_in: int = 50) -> Origin:
    """Where a file's documents come from: the source is named after the file, ids after its folder too.

    Files of a data set have its name.
    """
    if named := name_of(file):
        return Origin(file, *named, text_field, longest, one_in)
    parts = plain_name(file).rsplit("/", 2)
    source = parts[-1].removesuffix(kind_of(file)) or parts[-1]
    return Origin(file, "/".join(parts[-2:]).lstrip("/"), source, text_field, longest, one_in)


def _reader(kind: str) -> Callable[[Origin], Read]:
    if kind in ROWS:
        return read_json_rows
    if kind in TABLES:
        return read_arrow if kind == ".arrow" else read_table
    if kind in PAGES:
        return read_page
    if kind in ARCHIVES:
        return read_archive
    return read_text_file
