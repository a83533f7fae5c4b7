import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gemwright.cli.main import app

VERBS = [
    "chat",
    "generate",
    "embed",
    "shield",
    "models",
    "summary",
    "convert",
    "quantize",
    "sft",
    "recipe",
    "merge",
    "bench",
    "tokenizer",
    "data",
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_help_lists_every_verb() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert all(verb in result.stdout for verb in VERBS)


def test_help_brings_in_no_jax() -> None:
    """It would take seconds, and help is asked for often."""
    program = """
import sys
from gemwright.cli.main import main
for verb in sys.argv[1:]:
    sys.argv = ["gemwright", verb, "--help"]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0
print("heavy:", sorted({"jax", "numpy", "sentencepiece", "tokenizers", "huggingface_hub"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program, *VERBS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
