"""Cutting text so that a library finds no control piece in it."""

import re
from collections.abc import Iterable, Iterator


class ControlCutter:
    """Knows the names of control pieces and where a text spells one."""

    def __init__(self, names: Iterable[str]) -> None:
        """Empty names are left aside."""
        self._names = frozenset(name for name in names if name)
        self._lengths = sorted({len(name) for name in self._names})
        beginnings = "".join(sorted({re.escape(name[0]) for name in self._names}))
        self._beginning = re.compile(f"[{beginnings}]" if beginnings else r"(?!)")

    def parts(self, text: str) -> Iterator[str]:
        """The parts of a text, cut after the first character of each control piece; joined, they are the text.

        Takes time in proportion to the text, however many pieces it spells: it may be an attack.
        """
        start = 0
        for match in self._beginning.finditer(text):
            cut = match.end()
            if self._begins_at(text, match.start()):
                yield text[start:cut]
                start = cut
        yield text[start:]

    def _begins_at(self, text: str, at: int) -> bool:
        return any(text[at : at + length] in self._names for length in self._lengths)
