"""The default model's documents: a 4.1M-parameter Gemma 1 that continues English prose and Python code.

    gemwright pretrain recipes/mini.py --set corpus=FOLDER --out runs/mini

learns a 4096-piece tokenizer, packs FOLDER and Python's standard library, trains a few minutes on a GPU
or about 90 on two CPU cores, and writes a Hugging Face folder to OUT/model. Interrupted at any moment, the same
command goes on. The model that is shipped reads conversations beside them: `recipes/tuned.py`. Expected: see
docs/mini.md.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from gemwright.data.documents import Document, read_folder, standard_library
from gemwright.data.packing import Rows, Tokens, pack
from gemwright.models.gemma import gemma1
from gemwright.text.chat import Message, format_chat
from gemwright.text.tokenizer import Tokenizer
from gemwright.text.training import train_tokenizer
from gemwright.training.pretrain import Corpus, Pretraining
from gemwright.training.run import Optimizer, Run, Stage

VOCAB_SIZE = 4096
CHARACTER_COVERAGE = 0.997  # the rarest Japanese and Korean characters are spelled in bytes
CHAT_SHARE = 0.08  # of the documents; the rest stand as they are
CODE_SHARE = 0.5  # of the standard library that is read: all of it would be a quarter of the tokens
EAST_ASIAN_EPOCHS = 2  # the little Japanese and Korean there is, in many characters, is read so often an epoch


def run(accelerator: bool) -> Run:
    """Two minutes of a large GPU, or a tenth of those tokens in 90 minutes of two CPU cores.

    Mostly short rows, which train faster; the last ones are as long as the model's context.
    """
    model = gemma1(
        vocab_size=VOCAB_SIZE,
        embed_dim=256,
        num_layers=4,
        num_heads=4,
        num_kv_heads=1,
        head_dim=64,
        mlp_dim=768,
        max_positions=1024,
    )
    if accelerator:
        stages = (Stage(steps=4400, length=512), Stage(steps=800, length=1024))
        return Run(model=model, stages=stages, tokens_per_step=32_768, optimizer=Optimizer(lr=1e-2))
    stages = (Stage(steps=6200, length=256), Stage(steps=1400, length=512), Stage(steps=800, length=1024))
    return Run(model=model, stages=stages, tokens_per_step=2048)


def documents(corpus: Path | None) -> list[Document]:
    """The corpus, if any, and the running interpreter's standard library."""
    return [*(read_folder(corpus) if corpus else []), *standard_library()]


def mixture(found: list[Document], rng: np.random.Generator) -> Iterator[Document]:
    """What an epoch reads of the training documents: some of the code, everything else, the rarest twice."""
    for document in found:
        if document.split == "heldout" or (document.source == "python_code" and rng.random() > CODE_SHARE):
            continue
        for _ in range(EAST_ASIAN_EPOCHS if is_east_asian(document.text) else 1):
            yield document


def is_east_asian(text: str) -> bool:
    """Whether a third of a text's characters are kana, Chinese characters or Hangul, as of no other language's."""
    return 3 * sum(character >= "\u3040" for character in text) > len(text)


def examples(found: list[Document], tokenizer: Tokenizer, seed: int = 0) -> Iterator[list[int]]:
    """Token ids of the training documents: most as they are, some as turns of chat that go on with a text."""
    rng = np.random.default_rng(seed)
    for document in mixture(found, rng):
        if rng.random() < CHAT_SHARE:
            for passage in passages(document.text, longest=800):
                yield chat_example(passage, tokenizer)
        else:
            for passage in passages(document.text, longest=16_000):
                yield plain_example(passage, tokenizer)


def plain_example(passage: str, tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.bos_id, *tokenizer.encode(passage), tokenizer.eos_id]


def chat_example(passage: str, tokenizer: Tokenizer) -> list[int]:
    """The passage's opening as the user's turn, its rest as the answer."""
    opening, rest = split_opening(passage)
    if not opening or not rest:
        return plain_example(passage, tokenizer)
    turns = [Message("user", opening), Message("model", rest)]
    return format_chat(tokenizer, turns, add_generation_prompt=False).ids


def passages(text: str, longest: int) -> Iterator[str]:
    """Pieces of at most `longest` characters where blank lines allow, so that endings are learned too."""
    piece = ""
    for block in re.findall(r".+?(?:\n\n+|\Z)", text, flags=re.DOTALL):
        if piece and len(piece) + len(block) > longest:
            yield piece.rstrip("\n")
            piece = ""
        piece += block
    if piece.strip():
        yield piece.rstrip("\n")


def split_opening(passage: str) -> tuple[str, str]:
    """A passage's beginning, up to a natural pause between 20 and 200 characters, and the rest."""
    pauses = [m.end() for m in re.finditer(r"[.!?,;:\"'”]\s|\n|。", passage[:200]) if m.end() >= 20]
    if not pauses:
        return passage, ""
    cut = pauses[len(passage) % len(pauses)]
    return passage[:cut].strip(), passage[cut:].strip()


def prepare(corpus: Path | None, out: Path, vocab_size: int | None = None) -> tuple[Tokenizer, np.ndarray, np.ndarray]:
    """The tokenizer and the packed streams of training and held-out text, from `out` if they were made before.

    Raises:
      ValueError: if they were made of other files.
    """
    vocab_size = vocab_size or VOCAB_SIZE
    check_origin(corpus, out)
    files = [out / name for name in ("tokenizer.model", "stream.npy", "held_out.npy")]
    found = [] if all(file.exists() for file in files) else documents(corpus)
    if not files[0].exists():
        texts = (d.text for d in found if d.split == "train")
        half = files[0].with_suffix(".partial")
        half.write_bytes(train_tokenizer(texts, vocab_size, character_coverage=CHARACTER_COVERAGE))
        half.rename(files[0])
    tokenizer = Tokenizer.from_bytes(files[0].read_bytes())
    held_out = (plain_example(d.text, tokenizer) for d in found if d.split == "heldout")
    return tokenizer, packed(files[1], examples(found, tokenizer), tokenizer), packed(files[2], held_out, tokenizer)


def check_origin(corpus: Path | None, out: Path) -> None:
    """Refuse other documents than those that a folder's streams were made of. Files are told by name and size."""
    found = [file for file in corpus.rglob("*") if file.is_file()] if corpus else []
    files = sorted((str(file.relative_to(corpus or file)), file.stat().st_size) for file in found)
    note, origin = out / "documents.sha256", hashlib.sha256(json.dumps(files).encode()).hexdigest()
    if not note.exists() and not (out / "stream.npy").exists():
        note.write_text(origin, encoding="utf-8")
    if files and note.exists() and note.read_text(encoding="utf-8") != origin:
        raise ValueError(
            f"{out}: expected the documents that its tokens were made of, found others in {corpus}: "
            "choose another folder for this run"
        )


def packed(file: Path, texts: Iterable[list[int]], tokenizer: Tokenizer) -> Tokens:
    """Token ids as one stream, kept in a file that appears whole; what is there already is not made again."""
    if not file.exists():
        half = file.with_suffix(".partial.npy")
        np.save(half, pack(texts, tokenizer.bos_id, tokenizer.vocab_size))
        half.rename(file)
    return np.load(file, mmap_mode="r")


def read(corpus: Path | None, out: Path, vocab_size: int | None = None, longest: int = 1024) -> Corpus:
    """What the run reads, and what it is examined on.

    Args:
      longest: tokens of a row.
    """
    tokenizer, stream, held_out = prepare(corpus, out, vocab_size)
    enough = len(held_out) > 2 * longest
    return Corpus(
        Rows(stream, tokenizer.bos_id, seed=0), tokenizer, Rows(held_out, tokenizer.bos_id, seed=0) if enough else None
    )


def has_accelerator() -> bool:
    return jax.default_backend() != "cpu"


def pretraining(corpus: Path | None = None, accelerator: bool | None = None) -> Pretraining:
    """The recipe.

    Args:
      corpus: a folder of text files or JSON lines; only the standard library unless given.
      accelerator: whether to take the longer run; as this machine has one unless given.
    """
    accelerator = has_accelerator() if accelerator is None else accelerator
    return Pretraining(run(accelerator), lambda _, out: read(corpus, out))
