"""The recipe for web text, from files of several kinds to a report."""

import json
from pathlib import Path

import pytest

from gemwright.data.pipeline.run import run_recipe
from recipes.documents import recipe
from tests.data.rules.test_rules import PROSE

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

STORY = (
    "The old mill at the end of the lane had been silent for thirty years when the children found the key. "
    "It was hidden under a stone that had the shape of a heart, and moss covered all of it. "
    "They took turns to open the heavy door, which groaned and let in the light. "
    "Inside they saw wheels, ropes and a small desk with a letter on it. "
    "The letter was addressed to whoever would be brave enough to come, and it asked them to start the wheel again."
)


def test_web_text_goes_from_files_of_every_kind_to_clean_shards(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    rows = [
        PROSE,
        STORY + " Questions go to miller@example.org.",
        PROSE,
        "Buy now!",
        "As an AI language model, " + STORY,
    ]
    (raw / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows) + "\xff\n", "latin-1")
    (raw / "b.txt").write_text(PROSE.upper().replace("A", "a"), encoding="utf-8")
    (raw / "c.html").write_text(f"<html><body><main><p>{STORY}</p></main></body></html>")
    summary = run_recipe(recipe().with_inputs([str(raw)]), tmp_path / "run").summary()
    assert (summary["in"], summary["quarantined"]) == (8, {"not UTF-8": 1})
    assert summary["dropped"]["exact/duplicate"] == 1
    assert summary["dropped"]["filter/self_identification:speaks of itself as a model"] == 1
    assert summary["counts"]["personal/redacted e-mail"] == 1
    assert summary["in"] == summary["kept"] + sum(summary["dropped"].values()) + 1
    assert (tmp_path / "run" / "report.html").is_file()
