"""The lines of a stream, one at a time, however long one is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Line:
    """One line. A line longer than allowed has only its first bytes as `data`; `size` is its whole length.

    `ended` says whether a line feed, which is not part of it, stood at its end.
    """

    number: int
    data: bytes
    size: int
    ended: bool


def read_lines(stream: BinaryIO, longest: int) -> Iterator[Line]:
    """Lines, numbered from 1; of one longer than `longest` bytes only so many are held in memory."""
    number = 0
    while head := stream.readline(longest + 1):
        number += 1
        size, ended = len(head), head.endswith(b"\n")
        while not ended and (rest := stream.readline(longest)):
            size, ended = size + len(rest), rest.endswith(b"\n")
        yield Line(number, head.removesuffix(b"\n"), size - ended, ended)
