"""Text from ids one at a time, as they are generated."""

import codecs
from collections.abc import Sequence

from gemwright.text.tokenizer import Tokenizer


class StreamDecoder:
    """Gives text as soon as its characters are whole; all of it together equals `Tokenizer.decode`.

    Takes time in proportion to the answer: each id is spelled once.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_control: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_control = skip_control
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, i: int) -> str:
        """The text that this id completes: empty while a character still lacks bytes.

        Raises:
          ValueError: if the id is outside the vocabulary.
        """
        return self._characters.decode(self._tokenizer.spell(i, skip_control=self._skip_control))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for an unfinished character, else nothing."""
        return self._characters.decode(b"", final=True)


class StopStrings:
    """Passes streamed text on up to the first stop string, which it leaves out.

    Text that may be the beginning of a stop string is held back until that is decided. Of two stop
    strings the one that ends first counts, so the result does not depend on how the text arrives.

    Attributes:
      found: the stop string that was reached, or None.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        """Raises ValueError if a stop string is empty."""
        if any(not string for string in strings):
            raise ValueError("a stop string must not be empty: it would end every answer at once")
        self._strings = tuple(strings)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that can be shown now; nothing more after a stop string."""
        if self.found is not None:
            return ""
        text = self._held + text
        ends = [(start + len(s), start, s) for s in self._strings if (start := text.find(s)) >= 0]
        if ends:
            _, start, self.found = min(ends)
            self._held = ""
            return text[:start]
        shown = len(text) - self._undecided(text)
        self._held = text[shown:]
        return text[:shown]

    def flush(self) -> str:
        """The text held back, once no more comes."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        lengths = (n for string in self._strings for n in range(1, len(string)) if text.endswith(string[:n]))
        return max(lengths, default=0)
