"""What the small model reads at first: a tokenizer of its own, and streams of prose and of exercises."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.core.arrays import map_array
from gemwright.data.documents import Document, Split
from gemwright.data.mixture import Mixture, MixtureStage
from gemwright.data.packing import Rows, pack
from gemwright.data.pipeline.shards import ColumnWriter, write_whole
from gemwright.gemma_mini import language
from gemwright.gemma_mini.sizes import Sizes
from gemwright.text.tokenizer import Tokenizer, load_tokenizer
from gemwright.text.training import train_tokenizer
from gemwright.training.pretrain import Corpus
from gemwright.training.run import Run

Array = np.ndarray[Any, Any]
SOURCES = ("prose", "sheets")
_HELD_OUT = 20  # one module in so many
_PIECES_FROM = 400  # documents of each source, of which the tokenizer learns


@dataclass(frozen=True)
class Texts:
    """What is read: prose and exercises, half and half."""

    sizes: Sizes
    seed: int

    @property
    def held_out(self) -> list[Document]:
        count = self.sizes.documents
        prose = itertools.islice(self._prose("heldout"), count)
        return [*prose, *language.sheets("heldout", self.seed, count)]

    def read(self, run: Run, folder: Path) -> Corpus:
        tokenizer = self._tokenizer(folder)
        sources = {name: Rows(self._stream(name, tokenizer, folder), tokenizer.bos_id, self.seed) for name in SOURCES}
        mixture = Mixture(sources, (MixtureStage(run.steps, dict.fromkeys(SOURCES, 1.0)),))
        return Corpus(mixture, tokenizer)

    def _prose(self, split: Split) -> Iterable[Document]:
        return (document for document in language.prose(_HELD_OUT) if document.split == split)

    def _documents(self, source: str) -> Iterable[Document]:
        if source == "prose":
            return self._prose("train")
        return language.sheets("train", self.seed, max(100, 2 * self.sizes.pretraining))

    def _tokenizer(self, folder: Path) -> Tokenizer:
        path = folder / "tokenizer.model"
        if not path.exists():
            texts = (one.text for name in SOURCES for one in itertools.islice(self._documents(name), _PIECES_FROM))
            learned = train_tokenizer(texts, self.sizes.model.vocab_size, character_coverage=0.995)
            write_whole(path, lambda partial: _write(partial, learned))
        return load_tokenizer(path)

    def _stream(self, source: str, tokenizer: Tokenizer, folder: Path) -> Array:
        path = folder / f"{source}.npy"
        if not path.exists():
            documents = (
                [tokenizer.bos_id, *tokenizer.encode(one.text), tokenizer.eos_id] for one in self._documents(source)
            )
            writer = ColumnWriter(path)
            writer.add(pack(documents, tokenizer.bos_id, tokenizer.vocab_size))
            writer.close()
        return map_array(path)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
