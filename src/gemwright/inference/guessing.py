"""How many tokens to guess in a pass: as many as pay, by what passes cost and how often guesses come true."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

_RECENT = 9  # passes of a length that its cost is judged by
_UNTRIED = 64  # passes of other lengths after which one's cost is forgotten: it may have been a bad moment
_A_TOKEN_MORE = 0.1  # of a pass: what one costs, before longer passes have been measured
_FORGET = 0.8  # of what is known of a request's guesses, kept at each pass


@dataclass
class Passes:
    """Seconds that passes take, by the number of tokens that they are compiled for.

    Attributes:
      lengths: these numbers, ascending.
    """

    lengths: tuple[int, ...]
    clock: Callable[[], float] = time.perf_counter
    _recent: dict[int, deque[float]] = field(default_factory=dict[int, deque[float]])
    _untried: dict[int, int] = field(default_factory=dict[int, int])

    def length_for(self, tokens: int) -> int:
        """The shortest that serves this many tokens."""
        return next(length for length in self.lengths if length >= tokens)

    def record(self, length: int, seconds: float, compiled: bool = False) -> None:
        """Note what a pass took. The first of a length compiles, and does not count unless it is known not to."""
        compiled = compiled or length in self._recent
        times = self._recent.setdefault(length, deque(maxlen=_RECENT))
        if compiled:
            times.append(seconds)
        for other in self._recent:
            self._untried[other] = 0 if other == length else self._untried.get(other, 0) + 1
            if self._untried[other] == _UNTRIED:
                self._recent[other].clear()

    def seconds(self, length: int) -> float | None:
        """What a pass takes, guessed from shorter ones until it has been measured; None if none has."""
        known = [(size, times) for size, times in self._recent.items() if size <= length and times]
        if not known:
            return None
        size, times = max(known)
        return median(times) * (1 + _A_TOKEN_MORE * (length - size))


@dataclass
class Odds:
    """How often the guesses for one text come true.

    Where they do not pay, guessing rests, and is tried again after ever more tokens.

    Attributes:
      pause: tokens without guesses after which they are tried again; twice as many each time that follows.
    """

    pause: int = 32
    longest_pause: int = 512
    _right: float = 1.5
    _made: float = 2.0
    _resting: int = 0

    @property
    def share(self) -> float:
        """The probability that a guess is right after right ones."""
        return self._right / self._made

    @property
    def rest(self) -> int:
        """Tokens without guesses until they are tried again, while they do not pay."""
        return self.pause - self._resting

    def note(self, made: int, right: int) -> None:
        """Note a pass with so many guesses, of which the first ones were right."""
        if made:
            self._right = _FORGET * self._right + right
            self._made = _FORGET * self._made + right + (right < made)
        else:
            self.note_unguessed(1)

    def note_unguessed(self, tokens: int) -> None:
        """Note tokens that were chosen without guesses."""
        self._resting += tokens
        if self._resting >= self.pause:
            self._resting, self.pause = 0, min(2 * self.pause, self.longest_pause)
            self._right, self._made = 0.75, 1.0  # hopeful, and soon convinced


def plan(passes: Passes, shares: Sequence[float], most: Sequence[int]) -> list[int]:
    """How many guesses each text gets, so that a second gives most tokens.

    A pass gives every text a token, and another for each guess that is right as all before it are.

    Args:
      shares: how often a guess is right, for each text.
      most: guesses that each may have.
    """
    base = passes.seconds(passes.length_for(len(shares)))
    none = [0] * len(shares)
    if base is None:
        return none
    hopes = [(share**n, text) for text, share in enumerate(shares) for n in range(1, most[text] + 1)]
    hopes.sort(key=lambda hope: -hope[0])
    best, plans = len(shares) / base, none
    for length in passes.lengths:
        seconds, room = passes.seconds(length), length - len(shares)
        if room <= 0 or seconds is None or not hopes:
            continue
        expected = len(shares) + sum(hope for hope, _ in hopes[:room])
        if expected / seconds > best:
            best, plans = expected / seconds, none.copy()
            for _, text in hopes[:room]:
                plans[text] += 1
    return plans
