from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemwright.checkpoints.peft_writer import save_adapter
from gemwright.model import Model, load
from gemwright.tuning.lora import Plan, adapt
from tests.tiny import CONFIG
from tests.tuning.test_lora import sharp

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def adapter(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "one"
    save_adapter(folder, CONFIG, sharp(adapt(CONFIG, tiny.weights, Plan(rank=3)), 1))
    return folder


def test_an_adapter_changes_what_is_generated(run: Run, tiny_folder: Path, tiny: Model, adapter: Path) -> None:
    done = run("generate", tiny_folder, "--adapter", adapter, "--prompt", "import", "--max-new-tokens", 12)
    expected = tiny.with_adapter(adapter).generate("import", 12)
    assert (done.code, done.out, done.err) == (0, expected + "\n", "")
    assert expected != tiny.generate("import", 12)


def test_a_merged_model_answers_as_the_adapted_one(
    run: Run, tiny_folder: Path, tiny: Model, adapter: Path, tmp_path: Path
) -> None:
    done = run("merge", tiny_folder, adapter, tmp_path / "merged")
    assert (done.code, done.err) == (0, "")
    adapted = tiny.with_adapter(adapter)
    assert load(tmp_path / "merged").generate("import", 12) == adapted.generate("import", 12)
    again = run("merge", tiny_folder, adapter, tmp_path / "merged")
    assert (again.code, again.out) == (1, "")
    assert "is there already and not empty" in again.err


def test_an_adapter_of_another_model_is_one_line_on_standard_error(
    run: Run, griffin_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    done = run("generate", griffin_folder, "--adapter", adapter, "--prompt", "x")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert "another base?" in done.err
    assert done.err.count("\n") == 1
    missing = run("generate", griffin_folder, "--adapter", tmp_path / "none", "--prompt", "x")
    assert (missing.code, missing.err) == (1, f"error: {tmp_path / 'none'}: no such folder\n")


def test_a_packed_base_runs_with_an_adapter_and_is_not_merged(tiny_folder: Path, adapter: Path) -> None:
    packed = load(tiny_folder, bits=8).with_adapter(adapter)
    assert packed.generate("import", 12) != load(tiny_folder, bits=8).generate("import", 12)
    with pytest.raises(ValueError, match="packed with 8 bits"):
        packed.merged()


def test_a_model_serves_several_adapters_beside_its_own_answers(tiny: Model, adapter: Path) -> None:
    assert tiny.with_adapters([adapter, adapter]).generate("import", 12) == tiny.generate("import", 12)


def test_a_model_without_an_adapter_has_nothing_to_merge(tiny: Model) -> None:
    with pytest.raises(ValueError, match="expected a model with an adapter to merge, found none"):
        tiny.merged()
