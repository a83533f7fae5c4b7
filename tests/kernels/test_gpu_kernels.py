"""Kernels for a GPU, interpreted on the CPU, against their references; and that they can be made for a GPU at all."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from gemwright.kernels.gpu import VARIABLE, Tile, available, tile_for
from gemwright.kernels.row_products import (
    gated_on_gpu,
    gated_rows,
    gated_rows_reference,
    products_on_gpu,
    row_products,
    row_products_reference,
)
from gemwright.kernels.token_attention import (
    Cut,
    How,
    Slots,
    Token,
    attention_on_gpu,
    token_attention,
    token_attention_reference,
)

TILES = {256: Tile(4, 128, 2, 4), 384: Tile(4, 128, 1, 4)}


def drawn(seed: int, *shape: int, scale: float = 1.0) -> jax.Array:
    return (jax.random.normal(jax.random.key(seed), shape) * scale).astype(jnp.bfloat16)


def assert_near(ours: jax.Array, theirs: jax.Array, tolerance: float = 0.02) -> None:
    one, other = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
    assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("ins", TILES)
@pytest.mark.parametrize("normed", [True, False])
def test_products(rows: int, ins: int, normed: bool) -> None:
    x, gain, tile = drawn(0, rows, ins), drawn(1, ins, scale=0.3) if normed else None, TILES[ins]
    matrices = tuple(drawn(seed, outs, ins, scale=ins**-0.5) for seed, outs in ((2, 32), (3, 8), (4, 8)))
    theirs = row_products_reference(x, matrices, gain, None, 1e-6)
    for one, other in zip(products_on_gpu(x, matrices, gain, None, 1e-6, tile, True), theirs, strict=True):
        assert_near(one, other)
    added = drawn(5, rows, 32)
    (ours,) = products_on_gpu(x, matrices[:1], gain, added, 1e-6, tile, True)
    assert_near(ours, row_products_reference(x, matrices[:1], gain, added, 1e-6)[0])
    ours = gated_on_gpu(x, matrices[1], matrices[2], gain, 1e-6, tile, True)
    assert_near(ours, gated_rows_reference(x, matrices[1], matrices[2], gain, 1e-6))


def attended(rows: int, heads: tuple[int, int], size: int, slots: int, at: list[int]) -> tuple[Token, Slots]:
    """A token a row at the positions `at`, and a cache that holds those before them, with no numbers where empty."""
    angles = 3 * drawn(0, rows, size // 2).astype(jnp.float32)
    kept = np.full((rows, slots), -1, np.int32)
    for row, end in enumerate(at):
        for position in range(max(0, end - slots), end):
            kept[row, position % slots] = position
    keys, values = drawn(1, rows, slots, heads[1], size), drawn(2, rows, slots, heads[1], size)
    new = drawn(3, rows, heads[0], size), drawn(4, rows, heads[1], size), drawn(5, rows, heads[1], size)
    token = Token(*new, jnp.sin(angles), jnp.cos(angles), jnp.array(at, jnp.int32))
    return token, Slots(keys, values, jnp.array(kept))


@pytest.mark.parametrize(
    ("heads", "size", "slots", "at", "window", "cap", "cut"),
    [
        ((8, 1), 256, 64, [37], None, None, Cut(16, 1, 4)),
        ((4, 4), 32, 64, [70, 5], None, 50.0, Cut(16, 1, 4)),
        ((4, 2), 32, 79, [100, -1], 64, 5.0, Cut(32, 1, 4)),
        ((4, 2), 32, 64, [0, 63, 64], None, None, Cut(16, 2, 4)),
        ((4, 1), 64, 128, [3], None, None, Cut(16, 4, 4)),
    ],
)
def test_attention(
    heads: tuple[int, int], size: int, slots: int, at: list[int], window: int | None, cap: float | None, cut: Cut
) -> None:
    token, cache = attended(len(at), heads, size, slots, at)
    how = How(size**-0.5, window, cap)
    ours, kept = attention_on_gpu(token, cache, how, cut, True)
    theirs, expected = token_attention_reference(token, cache, how)
    live = np.array(at) >= 0
    assert_near(ours[live], theirs[live])
    assert bool(jnp.isfinite(ours.astype(jnp.float32)).all())
    for one, other in zip(kept, expected, strict=True):  # a unit of the last place where products are fused
        assert_near(one, other, 0.01)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")
@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize(("width", "mlp", "heads", "groups"), [(2048, 16_384, 8, 1), (3072, 24_576, 16, 16)])
def test_made_for_a_gpu(rows: int, width: int, mlp: int, heads: int, groups: int) -> None:
    def shaped(*shape: int, dtype: Any = jnp.bfloat16) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    size, slots, real, whole = 256, 256, jnp.float32, jnp.int32
    x, turns = shaped(rows, width), shaped(rows, size // 2, dtype=real)
    query, key = shaped(heads * size, width), shaped(groups * size, width)
    new = shaped(rows, heads, size), shaped(rows, groups, size), shaped(rows, groups, size)
    token = Token(*new, turns, turns, shaped(rows, dtype=whole))
    kept = shaped(rows, slots, groups, size)
    cache = Slots(kept, kept, shaped(rows, slots, dtype=whole))
    calls = {
        "first": (lambda *given: row_products(*given, None, 1e-6), (x, (query, key, key), shaped(width))),
        "last": (lambda x, m, a: row_products(x, (m,), None, a, 1e-6), (shaped(rows, mlp), shaped(width, mlp), x)),
        "gated": (lambda *given: gated_rows(*given, 1e-6), (x, shaped(mlp, width), shaped(mlp, width), shaped(width))),
        "token": (lambda t, s: token_attention(t, s, How(1 / 16, None, None)), (token, cache)),
    }
    device = AbstractDevice("NVIDIA H100 80GB HBM3", None, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
        for function, given in calls.values():
            lowered = jax.jit(function).trace(*given).lower(lowering_platforms=("cuda",))
            assert lowered.as_text().count("xla.gpu.triton") == 1


def test_tiles_divide_what_they_cut() -> None:
    wanted = Tile(4, 1024, 2, 4)
    assert tile_for([2048, 256], 2048, wanted) == wanted
    assert tile_for([2], 3072, wanted) == Tile(2, 1024, 3, 4)
    assert tile_for([4], 96, wanted) is None


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert available() == (jax.default_backend() == "gpu" and jax.device_count() == 1)
    monkeypatch.setenv(VARIABLE, "on")
    assert available()
    monkeypatch.setenv(VARIABLE, "perhaps")
    with pytest.raises(ValueError, match="perhaps"):
        available()
