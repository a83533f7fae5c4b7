"""A packed folder: mapped and used where it lies, and refused with a reason when it is not what it should be."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.packed_reader import PACKED_FILE
from gemwright.checkpoints.packed_writer import save_packed
from gemwright.checkpoints.placing import ALIGNMENT
from gemwright.checkpoints.safetensors_file import SafetensorsFile
from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import named_leaves, named_weights
from gemwright.core.packed import Packed, pack_weights
from gemwright.kernels import native
from gemwright.kernels.buffer_address import buffer_address
from gemwright.kernels.packed_product import packed_products
from gemwright.model import load
from gemwright.models.gemma import Gemma
from tests.checkpoints.conftest import CONFIGS, assert_same, sharp_weights

# Scales of 5 tiles with 1 group are no multiple of 64 bytes, nor are norms of 24 bfloat16.
GEMMA2 = replace(CONFIGS["gemma2"], embed_dim=24, mlp_dim=72)


def mixed_bits(config: Any) -> dict[str, int]:
    """Weights of 8 bits among those of 4."""
    names = named_leaves(Gemma.specs(config))
    return {name: 8 if name.endswith(("down", "key")) else 4 for name in names}


@pytest.fixture(scope="module")
def packed() -> Gemma:
    return pack_weights(Gemma.specs(GEMMA2), sharp_weights(GEMMA2, jnp.bfloat16), mixed_bits(GEMMA2))


@pytest.fixture
def folder(tmp_path: Path, packed: Gemma) -> Path:
    save_packed(tmp_path / "packed", GEMMA2, packed)
    return tmp_path / "packed"


def rewrite_header(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / PACKED_FILE
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def test_what_is_loaded_is_what_was_saved(folder: Path, packed: Gemma) -> None:
    model = load(folder)
    assert model.config == GEMMA2
    assert_same(model.weights, packed)
    specs = Gemma.specs(GEMMA2)
    matrices = [name for name, spec in named_leaves(specs).items() if len(spec.shape) > 1]
    found = named_weights(specs, model.weights)
    assert {name: found[name].bits for name in matrices} == {name: mixed_bits(GEMMA2)[name] for name in matrices}


def test_every_tensor_begins_at_a_multiple_of_64_bytes(folder: Path) -> None:
    file = SafetensorsFile(folder / PACKED_FILE)
    tensors = {name: entry for name, entry in file.entries.items() if not name.startswith("filler.")}
    assert any((entry.stop - entry.start) % ALIGNMENT for entry in tensors.values())  # or this would be too easy
    assert all(entry.start % ALIGNMENT == 0 for entry in tensors.values())


@pytest.mark.skipif(not native.available(), reason="the native kernels were not built, or are off")
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell its mappings")
def test_the_pointer_in_the_kernel_is_the_pointer_in_the_file(folder: Path) -> None:
    weights = load(folder).weights

    @jax.jit
    def decode(weights: Gemma, row: jax.Array) -> tuple[jax.Array, Any]:
        """Products in a loop, as when decoding, and where each weight lies meanwhile."""

        def step(_: int, carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
            gate = weights.layers[0].mlp.gate
            assert isinstance(gate, Packed)
            (product,) = packed_products(carry[0], ((gate.codes, gate.scales),), (GEMMA2.mlp_dim,))
            return product[:, : row.shape[1]], jax.tree.map(buffer_address, weights)

        nowhere = jax.tree.map(lambda _: jnp.zeros(2, jnp.uint32), weights)
        return jax.lax.fori_loop(0, 3, step, (row, nowhere))

    found = named_leaves(decode(weights, jnp.ones((1, GEMMA2.embed_dim)))[1])
    entries = SafetensorsFile(folder / PACKED_FILE).entries
    starts = [
        int(line.split("-")[0], 16)
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(folder / PACKED_FILE))
    ]
    bases = {name: int(low) + (int(high) << 32) - entries[name].start for name, (low, high) in found.items()}
    assert found.keys() >= {"embedding.codes", "embedding.scales", "layers.2.mlp.down.codes", "final_norm"}
    assert set(bases.values()) <= set(starts)  # each lies in a mapping of the file, at its place there
    assert len(set(bases.values())) == 1


def test_a_tokenizer_and_the_answers_come_along(tiny_folder: Path, tmp_path: Path) -> None:
    model = load(tiny_folder, bits=4)
    save_packed(tmp_path / "packed", model.config, model.weights, model.tokenizer, source=tiny_folder)
    again = load(tmp_path / "packed")
    assert again.generate("def f(", 12) == model.generate("def f(", 12)


# ---------------------------------------------------------------------------------------- refused


def test_another_layout_is_refused_with_what_to_do(folder: Path) -> None:
    rewrite_header(folder, lambda header: header["__metadata__"].update(layout="2"))
    with pytest.raises(CheckpointError, match=r"made for layout 2; this version .* reads 1: quantise .* again"):
        load(folder)


def test_a_file_of_another_format_is_refused(folder: Path) -> None:
    rewrite_header(folder, lambda header: header.pop("__metadata__"))
    with pytest.raises(CheckpointError, match=r"expected the format gemwright-packed .*, found None"):
        load(folder)


def test_a_truncated_file_is_refused_by_name(folder: Path) -> None:
    path = folder / PACKED_FILE
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(CheckpointError, match=r"tensor .*: expected .* bytes in the file.*truncated"):
        load(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / PACKED_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"packed\.safetensors: expected here"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("layers.1.mlp.up.codes", {"shape": [5, 2, 128]}, r"up\.codes: expected shape \(5, 1, 256\) for 4 bits"),
        ("layers.1.mlp.up.scales", {"shape": [5, 16]}, r"up\.scales: expected float16 of shape \(5, 1, 16\)"),
        ("layers.1.mlp.up.scales", {"dtype": "BF16"}, r"up\.scales: expected float16 .* found bfloat16"),
        ("final_norm", {"dtype": "F16"}, r"final_norm: expected bfloat16 or float32 .* found float16"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder: Path, name: str, change: dict[str, Any], message: str) -> None:
    rewrite_header(folder, lambda header: header[name].update(change))
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_missing_and_a_strange_tensor_are_named(folder: Path) -> None:
    rewrite_header(folder, lambda header: header.update(strange=header.pop("layers.0.mlp.gate.scales")))
    with pytest.raises(CheckpointError, match=r"gate\.scales: expected one, found none"):
        load(folder)
    rewrite_header(folder, lambda header: header.update({"layers.0.mlp.gate.scales": header.pop("strange")}))
    rewrite_header(folder, lambda header: header.update(strange=header.pop("filler.final_norm")))
    with pytest.raises(CheckpointError, match=r"tensor strange: expected none"):
        load(folder)


@pytest.mark.parametrize("options", [{"bits": 4}, {"dtype": "float32"}, {"mesh": jax.make_mesh((1,), ("model",))}])
def test_what_packed_weights_cannot_be_is_refused(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=f"{next(iter(options))}: expected none, because its weights are packed"):
        load(folder, **options)


def test_packed_weights_are_not_saved_as_dense_ones_nor_dense_ones_as_packed(tmp_path: Path, packed: Gemma) -> None:
    with pytest.raises(CheckpointError, match="expected dense weights"):
        save_checkpoint(tmp_path / "dense", GEMMA2, packed)
    with pytest.raises(CheckpointError, match="weight embedding: expected a packed one"):
        save_packed(tmp_path / "packed", GEMMA2, sharp_weights(GEMMA2))
    assert not any(tmp_path.iterdir())
