"""A row of the engine's batch and whom it serves."""

from dataclasses import dataclass, field
from itertools import takewhile

from gemwright.inference.guessing import Odds
from gemwright.inference.request import Request
from gemwright.inference.speculative import MOST_GUESSES, PromptLookup, Proposer


@dataclass
class Slot:
    """One row.

    Attributes:
      wanted: the prompt with its pictures' marks, and the tokens chosen so far; the row holds all but the last one
        before a token is chosen.
      taken: number of the admission that took it last; the least is the longest unused.
      searched: whether other rows were searched for the beginning of the prompt.
      draft: guesses where the text itself has none; None has none.
    """

    row: int
    request: Request | None = None
    wanted: list[int] = field(default_factory=list[int])
    taken: int = 0
    searched: bool = False
    draft: Proposer | None = None
    lookup: PromptLookup = field(default_factory=PromptLookup)
    odds: Odds = field(default_factory=Odds)

    def begin(self, request: Request, taken: int) -> None:
        self.request, self.wanted, self.taken, self.searched = request, list(request.prompt), taken, False
        self.lookup, self.odds = PromptLookup(), Odds()

    def left(self, held: int) -> list[int]:
        """What a row that holds so many tokens is to read before a token is chosen.

        All but the last, which is read together with that choice; a prompt that is read whole to its end.
        """
        assert self.request is not None
        return self.wanted[held : self.request.whole if held < self.request.whole else -1]

    @property
    def count(self) -> int:
        """Tokens of the answer so far."""
        return len(self.wanted) - len(self.request.prompt) if self.request else 0

    def room(self, limit: int) -> int:
        """Guesses that the row of `limit` tokens and the request leave room for."""
        assert self.request is not None
        return max(0, min(MOST_GUESSES, self.request.max_new_tokens - self.count - 1, limit - len(self.wanted)))

    def looked_up(self, limit: int) -> list[int]:
        """How the text may go on, going by itself; no stop token and no picture."""
        return self._proposed(self.lookup, self.room(limit))

    def drafted(self, most: int) -> list[int]:
        """How it may go on, going by the draft; no stop token."""
        return self._proposed(self.draft, most) if self.draft else []

    def _proposed(self, proposer: Proposer, most: int) -> list[int]:
        assert self.request is not None
        request = self.request
        found = proposer.propose(self.wanted, most, self.count, request.sampling) if most > 0 else []
        return list(takewhile(lambda token: token >= 0 and token not in request.stop_ids, found))
