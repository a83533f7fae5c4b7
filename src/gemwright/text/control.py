"""The pieces of Gemma's vocabulary that carry structure, at the ids where Gemma 1 and 2 keep them.

Source: the introduction to Gemma's tokenizer among the project's seeds, and the ids that
google-deepmind/gemma states in `gemma/gm/text/_tokenizer.py`.
"""

import re

PAD, EOS, BOS, UNK = 0, 1, 2, 3
PAD_PIECE, EOS_PIECE, BOS_PIECE, UNK_PIECE = "<pad>", "<eos>", "<bos>", "<unk>"

START_OF_TURN = "<start_of_turn>"
END_OF_TURN = "<end_of_turn>"

START_OF_IMAGE = "<start_of_image>"
END_OF_IMAGE = "<end_of_image>"

FIM_PREFIX = "<|fim_prefix|>"
FIM_MIDDLE = "<|fim_middle|>"
FIM_SUFFIX = "<|fim_suffix|>"
FILE_SEPARATOR = "<|file_separator|>"
FIM_PIECES: tuple[str, ...] = (FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX, FILE_SEPARATOR)

FIRST_FIM_SLOT = 60  # CodeGemma renames <unused60> to <unused63>: ids 67 to 70

UNUSED_SLOT = "<unused{}>"

WORD_BOUNDARY = "\u2581"  # SentencePiece writes a space so


def _unused_slots() -> list[str]:
    slots = [UNUSED_SLOT.format(i) for i in range(99)]
    slots[FIRST_FIM_SLOT : FIRST_FIM_SLOT + 4] = FIM_PIECES
    return slots


def _html_tags() -> list[str]:
    groups = (
        ("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"),
        ("h1", "h2", "h3", "h4", "h5", "h6", "blockquote"),
        ("strong", "em", "b", "i", "u", "s", "sub", "sup", "code"),
    )
    return [f"<{slash}{name}>" for group in groups for slash in ("", "/") for name in group]


CONTROL_PIECES: tuple[str, ...] = ("<mask>", "<2mass>", "[@BOS@]", *_unused_slots(), START_OF_TURN, END_OF_TURN)
"""Ids 4 to 107. A control piece is never produced from text."""

END_OF_TURN_ID = UNK + 1 + CONTROL_PIECES.index(END_OF_TURN)
"""For a model without a tokenizer: where Gemma 1 and 2 have it."""

TEXT_PIECES: tuple[str, ...] = (
    *("\n" * n for n in range(1, 32)),
    *(WORD_BOUNDARY * n for n in range(2, 32)),
    *_html_tags(),
    *("\t" * n for n in range(1, 32)),
)
"""From id 108: runs of newline (1 to 31), of space (2 to 31), HTML tags, runs of tab (1 to 31)."""

_MODALITY_PIECES = (
    *("<image>", START_OF_IMAGE, END_OF_IMAGE, "<image_soft_token>"),
    *("<start_of_audio>", "<end_of_audio>", "<audio_soft_token>", "[multimodal]"),
)
_CONTROL_NAMES = frozenset((PAD_PIECE, EOS_PIECE, BOS_PIECE, UNK_PIECE, *CONTROL_PIECES, *_MODALITY_PIECES))
_UNUSED_NAME = re.compile(r"<unused\d+>")  # Gemma 3 has thousands of them


def is_control_name(piece: str) -> bool:
    """Whether a piece of this name steers the model in any Gemma vocabulary, whatever type its file gives it.

    Some files declare `<start_of_turn>` and its like as user-defined symbols, which text would match.
    """
    return piece in _CONTROL_NAMES or _UNUSED_NAME.fullmatch(piece) is not None
