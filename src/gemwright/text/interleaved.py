"""Texts with pictures between them, as Gemma 3 was trained on them.

A picture is two newlines, `<start_of_image>`, its soft tokens, `<end_of_image>` and two newlines again. One that is
shown in crops too has words around it that say so. Source: transformers' processor for Gemma 3.
"""

from collections.abc import Sequence

from gemwright.text.control import END_OF_IMAGE, START_OF_IMAGE
from gemwright.text.prompt import FormattedPrompt, Picture, PromptBuilder, Span
from gemwright.text.tokenizer import Tokenizer

Piece = Span | Picture

_WHOLE = "Here is the original image "
_CROPS = " and here are some crops to help you see better "
_AROUND: Span = ("\n\n", "template")


def format_interleaved(tokenizer: Tokenizer, parts: Sequence[str | Picture]) -> FormattedPrompt:
    """Ids of a text to be continued, its pictures where they stand.

    Raises:
      ValueError: if there are pictures and the vocabulary has no pieces for them.
    """
    builder = PromptBuilder(tokenizer)
    lay_out(builder, tokenizer, [part if isinstance(part, Picture) else (part, "user") for part in parts])
    return builder.build()


def lay_out(builder: PromptBuilder, tokenizer: Tokenizer, pieces: Sequence[Piece]) -> None:
    """Append texts and pictures; what stands between two pictures is encoded as one text."""
    spans: list[Span] = []
    for piece in pieces:
        if not isinstance(piece, Picture):
            spans.append(piece)
            continue
        for lead, mark in zip(_leads(len(piece.marks)), piece.marks, strict=True):
            builder.text(*spans, (lead, "template"), _AROUND)
            builder.control(tokenizer.id(START_OF_IMAGE))
            builder.picture(mark, piece.tokens)
            builder.control(tokenizer.id(END_OF_IMAGE))
            spans = [_AROUND]
    builder.text(*spans)


def _leads(showings: int) -> list[str]:
    """What stands before a picture, and before each of its crops."""
    return [""] if showings == 1 else [_WHOLE, _CROPS, *[" "] * (showings - 2)]
