"""Train a SentencePiece tokenizer with Gemma's settings."""

import io
import string
from collections.abc import Iterable, Iterator
from itertools import chain

from gemwright.text import control

_SMALLEST = 600  # pieces, so that some can be learned
_LONGEST_SENTENCE = 4096  # bytes; SentencePiece drops longer ones, so texts are cut before


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, *, character_coverage: float = 0.9995, threads: int = 2
) -> bytes:
    """Learn byte-pair pieces from texts and return the bytes of a `tokenizer.model`.

    Gemma's settings: digits split, whitespace kept as it is, unknown characters spelled in bytes,
    and the control pieces, whitespace runs and HTML tags of `gemwright.text.control` at their ids.

    Args:
      texts: documents; any iterable, read once.
      vocab_size: pieces in all, control and byte pieces included (at least 600).
      character_coverage: share of character occurrences that get a piece of their own, 0.98 to 1;
        the rest is spelled in bytes.
      threads: processor threads to use.

    Raises:
      ValueError: if `vocab_size` leaves no room for learned pieces, the coverage is out of range,
        or the texts are empty or too few for that many pieces.
    """
    _check_settings(vocab_size, character_coverage)
    errors: list[BaseException] = []
    sentences = _recorded(_sentences(texts), errors)
    first = next(sentences, None)
    if first is None:
        raise ValueError("expected texts to learn pieces from, found nothing but white space")
    try:
        return _train(chain([first], sentences), vocab_size, character_coverage, threads)
    except RuntimeError as error:
        if errors:
            raise errors[0] from None
        reason = str(error).rpartition("] ")[2]  # before it stands a place in the library's source
        raise ValueError(f"cannot train {vocab_size} pieces on these texts: {reason}") from None


def _train(sentences: Iterator[str], vocab_size: int, character_coverage: float, threads: int) -> bytes:
    from sentencepiece import SentencePieceTrainer  # imported late: the reader needs no trainer

    model = io.BytesIO()
    SentencePieceTrainer.Train(
        sentence_iterator=sentences,
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        character_coverage=character_coverage,
        required_chars=string.punctuation,  # rare beside prose, yet no text is without them
        num_threads=threads,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        split_digits=True,
        byte_fallback=True,
        allow_whitespace_only_pieces=True,
        max_sentence_length=4 * _LONGEST_SENTENCE,
        pad_id=control.PAD,
        eos_id=control.EOS,
        bos_id=control.BOS,
        unk_id=control.UNK,
        pad_piece=control.PAD_PIECE,
        eos_piece=control.EOS_PIECE,
        bos_piece=control.BOS_PIECE,
        unk_piece=control.UNK_PIECE,
        control_symbols=list(control.CONTROL_PIECES),
        user_defined_symbols=list(control.TEXT_PIECES),
        minloglevel=2,
    )
    return model.getvalue()


def _check_settings(vocab_size: int, character_coverage: float) -> None:
    fixed = 4 + len(control.CONTROL_PIECES) + len(control.TEXT_PIECES) + 256
    if vocab_size < _SMALLEST:
        raise ValueError(f"vocab_size {vocab_size}: {fixed} pieces are fixed, use at least {_SMALLEST}")
    if not 0.98 <= character_coverage <= 1:
        raise ValueError(f"character_coverage {character_coverage}: expected 0.98 to 1")


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    """Lines, cut where they are too long; blank ones teach nothing."""
    for text in texts:
        for line in text.splitlines():
            for start in range(0, len(line), _LONGEST_SENTENCE):
                piece = line[start : start + _LONGEST_SENTENCE]
                if piece.strip():
                    yield piece


def _recorded(sentences: Iterator[str], errors: list[BaseException]) -> Iterator[str]:
    """Keep what went wrong while reading: the trainer turns it into a RuntimeError with a traceback inside."""
    try:
        yield from sentences
    except (Exception, KeyboardInterrupt) as error:
        errors.append(error)
        raise
