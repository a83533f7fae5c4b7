"""HTML pages to documents: the main text, without menus, by resiliparse."""

from typing import Any

from gemwright.data.reading.quarantined import Quarantined
from gemwright.data.reading.rows import Origin, Read, read_whole


def read_page(origin: Origin) -> Read:
    """One HTML file as one document."""
    data, broken = read_whole(origin)
    if broken:
        yield broken
        return
    try:
        yield origin.document("1", main_text(data), {"id": origin.name})
    except ValueError as error:
        yield Quarantined(origin.file, "whole file", "no page", str(error), data)


def main_text(data: bytes, charset: str | None = None) -> str:
    """The main text of an HTML page, decoded as it says or as its bytes suggest.

    Raises:
      ValueError: if it is not text at all.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    if b"\0" in data[:1024] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("binary data, not HTML")
    try:
        decoded = bytes_to_str(data, _known(charset) or detect_encoding(data) or "utf-8")
        text: Any = extract_plain_text(decoded, preserve_formatting=True, main_content=True, alt_texts=False)
    except Exception as error:  # the parser's own errors
        raise ValueError(f"cannot be parsed: {error}") from None
    return str(text).encode("utf-8", "replace").decode()


def _known(charset: str | None) -> str | None:
    import codecs

    try:
        return codecs.lookup(charset).name if charset else None
    except LookupError:
        return None
