"""The two libraries that cut text into pieces, behind one small protocol.

`sentencepiece` reads `tokenizer.model`, `tokenizers` reads `tokenizer.json`. Both only cut; what
may become a control id, decoding and streaming are decided in `gemwright.text.tokenizer`.
"""

import json
import re
from typing import Any, Protocol

from gemwright.text import control

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Backend(Protocol):
    """One vocabulary and the library that applies it.

    Attributes:
      pieces: the name of each id; empty where the file leaves an id out.
      control: ids that text must never become; among them those of `unknown`.
      unknown: the id of what the vocabulary cannot write, if it has one.
    """

    pieces: list[str]
    control: frozenset[int]
    unknown: frozenset[int]

    def encode(self, text: str) -> list[int]:
        """The library's own ids of a text, without BOS or any other template."""
        ...

    def spell(self, piece: str) -> bytes:
        """The bytes that a text piece stands for."""
        ...


class SentencePieceBackend:
    """A `tokenizer.model`."""

    def __init__(self, data: bytes) -> None:
        from sentencepiece import SentencePieceProcessor  # the other backend does without it

        self._processor: Any = SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(data)
        except RuntimeError:
            raise ValueError("not a SentencePiece model") from None
        ids = range(self._processor.GetPieceSize())
        self.pieces: list[str] = [self._processor.IdToPiece(i) for i in ids]
        self.control = frozenset(i for i in ids if self._is_control(i))
        self.unknown = frozenset(i for i in ids if self._processor.IsUnknown(i))

    def _is_control(self, i: int) -> bool:
        by_type = self._processor.IsControl(i) or self._processor.IsUnknown(i)
        return by_type or control.is_control_name(self.pieces[i])

    def encode(self, text: str) -> list[int]:
        """As `Backend` says."""
        return self._processor.Encode(text)

    def spell(self, piece: str) -> bytes:
        """As `Backend` says."""
        return _spell_sentencepiece(piece)


class JsonBackend:
    """A `tokenizer.json`, either in SentencePiece's style (as Gemma's) or byte-level (as GPT-2's)."""

    def __init__(self, data: bytes) -> None:
        import tokenizers  # the other backend does without it

        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"not a tokenizer.json: {error}") from None
        self._tokenizer.no_truncation()  # a file may carry a training length, which would cut texts
        self._tokenizer.no_padding()
        self._alphabet = _byte_level_alphabet() if _is_byte_level(data) else None
        self.pieces = _by_id(self._tokenizer.get_vocab(with_added_tokens=True))
        named = frozenset(i for i, piece in enumerate(self.pieces) if control.is_control_name(piece))
        unknown = getattr(self._tokenizer.model, "unk_token", None)  # WordLevel and BPE have one, Unigram an id
        self.unknown = frozenset(i for i, piece in enumerate(self.pieces) if piece == unknown)
        self.control = named | self.unknown | frozenset(self._special_ids())

    def _special_ids(self) -> list[int]:
        return [i for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.special]

    def encode(self, text: str) -> list[int]:
        """As `Backend` says."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def spell(self, piece: str) -> bytes:
        """As `Backend` says."""
        if self._alphabet is None:
            return _spell_sentencepiece(piece)
        if all(character in self._alphabet for character in piece):
            return bytes(self._alphabet[character] for character in piece)
        return piece.encode()  # an added token is stored as it reads


def _spell_sentencepiece(piece: str) -> bytes:
    match = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else piece.replace(control.WORD_BOUNDARY, " ").encode()


def _by_id(vocabulary: dict[str, int]) -> list[str]:
    pieces = [""] * (max(vocabulary.values(), default=-1) + 1)
    for piece, i in vocabulary.items():
        pieces[i] = piece
    return pieces


def _is_byte_level(data: bytes) -> bool:
    """Whether pieces are written in GPT-2's byte alphabet.

    Raises:
      ValueError: if the decoder is neither byte-level nor SentencePiece's, so that ids could not
        be turned back into their text.
    """
    decoder: dict[str, Any] = json.loads(data).get("decoder") or {}
    kinds: set[str] = {step["type"] for step in (decoder, *decoder.get("decoders", ())) if "type" in step}
    if "ByteLevel" in kinds:
        return True
    if kinds & {"ByteFallback", "Metaspace", "Replace"}:
        return False
    found = ", ".join(sorted(kinds)) or "none"
    raise ValueError(f"the decoder must be SentencePiece's or ByteLevel, found {found}")


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's writing of bytes: printable ones of Latin-1 stand for themselves, the others follow U+00FF in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
