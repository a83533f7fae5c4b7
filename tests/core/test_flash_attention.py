"""When attention goes to the GPU's kernel, what it is asked for, and that it is not run twice. No GPU is needed."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core import flash_attention, weights
from gemwright.core.flash_attention import fits, one_text
from gemwright.core.module import initialise
from gemwright.core.sharding import MeshShape, make_mesh
from gemwright.data.packing import Batch
from gemwright.kernels import native
from gemwright.models.gemma import Gemma, gemma1
from gemwright.training.optimizer import make_optimizer
from gemwright.training.run import Compute, Optimizer, Run, Stage
from gemwright.training.step import abstract_state, compile_steps
from tests.tolerances import BFLOAT16

CONFIG = gemma1(vocab_size=64, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=1, head_dim=64, mlp_dim=64)


def heads(length: int = 1024, size: int = 256, dtype: Any = jnp.bfloat16) -> Any:
    return jax.ShapeDtypeStruct((1, length, 8, size), dtype)


def test_a_cpu_has_no_kernel() -> None:
    assert not fits(heads(), heads(), None, None)


@pytest.mark.parametrize(
    ("capability", "widest"), [("9.0", 256), ("8.0", 128), ("7.5", 0), ("10.0", 128), ("gfx942", 0)]
)
def test_the_card_decides_how_wide_heads_may_be(capability: str, widest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(compute_capability=capability)])
    assert [fits(heads(size=size), heads(size=size), None, None) for size in (128, 256)] == [
        size <= widest for size in (128, 256)
    ]


def test_only_long_narrow_unbent_attention_over_all_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash_attention, "_widest_head", lambda: 256)
    assert fits(heads(), heads(), None, None)
    assert fits(heads(), heads(), 1024, None)
    assert not fits(heads(), heads(), 1023, None)
    assert not fits(heads(), heads(), None, 50.0)
    assert not fits(heads(512), heads(512), None, None)
    assert not fits(heads(1025), heads(1025), None, None)
    assert not fits(heads(size=260), heads(size=260), None, None)
    assert not fits(heads(dtype=jnp.float32), heads(dtype=jnp.float32), None, None)
    assert not fits(heads(), heads(dtype=jnp.float32), None, None)


def test_one_text_begins_at_0_and_has_one_segment() -> None:
    places, same = jnp.asarray([[0, 1, 2, 3]] * 2), jnp.asarray([[5, 5, 5, 5], [6, 6, 6, 6]])
    assert one_text(places, same)
    assert one_text(places, None)
    assert not one_text(places, same.at[1, 3].set(7))
    assert not one_text(places.at[0].set(jnp.asarray([0, 1, 0, 1])), same)
    assert not one_text(places.at[1].set(jnp.asarray([-1, 0, 1, 2])), same)


@pytest.mark.parametrize("documents", [1, 3])
def test_the_kernel_is_asked_for_what_plain_jax_computes(documents: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = initialise(Gemma.specs(CONFIG), 0)
    length = 96
    index = np.arange(length)
    segments = index * documents // length
    positions = index - np.asarray([np.argmax(segments == one) for one in segments])
    by = jax.random.normal(jax.random.key(0), (1, length, CONFIG.embed_dim))
    rows = [jnp.asarray(row)[None] for row in (index % CONFIG.vocab_size, positions, segments)]

    def loss(model: Any) -> jax.Array:
        hidden, _ = model(rows[0], CONFIG, positions=rows[1], segments=rows[2])
        return jnp.sum(hidden * by)  # of squares it would be flat: they are normed

    expected, expected_slope = jax.value_and_grad(loss)(model)
    asked = list[bool]()
    plain = jax.nn.dot_product_attention

    def counted(*heads: jax.Array, implementation: str, **how: Any) -> jax.Array:
        assert implementation == "cudnn"
        asked.append(how["mask"] is not None)
        return plain(*heads, implementation="xla", **how)

    monkeypatch.setattr(jax.nn, "dot_product_attention", counted)
    monkeypatch.setattr(flash_attention, "fits", lambda *_: True)
    monkeypatch.setenv(native.VARIABLE, "off")
    found, slope = jax.value_and_grad(loss)(model)
    assert True in asked  # without a mask it may have been traced before
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for one, other in zip(jax.tree.leaves(slope), jax.tree.leaves(expected_slope), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * float(jnp.max(jnp.abs(other))))


@pytest.mark.parametrize(("remat", "forward"), [("products", 1), ("layers", 2)])
def test_a_step_for_cuda_runs_the_kernel_again_only_with_whole_layers(
    remat: Any, forward: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda _: True)
    monkeypatch.setattr(flash_attention, "_widest_head", lambda: 256)
    monkeypatch.setenv(native.VARIABLE, "off")
    run = Run(CONFIG, (Stage(1, 1024),), 1024, Optimizer("adamw"), Compute("bfloat16", remat, scan=True))
    specs, mesh = Gemma.specs(CONFIG), make_mesh(MeshShape(fsdp=1), jax.devices()[:1])
    optimizer = make_optimizer(run, specs)
    part: Any = jax.ShapeDtypeStruct((1, 1, 1024), jnp.int32)
    with jax.set_mesh(mesh):
        program = compile_steps(CONFIG, optimizer, mesh, run.compute)
        traced = program.trace(None, abstract_state(specs, optimizer, mesh), Batch(*[part] * 5))
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    calls = [text.count(f"@__cudnn$fmha{kind}(") for kind in ("Softmax", "ScaleBiasSoftmax")]
    back = [text.count(f"@__cudnn$fmha{kind}Backward(") for kind in ("Softmax", "ScaleBiasSoftmax")]
    assert calls == [forward] * 2
    assert back == [1, 1]


def test_products_rounded_as_a_gpu_writes_them_are_those_rounded_after(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, matrix = (jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for shape in ((40, 64), (48, 64)))
    both = jax.value_and_grad(lambda *pair: jnp.sum(jnp.square(weights._narrow_dot(*pair))), (0, 1))
    expected = both(rows, matrix)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = both(rows, matrix)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype == jnp.bfloat16
        wide = np.asarray(other, np.float32)
        np.testing.assert_allclose(np.asarray(one, np.float32), wide, rtol=0, atol=BFLOAT16 * np.abs(wide).max())
