"""Reads the checkpoint that turns `<segNNN>` tokens into masks.

It is no part of a PaliGemma checkpoint: google-research/big_vision publishes it as `vae-oid.npz`, in the folder
`paligemma` of its bucket. Only the decoder's arrays and the codebook are read.
"""

import zipfile
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp

from gemwright.checkpoints.errors import CheckpointError
from gemwright.core.arrays import read_array
from gemwright.core.module import Spec, map_specs
from gemwright.models.mask_decoder import Config, MaskDecoder, published_names

FILE_NAME = "vae-oid.npz"


def load_mask_decoder(path: Path, config: Config | None = None) -> MaskDecoder:
    """Read the file, or a folder that has it under its published name; float32.

    Raises:
      CheckpointError: if there is no such file, or its arrays are not the decoder's.
    """
    config = config or Config()
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; masks need big_vision's {FILE_NAME}, a checkpoint of its own")
    try:
        with zipfile.ZipFile(file) as archive:
            return _from_archive(archive, file, config)
    except CheckpointError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{file}: expected an .npz of plain NumPy arrays ({error}); get the file again") from None


def _from_archive(archive: zipfile.ZipFile, file: Path, config: Config) -> MaskDecoder:
    names, held = published_names(config), set(archive.namelist())

    def take(name: str, spec: Spec) -> jax.Array:
        theirs = names[name]
        if f"{theirs}.npy" not in held:
            raise CheckpointError(f"{file}: expected an array {theirs!r}, found none; is it {FILE_NAME}?")
        with archive.open(f"{theirs}.npy") as stream:
            found = read_array(stream)
        if found.shape != spec.shape:
            raise CheckpointError(f"{file}: expected {theirs!r} of shape {spec.shape}, found {found.shape}")
        return jnp.asarray(found, jnp.float32)

    return map_specs(take, MaskDecoder.specs(config))
