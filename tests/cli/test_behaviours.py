import gzip
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


def test_a_row_that_no_text_file_holds_is_set_aside_and_the_others_stay(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    rows, kept = tmp_path / "rows.jsonl", tmp_path / "kept.jsonl.gz"
    turn = '{{"prompt": "What is {0}?", "completion": "It is {0}."}}\n'
    rows.write_text(turn.format("one") + turn.format("\\ud800") + turn.format("a house, seen from the sea"))
    told = json.loads(run("data", "examples", rows, "--output", kept, "--json").out)
    assert (told["in"], told["kept"]) == (3, 2)
    assert "half a surrogate pair" in (tmp_path / "kept.jsonl.gz.quarantine.jsonl").read_text()
    with gzip.open(kept, "rt") as lines:
        assert [json.loads(line)["prompt"] for line in lines] == ["What is one?", "What is a house, seen from the sea?"]
