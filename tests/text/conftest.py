"""Three small tokenizers that cut the same text in the three ways a Gemma vocabulary is published."""

import inspect
import io
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from gemwright.text import control
from gemwright.text.tokenizer import Tokenizer
from gemwright.text.training import train_tokenizer

SAMPLES = {
    "English": "All human beings are born free and equal in dignity and rights. The year 2024 had 366 days.",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "Japanese": "すべての人間は、生まれながらにして自由であり、尊厳と権利について平等である。",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren; größer, schöner, öfter.",
    "Arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน",
    "code": "def f(x):\n\tif x  >  10:\n\t\treturn <b>{x}</b>\n\n\n    # done\r\n",
    "emoji": "family 👨‍👩‍👧‍👦, flag 🇰🇷, thumb 👍🏽, heart ❤️",
}
VOCAB_SIZE = 1000


def training_texts() -> list[str]:
    modules = (textwrap, inspect, json)
    return [*SAMPLES.values()] * 3 + [inspect.getsource(module) for module in modules]


@pytest.fixture(scope="session")
def model_bytes() -> bytes:
    """A `tokenizer.model` as `gemwright tokenizer train` makes it: control pieces have the control type."""
    return train_tokenizer(training_texts(), VOCAB_SIZE, character_coverage=1.0)


@pytest.fixture(scope="session")
def symbol_bytes() -> bytes:
    """A `tokenizer.model` whose control pieces are user-defined symbols, which the library finds in text."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.Train(
        sentence_iterator=iter(line for text in training_texts() for line in text.splitlines() if line.strip()),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        byte_fallback=True,
        split_digits=True,
        pad_id=control.PAD,
        eos_id=control.EOS,
        bos_id=control.BOS,
        unk_id=control.UNK,
        pad_piece=control.PAD_PIECE,
        eos_piece=control.EOS_PIECE,
        bos_piece=control.BOS_PIECE,
        user_defined_symbols=[*control.CONTROL_PIECES, *control.TEXT_PIECES],
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def json_bytes(model_bytes: bytes) -> bytes:
    """A `tokenizer.json` laid out as Gemma's: BPE with byte fallback, added tokens, BOS put in front if asked to."""
    from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers import Tokenizer as Library

    source = Tokenizer.from_bytes(model_bytes)
    pieces = [source.piece(i) for i in range(source.vocab_size)]
    ids = {piece: i for i, piece in enumerate(pieces)}
    library: Any = Library(
        models.BPE(vocab=ids, merges=_merges(ids), unk_token=control.UNK_PIECE, fuse_unk=True, byte_fallback=True)
    )
    library.normalizer = normalizers.Replace(" ", control.WORD_BOUNDARY)
    library.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    library.decoder = decoders.Sequence(
        [decoders.Replace(control.WORD_BOUNDARY, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ("<pad>", "<eos>", "<bos>", "<unk>", control.START_OF_TURN, control.END_OF_TURN)
    others = (*control.CONTROL_PIECES, *control.TEXT_PIECES)  # Gemma's file marks no more than those as special
    library.add_special_tokens([AddedToken(piece, normalized=False) for piece in special])
    library.add_tokens([AddedToken(piece, normalized=False) for piece in others if piece not in special])
    library.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[(control.BOS_PIECE, control.BOS)]
    )
    return library.to_str().encode()


def _merges(ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to make a learned piece, or a run of spaces, out of two pieces, in the order they were learned."""
    runs = [control.WORD_BOUNDARY * n for n in range(2, 32)]
    fixed = 4 + len(control.CONTROL_PIECES) + len(control.TEXT_PIECES) + 256
    learned = [piece for piece, i in ids.items() if i >= fixed and len(piece) > 1]
    splits = ((piece[:cut], piece[cut:]) for piece in (*runs, *learned) for cut in range(1, len(piece)))
    return [(left, right) for left, right in splits if left in ids and right in ids]


@pytest.fixture(scope="session")
def tokenizer(model_bytes: bytes) -> Tokenizer:
    return Tokenizer.from_bytes(model_bytes)


@pytest.fixture(scope="session")
def symbol_tokenizer(symbol_bytes: bytes) -> Tokenizer:
    return Tokenizer.from_bytes(symbol_bytes)


@pytest.fixture(scope="session")
def json_tokenizer(json_bytes: bytes) -> Tokenizer:
    return Tokenizer.from_bytes(json_bytes)


@pytest.fixture(scope="session", params=["model", "symbol", "json"])
def any_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Each of the three in turn."""
    return Tokenizer.from_bytes(request.getfixturevalue(f"{request.param}_bytes"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The multilingual files beside the checkout, where there are any."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return folder
