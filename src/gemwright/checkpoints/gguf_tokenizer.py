"""The tokenizer in a GGUF file: pieces, scores and types there, a SentencePiece model here.

llama.cpp computes SentencePiece's byte-pair merges ("llama" in the file) and writes spaces as they
are in the pieces that text matches whole, where SentencePiece writes U+2581.
"""

import importlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.gguf_header import Strings
from gemwright.checkpoints.gguf_reader import GgufFile
from gemwright.checkpoints.tokenizer_files import CHAT_TEMPLATE
from gemwright.text import control
from gemwright.text.tokenizer import Tokenizer

_MODEL, _LIST = "tokenizer.ggml.model", "tokenizer.ggml.tokens"
_SCORES, _TYPES = "tokenizer.ggml.scores", "tokenizer.ggml.token_type"
_SPACE_PREFIX = "tokenizer.ggml.add_space_prefix"

_IDS = {
    "bos": ("tokenizer.ggml.bos_token_id", control.BOS_PIECE),
    "eos": ("tokenizer.ggml.eos_token_id", control.EOS_PIECE),
    "unk": ("tokenizer.ggml.unknown_token_id", control.UNK_PIECE),
    "pad": ("tokenizer.ggml.padding_token_id", control.PAD_PIECE),
}
"""By SentencePiece's prefix: the key of an id, and Gemma's piece at it."""

_OTHER_IDS = {
    "tokenizer.ggml.eot_token_id": control.END_OF_TURN,
    "tokenizer.ggml.fim_pre_token_id": control.FIM_PREFIX,
    "tokenizer.ggml.fim_suf_token_id": control.FIM_SUFFIX,
    "tokenizer.ggml.fim_mid_token_id": control.FIM_MIDDLE,
    "tokenizer.ggml.fim_sep_token_id": control.FILE_SEPARATOR,
}
"""Keys of ids that not every vocabulary has."""

_PADDING = re.compile(r"\[PAD\d+\]")  # names of rows after the last piece
_PADDING_SCORE = -10_000.0


class _Type(IntEnum):
    """SentencePiece's numbers, which are llama.cpp's too."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_Piece = tuple[str, float, int]
"""Name, score, type."""


def _proto() -> Any:
    """An empty SentencePiece model.

    Raises:
      CheckpointError: if protobuf is not installed.
    """
    try:
        return importlib.import_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
    except ImportError:
        raise CheckpointError("a GGUF's tokenizer needs protobuf: pip install 'gemwright[gguf]'") from None


# ------------------------------------------------------------------------------------------ read


def read_tokenizer(file: GgufFile) -> Tokenizer | None:
    """The tokenizer of a file, without the names of padding rows; None if it has none.

    Raises:
      CheckpointError: if it is of another kind or damaged.
    """
    kind = file.metadata.get(_MODEL, "none")
    if isinstance(kind, str) and kind == "none":
        return None
    if not isinstance(kind, str) or kind != "llama":
        raise CheckpointError(f"{file.path}: {_MODEL}: expected llama, which is SentencePiece, found {kind!r}")
    try:
        return Tokenizer.from_bytes(_model(file.metadata))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{file.path}: {_LIST}: {error}; fetch the file again") from None


def _model(metadata: Mapping[str, Any]) -> bytes:
    """A `tokenizer.model` with these pieces."""
    proto, pieces = _proto(), list(_stored_pieces(metadata))
    for name, score, kind in pieces:
        proto.pieces.add(piece=name, score=score, type=kind)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.vocab_size = trainer.BPE, len(pieces)
    trainer.byte_fallback = any(kind == _Type.BYTE for _, _, kind in pieces)
    for prefix, (key, _) in _IDS.items():
        i = metadata.get(key)
        setattr(trainer, f"{prefix}_id", -1 if i is None else i)
        if i is not None and 0 <= i < len(pieces):
            setattr(trainer, f"{prefix}_piece", pieces[i][0])
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = metadata.get(_SPACE_PREFIX, True)  # absent means true to llama.cpp
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    return proto.SerializeToString()


def _stored_pieces(metadata: Mapping[str, Any]) -> Iterator[_Piece]:
    columns = [_column(metadata, key) for key in (_LIST, _SCORES, _TYPES)]
    counts = [len(column) for column in columns]
    if len(set(counts)) > 1:
        found = ", ".join(f"{count:,}" for count in counts)
        raise ValueError(f"expected as many names as scores ({_SCORES}) and types ({_TYPES}), found {found}")
    names, scores, kinds = columns
    for name, score, kind in itertools.islice(zip(names, scores, kinds, strict=True), _unpadded(names, kinds)):
        spelled = name.replace(" ", control.WORD_BOUNDARY) if kind == _Type.USER_DEFINED else name
        yield spelled, score, kind


def _column(metadata: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = metadata.get(key, np.empty(0))
    if not isinstance(value, Strings | np.ndarray):
        raise ValueError(f"{key}: expected a list, found {value!r}")
    return value if isinstance(value, Strings) else value.tolist()  # NumPy's own numbers are slow one by one


def _unpadded(names: Sequence[str], kinds: Sequence[int]) -> int:
    count = len(names)
    while count and kinds[count - 1] == _Type.UNUSED and _PADDING.fullmatch(names[count - 1]):
        count -= 1
    return count


# ----------------------------------------------------------------------------------------- write


def tokenizer_metadata(tokenizer: Tokenizer | None, rows: int) -> dict[str, Any]:
    """The keys of a tokenizer.

    Args:
      rows: of the embedding; those after the last piece get names, since llama.cpp counts the names.

    Raises:
      CheckpointError: if llama.cpp would cut text otherwise.
    """
    if tokenizer is None:
        return {_MODEL: "none"}
    proto = _parsed(tokenizer)
    padding = [(f"[PAD{i}]", _PADDING_SCORE, int(_Type.UNUSED)) for i in range(tokenizer.vocab_size, rows)]
    names, scores, kinds = zip(*map(_named, proto.pieces), *padding, strict=True)
    ids = dict(_IDS.values()) | _OTHER_IDS
    return {
        _MODEL: "llama",
        "tokenizer.ggml.pre": "default",
        _LIST: list(names),
        _SCORES: list(scores),
        _TYPES: list(kinds),
        **{key: tokenizer.id(piece) for key, piece in ids.items() if tokenizer.has(piece)},
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        _SPACE_PREFIX: proto.normalizer_spec.add_dummy_prefix,
        **({"tokenizer.chat_template": CHAT_TEMPLATE} if tokenizer.has(control.START_OF_TURN) else {}),
    }


def _named(piece: Any) -> _Piece:
    """As llama.cpp has it."""
    if piece.type in (_Type.NORMAL, _Type.USER_DEFINED) and control.is_control_name(piece.piece):
        return piece.piece, piece.score, int(_Type.CONTROL)  # or else it would find them in text
    if piece.type == _Type.USER_DEFINED:
        return piece.piece.replace(control.WORD_BOUNDARY, " "), piece.score, piece.type
    return piece.piece, piece.score, piece.type


def _parsed(tokenizer: Tokenizer) -> Any:
    if tokenizer.file_name != "tokenizer.model":
        raise CheckpointError(
            f"{tokenizer.file_name}: expected a SentencePiece tokenizer.model, the only kind that a GGUF of Gemma "
            "can hold; put the model's own beside it"
        )
    proto = _proto()
    proto.ParseFromString(tokenizer.to_bytes())
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    different = {
        "model_type": trainer.model_type != trainer.BPE,
        "treat_whitespace_as_suffix": trainer.treat_whitespace_as_suffix,
        "remove_extra_whitespaces": normalizer.remove_extra_whitespaces,
        "escape_whitespaces": not normalizer.escape_whitespaces,
        "precompiled_charsmap": bool(normalizer.precompiled_charsmap),
    }
    for name in (name for name, differs in different.items() if differs):
        raise CheckpointError(
            f"{tokenizer.file_name}: {name}: expected Gemma's setting, found another, with which llama.cpp would cut "
            "text otherwise"
        )
    return proto
