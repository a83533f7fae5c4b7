"""From a folder, a GGUF or an .npz file to a model: constants, weights, tokenizer.

Everything that can be checked is checked before the first weight is read: the constants, the
headers of the files, the names and shapes of all tensors, the vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.flax_gemma import match_gemma
from gemwright.checkpoints.flax_griffin import is_griffin, match_griffin
from gemwright.checkpoints.gguf_reader import gguf_config, gguf_file, match_gguf, open_gguf
from gemwright.checkpoints.gguf_tokenizer import read_tokenizer
from gemwright.checkpoints.hf_config import is_packed, read_config
from gemwright.checkpoints.hf_tensors import match_tensors, open_tensors
from gemwright.checkpoints.npz_paligemma import TOKENIZER, match_paligemma, npz_file
from gemwright.checkpoints.orbax import FlaxTensors, FlaxWeight, is_flax, open_flax
from gemwright.checkpoints.packed_reader import read_packed
from gemwright.checkpoints.placing import place
from gemwright.checkpoints.stored import StoredWeight, kept_dtype, wanted_dtype
from gemwright.core.module import Spec, count, map_specs
from gemwright.core.sharding import sharding_of
from gemwright.models.family import Config, Decoder, specs_of
from gemwright.text.tokenizer import Tokenizer, load_tokenizer

Progress = Callable[[int, int], None]
"""Called with the number of parameters done and of those in all."""

_WITHOUT_ROW = ("<image>", "<image_soft_token>")  # pieces with which other libraries mark a picture's tokens
_PADDING = 128  # rows: embeddings are padded to a multiple of this at most


@dataclass(frozen=True)
class Checkpoint:
    """A model as a folder or a file keeps it.

    Attributes:
      tokenizer: None if there is none.
      folder: where it was read.
    """

    config: Config
    weights: Decoder
    tokenizer: Tokenizer | None
    folder: Path


def load_checkpoint(
    folder: Path, *, dtype: Any = None, mesh: jax.sharding.Mesh | None = None, progress: Progress | None = None
) -> Checkpoint:
    """Read a model: a folder of Hugging Face, a packed one of ours, Google's Flax release (an Orbax folder),
    llama.cpp's GGUF file, or big_vision's .npz of a PaliGemma.

    On the CPU, weights that need no conversion are the file's own memory, mapped: do not write into
    the files while the model lives (replacing or deleting them does no harm).

    Args:
      folder: or the GGUF or .npz file, or a folder with one such file and no `config.json`.
      dtype: of the weights, float32 or bfloat16; None keeps each as stored; float16 and blocks of a
        quantised GGUF become float32. Not for packed weights.
      mesh: devices to spread the weights over; each reads its own part alone. Not for packed weights.
      progress: told after each weight.

    Raises:
      CheckpointError: if something is missing, damaged or does not fit together; names file and
        tensor, what was expected and found.
    """
    folder, wanted = Path(folder), wanted_dtype(dtype)
    if is_packed(folder):
        return _load_packed(folder, dtype, mesh, progress)
    config, stored, tokenizer = _open(folder)
    for weight in stored.values():
        kept_dtype(weight)
    check_vocabulary(folder, config, tokenizer)

    done, total = 0, count(specs_of(config))

    def read(name: str, spec: Spec) -> jax.Array:
        nonlocal done
        weight = stored[name]
        sharding = None if mesh is None else sharding_of(spec, mesh)
        array = place(weight.read(spec.shape), wanted or kept_dtype(weight), sharding, weight.release)
        done += spec.size
        if progress:
            progress(done, total)
        return array

    return Checkpoint(config, map_specs(read, specs_of(config)), tokenizer, folder)


def _load_packed(folder: Path, dtype: Any, mesh: Any, progress: Progress | None) -> Checkpoint:
    for option, value in (("dtype", dtype), ("mesh", mesh)):
        if value is not None:
            raise CheckpointError(
                f"{folder}: {option}: expected none, because its weights are packed for one CPU; leave it out, "
                "or load the model it was quantised from"
            )
    config, tokenizer = read_config(folder), _optional_tokenizer(folder)
    check_vocabulary(folder, config, tokenizer)
    weights = read_packed(folder, config)
    if progress:
        progress(total := count(specs_of(config)), total)
    return Checkpoint(config, weights, tokenizer, folder)


def _open(folder: Path) -> tuple[Config, Mapping[str, StoredWeight], Tokenizer | None]:
    """The constants, where each weight lies, and the tokenizer."""
    if is_flax(folder):
        return *_match_flax(open_flax(folder)), _optional_tokenizer(folder)
    if path := gguf_file(folder):
        file = open_gguf(path)
        return *match_gguf(file), read_tokenizer(file)
    if path := npz_file(folder):
        return *match_paligemma(path), _optional_tokenizer(path.parent)
    config = read_config(folder)
    return config, match_tensors(folder, config, open_tensors(folder)), _optional_tokenizer(folder)


def read_constants(folder: Path) -> Config:
    """The constants of a model wherever it lies; reads no weight.

    Raises:
      CheckpointError: as `load_checkpoint`.
    """
    if is_flax(folder):
        return _match_flax(open_flax(folder))[0]
    if path := gguf_file(folder):
        return gguf_config(open_gguf(path))
    if path := npz_file(folder):
        return match_paligemma(path)[0]
    return read_config(folder)


def _match_flax(tensors: FlaxTensors) -> tuple[Config, Mapping[str, FlaxWeight]]:
    return match_griffin(tensors) if is_griffin(tensors) else match_gemma(tensors)


def _optional_tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's, or for a Flax release the one beside it; big_vision's has a name of its own."""
    for candidate in (folder, folder.parent if is_flax(folder) else folder / TOKENIZER):
        try:
            return load_tokenizer(candidate)
        except FileNotFoundError:
            continue
    return None


def check_vocabulary(folder: Path, config: Config, tokenizer: Tokenizer | None) -> None:
    """A tokenizer has one piece a row; rows may be padded after the last piece.

    Raises:
      CheckpointError: if it has more pieces, or many fewer.
    """
    pieces = 0 if tokenizer is None else tokenizer.vocab_size
    if tokenizer and pieces == config.vocab_size + 1 and any(map(tokenizer.has, _WITHOUT_ROW)):
        pieces -= 1
    if tokenizer and not 0 <= config.vocab_size - pieces < _PADDING:
        raise CheckpointError(
            f"{folder}: {tokenizer.file_name}: expected the vocabulary of {config.vocab_size} pieces that the model "
            f"was made for, found {tokenizer.vocab_size}; put the model's own tokenizer there"
        )
