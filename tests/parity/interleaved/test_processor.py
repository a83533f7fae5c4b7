"""Ids and pixels are those of transformers' processor for Gemma 3; needs torch, `make parity` runs it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gemwright.inference.interleaved import Row
from gemwright.looking import Eyes, pixels_of, rows_of
from gemwright.text.chat import Message, format_chat
from gemwright.text.prompt import Picture
from gemwright.text.tokenizer import Tokenizer
from tests.tiny import GEMMA3

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]  # transformers warns of itself

PIECES = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
CROPS = {
    "do_pan_and_scan": True,
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}

# The format as facts: each text of a turn trimmed, a picture's mark where it stands.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}{{ '\\n' }}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<start_of_image>"
    "{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model{{ '\\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer_file(tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tokenizer.json` in Gemma's way, with the pieces around a picture after the others."""
    from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Library

    pieces = [tiny_tokenizer.piece(i) for i in range(tiny_tokenizer.vocab_size)]
    ids = {piece: i for i, piece in enumerate(pieces)}
    pairs = [(piece[:cut], piece[cut:]) for piece in pieces[500:] for cut in range(1, len(piece))]
    merges = [pair for pair in pairs if set(pair) <= ids.keys()]
    library: Any = Library(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", byte_fallback=True))
    library.normalizer = normalizers.Replace(" ", "\u2581")
    library.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    library.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", *PIECES.values())
    library.add_special_tokens([AddedToken(piece, normalized=False) for piece in special])
    library.add_tokens([AddedToken("\n" * n, normalized=False) for n in range(1, 32)])
    path = tmp_path_factory.mktemp("seeing") / "tokenizer.json"
    path.write_text(library.to_str())
    assert json.loads(path.read_text())["added_tokens"]
    return path


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    return Tokenizer.from_bytes(tokenizer_file.read_bytes())


@pytest.fixture(scope="module")
def processor(tokenizer_file: Path) -> Any:
    import transformers

    special = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_file), extra_special_tokens=PIECES, **special
    )
    size = GEMMA3.vision.image_size
    return transformers.Gemma3Processor(
        transformers.Gemma3ImageProcessorPil(size={"height": size, "width": size}),
        theirs,
        chat_template=TEMPLATE,
        image_seq_length=GEMMA3.picture_tokens,
    )


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(256, size=(height, width, 3), dtype=np.uint8))


PICTURES = (noise(40, 30), noise(700, 300), noise(260, 1100), noise(600, 590))
PROMPTS: tuple[list[Any], ...] = (
    ["What is this? ", PICTURES[0]],
    [PICTURES[1], "\nRead it."],
    ["Between ", PICTURES[0], " and\n\n", PICTURES[1], PICTURES[2], "\n", PICTURES[3], " what differs?"],
)


def marked(parts: Sequence[Any]) -> str:
    return "".join(part if isinstance(part, str) else "<start_of_image>" for part in parts)


def check(row: Row, tokenizer: Tokenizer, theirs: Any) -> None:
    soft = tokenizer.id("<image_soft_token>")
    assert [soft if token < 0 else token for token in row.tokens] == theirs.input_ids[0].tolist()
    assert [int(token < 0) for token in row.tokens] == theirs.token_type_ids[0].tolist()
    shown = list(dict.fromkeys(token for token in row.tokens if token < 0))
    assert len(shown) == len(theirs.pixel_values)
    for mark, pixels in zip(shown, theirs.pixel_values, strict=True):
        np.testing.assert_array_equal(row.pictures[mark], np.asarray(pixels).transpose(1, 2, 0))


@pytest.mark.parametrize("crops", [False, True], ids=["whole", "pan and scan"])
@pytest.mark.parametrize("parts", PROMPTS)
def test_prompts_are_the_processors(processor: Any, tokenizer: Tokenizer, parts: list[Any], crops: bool) -> None:
    (row,) = rows_of(Eyes(GEMMA3, "gemma3", crops), tokenizer, [parts], None)
    pictures = [part for part in parts if not isinstance(part, str)]
    text = "<bos>" + marked(parts)  # the published tokenizer puts BOS there; this one does not
    theirs = processor(images=[pictures], text=[text], return_tensors="np", **(CROPS if crops else {}))
    check(row, tokenizer, theirs)


@pytest.mark.parametrize("crops", [False, True], ids=["whole", "pan and scan"])
def test_turns_are_the_processors(processor: Any, tokenizer: Tokenizer, crops: bool) -> None:
    turns = [("user", list(PROMPTS[1])), ("assistant", ["A crowd.\n"]), ("user", [" And ", PICTURES[0], " this?  "])]
    eyes = Eyes(GEMMA3, "gemma3", crops)
    looked = [Message(role, eyes.look(parts) if role == "user" else parts[0]) for role, parts in turns]  # pyright: ignore[reportArgumentType]
    seen = pixels_of([part for message in looked for part in message.parts if isinstance(part, Picture)])
    row = Row(format_chat(tokenizer, looked).ids, seen)
    messages = [
        {
            "role": role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
                for part in parts
            ],
        }
        for role, parts in turns
    ]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "np", "add_generation_prompt": True}
    check(row, tokenizer, processor.apply_chat_template(messages, **options, **(CROPS if crops else {})))
