"""Text to ids and back, for `tokenizer.model` and `tokenizer.json`.

On text that spells no control piece, `encode` gives the ids of the file's own library. Text that
does spell one (`<start_of_turn>`, `<bos>`, ...) never becomes a control id: only the code that
lays out a prompt puts those in, by id.
"""

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from gemwright.text import control
from gemwright.text.backends import Backend, JsonBackend, SentencePieceBackend
from gemwright.text.cutting import ControlCutter

_FILES = ("tokenizer.model", "tokenizer.json")  # the first found wins: the .model is the original


class Tokenizer:
    """A vocabulary that encodes and decodes. Make one with `load_tokenizer` or `from_bytes`.

    Attributes:
      file_name: the name its file is saved under.
      vocab_size: ids run from 0 to here, exclusive.
      fingerprint: SHA-256 of the file, in hexadecimal.
    """

    def __init__(self, backend: Backend, data: bytes, file_name: str) -> None:
        self._backend = backend
        self._data = data
        self._ids = {piece: i for i, piece in enumerate(backend.pieces) if piece}
        self.file_name = file_name
        self.vocab_size = len(backend.pieces)
        self.fingerprint = hashlib.sha256(data).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Tokenizer":
        """Read the bytes of a SentencePiece `tokenizer.model`, or of a `tokenizer.json`.

        Raises:
          ValueError: if they are neither.
        """
        if data.lstrip().startswith(b"{"):
            return cls(JsonBackend(data), data, "tokenizer.json")
        return cls(SentencePieceBackend(data), data, "tokenizer.model")

    def to_bytes(self) -> bytes:
        """The original file."""
        return self._data

    def save(self, folder: Path) -> Path:
        """Write the original file, byte for byte, into a folder; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file_name
        path.write_bytes(self._data)
        return path

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them a control id, without BOS.

        Raises:
          ValueError: if the text holds a lone surrogate, which UTF-8 cannot write.
        """
        _check_encodable(text)
        ids = self._backend.encode(text)
        if self._backend.control.isdisjoint(ids):
            return ids
        # The control pieces' type or flag in the file decides whether the library finds them in text.
        return [i for part in self._cutter.parts(text) for i in self._encode_part(part)]

    def decode(self, ids: Iterable[int], *, skip_control: bool = True) -> str:
        """The text of ids; bytes that are no UTF-8 become U+FFFD.

        Args:
          ids: each from 0 to `vocab_size`, exclusive.
          skip_control: leave control pieces out; otherwise their names are written.

        Raises:
          ValueError: if an id is outside the vocabulary.
        """
        spelled = (self.spell(i, skip_control=skip_control) for i in ids)
        return b"".join(spelled).decode("utf-8", errors="replace")

    def spell(self, i: int, *, skip_control: bool = True) -> bytes:
        """The bytes of one id: part of a character for a byte piece, none for a control piece skipped."""
        if self.is_control(i):
            return b"" if skip_control else self.piece(i).encode()
        return self._spelled[i]

    def piece(self, i: int) -> str:
        """The name of an id, as the file writes it.

        Raises:
          ValueError: if the id is outside the vocabulary.
        """
        return self._backend.pieces[self._check_id(i)]

    def id(self, piece: str) -> int:
        """The id of a piece.

        Raises:
          ValueError: if the vocabulary has no such piece.
        """
        if piece not in self._ids:
            raise ValueError(f"{piece!r} is not in this vocabulary of {self.vocab_size} pieces; is it Gemma's?")
        return self._ids[piece]

    def has(self, piece: str) -> bool:
        """Whether the vocabulary has a piece of this name."""
        return piece in self._ids

    def is_control(self, i: int) -> bool:
        """Whether an id steers the model and never stands for text (UNK included)."""
        return self._check_id(i) in self._backend.control

    def with_bos(self, ids: list[int]) -> list[int]:
        """Ids with exactly one BOS in front, whoever has or has not put it there.

        Raises:
          ValueError: if they already begin with two, since one of the callers is then wrong.
        """
        if ids[:2] == [self.bos_id] * 2:
            raise ValueError("the ids begin with two BOS: expected one; let only the prompt's formatter add it")
        return ids if ids[:1] == [self.bos_id] else [self.bos_id, *ids]

    @property
    def pad_id(self) -> int:
        """Raises ValueError if the vocabulary has none, as `eos_id` and `bos_id` do."""
        return self.id(control.PAD_PIECE)

    @property
    def eos_id(self) -> int:
        """The end of a document."""
        return self.id(control.EOS_PIECE)

    @property
    def bos_id(self) -> int:
        """The begin of a document."""
        return self.id(control.BOS_PIECE)

    @property
    def start_of_turn_id(self) -> int | None:
        """None if the vocabulary has no turns."""
        return self._ids.get(control.START_OF_TURN)

    @property
    def end_of_turn_id(self) -> int | None:
        """None if the vocabulary has no turns."""
        return self._ids.get(control.END_OF_TURN)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: EOS, and the end of turn where there is one."""
        return frozenset(self._ids[piece] for piece in (control.EOS_PIECE, control.END_OF_TURN) if piece in self._ids)

    @cached_property
    def _spelled(self) -> list[bytes]:
        return [self._backend.spell(piece) for piece in self._backend.pieces]

    @cached_property
    def _byte_ids(self) -> dict[bytes, int]:
        text_ids = (i for i in reversed(range(self.vocab_size)) if i not in self._backend.control)
        return {self._spelled[i]: i for i in text_ids if len(self._spelled[i]) == 1}

    @cached_property
    def _cutter(self) -> ControlCutter:
        return ControlCutter(self._backend.pieces[i] for i in self._backend.control)

    def _check_id(self, i: int) -> int:
        if not 0 <= i < self.vocab_size:
            raise ValueError(f"id {i} is outside the vocabulary: expected 0 to {self.vocab_size - 1}")
        return i

    def _encode_part(self, part: str) -> list[int]:
        ids = self._backend.encode(part)
        if (self._backend.control - self._backend.unknown).isdisjoint(ids):
            return ids
        return self._spell_out(part)  # one character, or characters that a normaliser joins to a control piece

    def _spell_out(self, part: str) -> list[int]:
        spelled = [bytes([byte]) for byte in part.encode()]
        if not all(byte in self._byte_ids for byte in spelled):
            raise ValueError(
                f"{part[:40]!r} reads as a control piece, and this vocabulary has no byte pieces to spell it"
            )
        return [self._byte_ids[byte] for byte in spelled]


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer from its file, or from the folder of a model.

    Args:
      path: a `tokenizer.model` or `tokenizer.json` of any name, or a folder that has one. Of the
        two in one folder, `tokenizer.model` is read.

    Raises:
      FileNotFoundError: if there is no such file; names what was looked for.
      ValueError: if the file is damaged or of another kind.
    """
    file = _find(Path(path))
    try:
        return Tokenizer.from_bytes(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; expected a tokenizer or the folder of a model")
    for name in _FILES:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(f"{path}: expected {' or '.join(_FILES)} in this folder, found neither")


def _check_encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X} at character {error.start}"
        raise ValueError(f"text must be valid Unicode, found the lone surrogate {found}; replace it first") from None
