"""Weights are mapped, not copied; what must be converted is never there twice."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints import placing
from gemwright.checkpoints.hf_tensors import open_tensors
from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.safetensors_file import SafetensorsFile
from gemwright.core.module import named_leaves
from tests.checkpoints.conftest import assert_same


def shifted(folder: Path, spaces: int = 8) -> None:
    """Lengthen the header, so that no tensor begins at a multiple of 64 bytes any more."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length] + b" " * spaces
    path.unlink()  # a model may have it mapped
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


def address(array: jax.Array) -> int:
    return array.unsafe_buffer_pointer()


def test_our_files_are_used_without_a_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "aligned", lambda *_: pytest.fail("copied"))
    weights = load_checkpoint(folder).weights
    mapped = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in mapped if line.endswith("/model/model.safetensors")]
    for name, array in named_leaves(weights).items():
        assert any(int(start, 16) <= address(array) < int(stop, 16) for start, stop in spans), name


def test_memory_made_for_a_conversion_is_used_without_another_copy() -> None:
    made = placing.aligned((100, 64), np.dtype(np.float32))
    assert address(jax.device_put(made)) == made.ctypes.data


def test_files_of_other_writers_are_copied_once_and_equal(folder: Path) -> None:
    mine = load_checkpoint(folder).weights
    shifted(folder)
    assert_same(load_checkpoint(folder).weights, mine)


@pytest.mark.parametrize("part", [np.s_[:, :], np.s_[5:90], np.s_[:, 16:48], np.s_[:, ::2]])
@pytest.mark.parametrize("piece", [1, 1000, 1 << 22])
def test_any_part_is_converted_whole(part: Any, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_PIECE", piece)
    released: list[np.ndarray[Any, Any]] = []
    view = np.arange(6400, dtype=np.float32).reshape(100, 64)[part]
    array = placing.place(view, np.dtype(jnp.bfloat16), None, released.append)
    np.testing.assert_array_equal(np.asarray(array), view.astype(jnp.bfloat16))
    assert sum(part.size for part in released) == view.size


def test_a_donated_mapped_weight_leaves_the_file_alone(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    weights = load_checkpoint(folder).weights
    doubled = jax.jit(lambda tree: jax.tree.map(lambda w: w + w, tree), donate_argnums=0)(weights)
    jax.block_until_ready(doubled)
    assert (folder / "model.safetensors").read_bytes() == before


def test_released_pages_read_the_same_again(folder: Path) -> None:
    file = SafetensorsFile(folder / "model.safetensors")
    for name in file.entries:
        view = file.view(name)
        before = view.copy()
        file.release(view)
        np.testing.assert_array_equal(view, before)


def test_a_mapping_outlives_its_file_and_folder(folder: Path) -> None:
    tensors = open_tensors(folder)
    view = tensors["model.norm.weight"].read((32,))
    before = view.copy()
    del tensors
    (folder / "model.safetensors").unlink()
    np.testing.assert_array_equal(view, before)


_PEAK = """
import pathlib, sys
import jax
import numpy
from gemwright.checkpoints.load import load_checkpoint

def status(key):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

jax.device_put(0.0).block_until_ready()
before = status("VmRSS")
weights = load_checkpoint(pathlib.Path(sys.argv[1]), dtype=sys.argv[2]).weights
for array in jax.tree.leaves(weights):
    numpy.asarray(array).reshape(-1)[::64].copy()
print(status("VmHWM") - before, sum(array.nbytes for array in jax.tree.leaves(weights)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("dtype", "spaces"), [("bfloat16", 0), ("bfloat16", 8), ("float32", 0)])
def test_peak_memory_is_the_weights_and_little_more(large_folder: Path, dtype: str, spaces: int) -> None:
    shifted(large_folder, spaces)
    command = [sys.executable, "-c", _PEAK, str(large_folder), dtype]
    peak, size = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert size > 80e6
    assert peak < 1.15 * size


@pytest.fixture
def large_folder(tmp_path: Path) -> Path:
    from gemwright.checkpoints.save import save_checkpoint
    from gemwright.core.module import map_specs
    from gemwright.models.gemma import Gemma, gemma1

    config = gemma1(
        vocab_size=20_000, embed_dim=1024, num_layers=1, num_heads=4, num_kv_heads=1, head_dim=256, mlp_dim=6144
    )
    weights = map_specs(lambda _, spec: jnp.ones(spec.shape, jnp.bfloat16), Gemma.specs(config))
    save_checkpoint(tmp_path / "large", config, weights)
    return tmp_path / "large"
