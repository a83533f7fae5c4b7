"""The default model: a 4.1M-parameter Gemma 1 that continues English prose and Python code.

    python -m recipes.mini --corpus FOLDER --out runs/mini

learns a 4096-piece tokenizer, packs FOLDER and Python's standard library, trains a few minutes on a GPU
or about 90 on two CPU cores, and writes a Hugging Face folder to OUT/model. Interrupted at any moment, the same
command goes on. Expected: see docs/mini.md for the held-out bits per byte.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.checkpoints.save import save_checkpoint
from gemwright.data.documents import Document, read_folder, standard_library
from gemwright.data.packing import Rows, pack
from gemwright.models.family import Decoder
from gemwright.models.gemma import gemma1
from gemwright.text.chat import Message, format_chat
from gemwright.text.tokenizer import Tokenizer
from gemwright.text.training import train_tokenizer
from gemwright.training.loop import train
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


def documents(corpus: Path) -> list[Document]:
    """The corpus and the running interpreter's standard library."""
    return [*read_folder(corpus), *standard_library()]


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


def prepare(corpus: Path, out: Path) -> tuple[Tokenizer, np.ndarray]:
    """The tokenizer and the packed stream, from `out` if they were made before."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer_file, stream_file = out / "tokenizer.model", out / "stream.npy"
    found: list[Document] = []
    if not (tokenizer_file.exists() and stream_file.exists()):
        found = documents(corpus)
    if not tokenizer_file.exists():
        texts = (d.text for d in found if d.split == "train")
        tokenizer_file.write_bytes(train_tokenizer(texts, VOCAB_SIZE, character_coverage=CHARACTER_COVERAGE))
    tokenizer = Tokenizer.from_bytes(tokenizer_file.read_bytes())
    if not stream_file.exists():
        half = stream_file.with_suffix(".partial.npy")
        np.save(half, pack(examples(found, tokenizer), tokenizer.bos_id, VOCAB_SIZE))
        half.rename(stream_file)
    return tokenizer, np.load(stream_file, mmap_mode="r")


def rounded(weights: Decoder) -> Decoder:
    """The weights in bfloat16, as they are shipped."""

    def round_one(weight: jax.Array) -> jax.Array:
        return weight.astype(jnp.bfloat16)

    return jax.tree.map(round_one, weights)


def keep_memory() -> None:
    """Start anew with an allocator that keeps its memory, in large pages: a fifth faster under glibc.

    A step's temporaries come and go by tens of megabytes; by default each comes as fresh pages.
    """
    wanted = {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
        "MALLOC_TOP_PAD_": str(1 << 30),
    }
    if sys.platform == "linux" and not wanted.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **wanted})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of text files or JSON lines")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run; resumed if it exists")
    arguments = parser.parse_args()
    recipe = run(accelerator=jax.default_backend() != "cpu")
    tokenizer, stream = prepare(arguments.corpus, arguments.out)
    weights = train(recipe, Rows(stream, tokenizer.bos_id, recipe.seed), arguments.out)
    save_checkpoint(arguments.out / "model", recipe.model, rounded(weights), tokenizer, overwrite=True)


if __name__ == "__main__":
    keep_memory()
    main()
