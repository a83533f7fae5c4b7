# ruff: noqa: E402  (jax must find its settings in the environment)
"""The ground all tests stand on: strict JAX, two devices, no user's cache; and one tiny model with its folder."""

import os
import tempfile
from pathlib import Path

# Before jax is imported, by whatever test comes first.
_CACHE = tempfile.TemporaryDirectory(prefix="gemwright-tests-", ignore_cleanup_errors=True)
os.environ["XDG_CACHE_HOME"] = _CACHE.name  # nothing of the user's is read or written
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name + "/xla"  # shared with the processes that tests start
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
# Tests compile much and run little: LLVM leaves out most of its work, here and in the processes that tests start.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
os.environ["COLUMNS"], os.environ["NO_COLOR"] = "120", "1"  # what rich draws must not depend on the terminal

import argparse
import gc
import inspect
import json
import textwrap

import numpy as np
import pytest
from PIL import Image

from gemwright.checkpoints.save import save_checkpoint
from gemwright.model import Model, load
from gemwright.text import control
from gemwright.text.tokenizer import Tokenizer
from gemwright.text.training import train_tokenizer
from tests.tiny import CONFIG, GEMMA3, GRIFFIN, PALIGEMMA, sharp_weights

# Tracing makes many small objects that live: a twelfth of the time went into looking them over for garbage.
gc.set_threshold(50_000, 20, 100)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    return Tokenizer.from_bytes(train_tokenizer(_texts(), CONFIG.vocab_size))


@pytest.fixture(scope="session")
def seeing_tokenizer() -> Tokenizer:
    """The same with the pieces around a picture, in the place of two unused ones."""
    renamed = {"<unused0>": control.START_OF_IMAGE, "<unused1>": control.END_OF_IMAGE}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "CONTROL_PIECES", [renamed.get(piece, piece) for piece in control.CONTROL_PIECES])
        return Tokenizer.from_bytes(train_tokenizer(_texts(), GEMMA3.vocab_size))


def _texts() -> list[str]:
    return [inspect.getsource(module) for module in (argparse, json, textwrap)]


@pytest.fixture(scope="session")
def tiny_folder(tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 2 in float32, with its tokenizer. Only to be read."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(folder, CONFIG, sharp_weights(CONFIG), tiny_tokenizer)
    return folder


@pytest.fixture(scope="session")
def bare_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model without a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "bare"
    save_checkpoint(folder, CONFIG, sharp_weights(CONFIG))
    return folder


@pytest.fixture(scope="session")
def griffin_folder(tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RecurrentGemma in float32, with its tokenizer. Only to be read."""
    folder = tmp_path_factory.mktemp("models") / "griffin"
    save_checkpoint(folder, GRIFFIN, sharp_weights(GRIFFIN), tiny_tokenizer)
    return folder


@pytest.fixture(scope="session")
def paligemma_folder(tiny_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PaliGemma 2 in float32, with its tokenizer. Only to be read."""
    folder = tmp_path_factory.mktemp("models") / "paligemma"
    save_checkpoint(folder, PALIGEMMA, sharp_weights(PALIGEMMA), tiny_tokenizer)
    return folder


@pytest.fixture(scope="session")
def gemma3_folder(seeing_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 3 that sees, in float32, with its tokenizer. Only to be read."""
    folder = tmp_path_factory.mktemp("models") / "gemma3"
    save_checkpoint(folder, GEMMA3, sharp_weights(GEMMA3), seeing_tokenizer)
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of 40 x 30 pixels."""
    paths = [tmp_path_factory.mktemp("pictures") / f"{name}.png" for name in ("red", "noise")]
    noise = np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8)
    for path, values in zip(paths, (np.full_like(noise, (200, 30, 20)), noise), strict=True):
        Image.fromarray(values).save(path)
    return paths


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Model:
    return load(tiny_folder)
