import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_rows_are_generated_and_filtered(run: Callable[..., Any], tmp_path: Path) -> None:
    made, kept = tmp_path / "made.jsonl", tmp_path / "kept.jsonl"
    assert run("data", "behaviours", "--output", made, "--count", 30).code == 0
    assert len(made.read_text().splitlines()) == 30
    told = json.loads(run("data", "examples", made, "--output", kept, "--repeats", "exact", "--json").out)
    assert told["in"] == 30
    assert told["kept"] == len(kept.read_text().splitlines()) > 20
    wrong = run("data", "behaviours", "--output", made, "--kinds", "praise")
    assert wrong.code == 1
    assert "expected some of attribution, hedging, refusal, found 'praise'" in wrong.err
