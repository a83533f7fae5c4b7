"""What takes the place of measured passes in tests: every guess is made."""

from gemwright.inference.speculative import MOST_GUESSES


class Eager:
    """In place of `Passes`: guesses cost nothing, so as many as can be are made."""

    def __init__(self, *lengths: int) -> None:
        self.lengths, self.recorded = lengths or (1, 1 + MOST_GUESSES), list[int]()

    def length_for(self, tokens: int) -> int:
        return next(length for length in self.lengths if length >= tokens)

    def seconds(self, length: int) -> float:
        return 1.0

    def clock(self) -> float:
        return 0.0

    def record(self, length: int, seconds: float, compiled: bool = False) -> None:
        self.recorded.append(length)
