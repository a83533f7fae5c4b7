"""Measurements are of the work they name, and shares of the limit that follows from it. No times are asserted."""

from pathlib import Path

import jax
import pytest

from gemwright.bench import cold, report, speed
from gemwright.bench.cold import Memory, peak_memory
from gemwright.bench.report import Plan, Report, measure
from gemwright.bench.speed import Machine, measure_decode, measure_machine, measure_prefill, weight_bytes
from gemwright.core.cache import SPARE
from gemwright.core.module import named_leaves
from gemwright.kernels import native
from gemwright.model import Model, load
from gemwright.models.gemma import Gemma

SECONDS = 0.5


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that finds half a second for everything, which is done all the same."""

    def seconds_of(action) -> float:
        action()
        return SECONDS

    monkeypatch.setattr(speed, "seconds_of", seconds_of)


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "first_token_seconds", lambda model, bits: 2.0)
    monkeypatch.setattr(report, "peak_memory", lambda model, bits, prompt, steps: Memory(1000, 600, 100))


def matrices(model: Model) -> tuple[int, int]:
    """Weights of the head, and of all other matrices."""
    sizes = {name: s.size for name, s in named_leaves(Gemma.specs(model.config)).items() if len(s.shape) > 1}
    head = sizes.pop("embedding")
    return head, sum(sizes.values())


@pytest.mark.usefixtures("steady")
def test_a_slow_memory_limits_decoding_by_the_bytes_of_all_weights(tiny: Model) -> None:
    size = weight_bytes(tiny.weights)
    assert size == sum(leaf.nbytes for leaf in jax.tree.leaves(tiny.weights))
    found = measure_decode(tiny.weights, tiny.config, Machine(2 * size, None, "float32"), 20, 3, sequences=4)
    assert (found.tokens_per_second, found.limit) == (4 / SECONDS, "reads")
    assert found.share == pytest.approx(1.0)  # half a second a reading, and half a second a step


@pytest.mark.usefixtures("steady")
def test_slow_products_limit_prefill_by_two_operations_a_weight_and_token(tiny: Model) -> None:
    head, inner = matrices(tiny)
    found = measure_prefill(tiny.weights, tiny.config, Machine(1e15, 1e6, "float32"), 40)
    assert (found.tokens_per_second, found.limit) == (40 / SECONDS, "products")
    assert found.share == pytest.approx(2 * (40 * inner + head) / 1e6 / SECONDS)


@pytest.mark.usefixtures("steady")
def test_a_matrix_unit_limits_prefill_alone(tiny: Model) -> None:
    machine, size = Machine(1e15, 1.0, "float32", matrix_peak=1e6), sum(matrices(tiny))
    assert measure_prefill(tiny.weights, tiny.config, machine, 40).share < 2 * 40 * size / 1e6 / SECONDS * 1.01
    assert measure_decode(tiny.weights, tiny.config, machine, 20, 3).share > size / SECONDS


def test_packed_weights_are_measured_against_integers(tiny: Model, tiny_folder: Path) -> None:
    assert measure_machine(tiny.weights).products == "float32"
    machine = measure_machine(load(tiny_folder, bits=4).weights)
    assert (machine.products, machine.peak is None) == ("int8", not native.available())


def test_a_process_tells_the_memory_it_took(tiny: Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, memory = cold._run(tiny_folder, None, 20, 3)
    assert seconds > 0.1
    assert memory.weights == weight_bytes(tiny.weights)
    heads = 2 * tiny.config.num_kv_heads * tiny.config.head_dim * 4  # keys and values, float32
    assert memory.cache == (24 + SPARE + 128) * (heads + 4)  # its ring and its context, and their positions
    assert memory.peak > 50e6  # Python and JAX alone take more
    assert memory.over == memory.peak - memory.weights - memory.cache


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a fresh process could not run the model: .*nowhere"):
        peak_memory(tmp_path / "nowhere")


@pytest.mark.usefixtures("no_processes")
def test_the_machine_is_read_before_and_after(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bandwidths = iter([3.0, 5.0])
    monkeypatch.setattr(report, "measure_machine", lambda weights: Machine(next(bandwidths), 1.0, "float32"))
    said: list[str] = []
    found = measure(tiny_folder, None, Plan(20, 3, 2), said.append)
    assert isinstance(found, Report)
    assert (found.machine.bandwidth, found.machine_after.bandwidth) == (3.0, 5.0)
    assert said[0] == "loading"
    assert said[-1].startswith("peak memory")
