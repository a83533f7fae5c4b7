"""`gemwright convert`."""

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.load import load_checkpoint
from gemwright.cli.convert import convert
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import assert_same

app = typer.Typer()
app.command()(convert)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_folder_is_converted_with_its_tokenizer_and_one_line_is_printed(
    folder: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    tokenizer.save(folder)
    result = run(folder, tmp_path / "out", "--dtype", "float32")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'out'}: gemma2, float32, 0.00 GB, with its tokenizer\n"
    converted = load_checkpoint(tmp_path / "out")
    assert_same(converted.weights, load_checkpoint(folder, dtype=np.float32).weights)
    assert converted.tokenizer is not None


def test_nothing_is_overwritten_unless_asked(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path / "out").exit_code == 0
    assert isinstance(run(folder, tmp_path / "out").exception, CheckpointError)
    assert run(folder, tmp_path / "out", "--overwrite", "--dtype", "float32").exit_code == 0
    assert load_checkpoint(tmp_path / "out").weights.embedding.dtype == np.float32


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x" * 99)])
def test_a_failure_leaves_no_folder(folder: Path, tmp_path: Path, damage: object) -> None:
    damage(folder / "model.safetensors")  # type: ignore[operator]
    assert isinstance(run(folder, tmp_path / "out").exception, CheckpointError)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_type_that_cannot_be_stored_is_a_usage_error(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path / "out", "--dtype", "float16").exit_code == 2
