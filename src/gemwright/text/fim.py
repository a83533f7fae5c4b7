"""Fill-in-the-middle prompts of CodeGemma.

    <bos>path
    <|fim_prefix|>prefix<|fim_suffix|>suffix<|fim_middle|>

Source: the CodeGemma report (arXiv 2406.11409, figures 2 and 4, table 1): the order is prefix,
suffix, middle; the line with the path is optional; files of one repository are divided by
`<|file_separator|>`; an answer ends at any of the four pieces.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gemwright.text import control
from gemwright.text.prompt import FormattedPrompt, PromptBuilder
from gemwright.text.tokenizer import Tokenizer


class FimIds(NamedTuple):
    """The four pieces that mark up a file; in Gemma's vocabulary ids 67 to 70."""

    prefix: int
    middle: int
    suffix: int
    file_separator: int


class SourceFile(NamedTuple):
    """A file of the same repository, shown to the model before the one to fill."""

    path: str
    text: str


def fim_ids(tokenizer: Tokenizer) -> FimIds:
    """The ids of the markup, under their own names or those of the unused slots they were made from.

    Raises:
      ValueError: if the vocabulary has neither.
    """
    slots = (control.UNUSED_SLOT.format(control.FIRST_FIM_SLOT + i) for i in range(4))
    pairs = zip(control.FIM_PIECES, slots, strict=True)
    return FimIds(*(tokenizer.id(name if tokenizer.has(name) else slot) for name, slot in pairs))


def fim_stop_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that end a filled-in middle: any of the markup, and EOS."""
    return tokenizer.stop_ids | frozenset(fim_ids(tokenizer))


def format_fim(
    tokenizer: Tokenizer, prefix: str, suffix: str, *, path: str = "", context: Sequence[SourceFile] = ()
) -> FormattedPrompt:
    """Lay out the code around a cursor, for the model to write what is between.

    Args:
      tokenizer: CodeGemma's, or one with the same slots.
      prefix: the code before the cursor, as it is; may be empty.
      suffix: the code after it; may be empty.
      path: where the file lies in its repository; recommended by the report, left out if empty.
      context: other files of the repository, the most relevant last.

    Raises:
      ValueError: if the vocabulary has no such markup.
    """
    ids = fim_ids(tokenizer)
    builder = PromptBuilder(tokenizer)
    for file in context:
        builder.text((f"{file.path}\n", "template"), (file.text, "code"))
        builder.control(ids.file_separator)
    if path:
        builder.text((f"{path}\n", "template"))
    builder.control(ids.prefix)
    builder.text((prefix, "code"))
    builder.control(ids.suffix)
    builder.text((suffix, "code"))
    builder.control(ids.middle)
    return builder.build()
