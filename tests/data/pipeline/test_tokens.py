"""Tokens of the kept documents, and the way back from a token to its document."""

import json
from pathlib import Path

import numpy as np
import pytest

from gemwright.data.packing import Rows
from gemwright.data.pipeline.recipe import Filter, Recipe
from gemwright.data.pipeline.run import run_recipe
from gemwright.data.pipeline.tokens import Place, streams_by_source, trace
from gemwright.data.rules.blocked import BlockList
from gemwright.text.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TEXTS = ["def first():\n    return 1", "bad words", "class Second:\n    pass", "held out text", "third <bos> text"]


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    rows = [{"id": f"d{n}", "text": t, "split": "heldout" if n == 3 else "train"} for n, t in enumerate(TEXTS)]
    for name, part in (("a", rows[:2]), ("b", rows[2:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    steps = (Filter((BlockList(("bad",)),)),)
    recipe = Recipe((str(folder / "a.jsonl"), str(folder / "b.jsonl")), steps, tokenizer=str(tiny_folder))
    run_recipe(recipe, folder / "run")
    return folder / "run"


def test_each_split_is_one_stream_of_its_documents_between_bos_and_eos(
    finished: Path, tiny_tokenizer: Tokenizer
) -> None:
    expected = {"train": [TEXTS[0], TEXTS[2], TEXTS[4]], "heldout": [TEXTS[3]]}
    for split, texts in expected.items():
        stream = np.load(finished / "tokens" / f"{split}.npy")
        ids = [[tiny_tokenizer.bos_id, *tiny_tokenizer.encode(t), tiny_tokenizer.eos_id] for t in texts]
        assert stream.tolist() == [id for document in ids for id in document]
        assert (stream == tiny_tokenizer.bos_id).sum() == len(texts), "a text that spells BOS has none"
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["tokens"]["train"] == len(np.load(finished / "tokens" / "train.npy"))
    Rows(np.load(finished / "tokens" / "train.npy", mmap_mode="r"), tiny_tokenizer.bos_id, 0).batch(0, 1, 8)


def test_every_token_is_traced_to_its_document(finished: Path, tiny_tokenizer: Tokenizer) -> None:
    stream = np.load(finished / "tokens" / "train.npy")
    places = [trace(finished, "train", index) for index in range(len(stream))]
    starts = [index for index, place in enumerate(places) if place.token == 0]
    assert starts == np.flatnonzero(stream == tiny_tokenizer.bos_id).tolist()
    assert [places[index] for index in starts] == [Place("d0", "a", 0), Place("d2", "b", 0), Place("d4", "b", 0)]
    with pytest.raises(IndexError, match="the train stream has"):
        trace(finished, "train", len(stream))


def test_a_stream_comes_apart_by_source(finished: Path) -> None:
    streams, whole = streams_by_source(finished), np.load(finished / "tokens" / "train.npy")
    assert list(streams) == ["a", "b"]
    assert np.concatenate([streams["a"], streams["b"]]).tolist() == whole.tolist()


def test_the_report_tells_what_was_dropped_and_hides_no_markup(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "5 documents in, 4 kept (80.0%)" in page
    assert "block_list:phrase" in page
    assert "<b>d1</b>" in page
    assert "<script" not in page


def plot_of(page: str, title: str) -> list[str]:
    """The texts of the plot under a title; fails where it is no well-formed drawing."""
    import xml.etree.ElementTree as ElementTree

    plot = page.partition(f"<h2>{title}</h2>")[2]
    plot = plot[plot.index("<svg") : plot.index("</svg>") + 6]
    return [text for text in ("".join(e.itertext()) for e in ElementTree.fromstring(plot).iter("text")) if text]


def test_plots_show_each_step_source_and_length(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert plot_of(page, "What each step kept and dropped") == ["filter", "4", "– block_list:phrase", "1"]
    assert plot_of(page, "Documents by source") == ["b", "3", "3", "a", "2", "1"]
    tokens = json.loads((finished / "tokens" / "manifest.json").read_text())
    sums = {source: len(stream) for source, stream in streams_by_source(finished).items()}
    sums["b"] += tokens["tokens"]["heldout"]
    assert tokens["sources"] == sums
    assert plot_of(page, "Tokens by source")[1:3] == ["b", f"{sums['b']:,} ({sums['b'] / sum(sums.values()):.1%})"]


def test_what_is_many_is_shown_as_a_few_and_the_rest() -> None:
    from gemwright.data.pipeline import plots

    many = {f"reason {n} <&>": 100 - n for n in range(20)}
    page = f"<h2>x</h2>{plots.flow([('web', 10, many)])}"
    assert plot_of(page, "x")[-2:] == ["– 12 other reasons", "1,038"]
    assert "reason 0 &lt;&amp;&gt;" in page
    page = f"<h2>x</h2>{plots.lengths({'5': 4, '11': 2}, {'5': 1})}"
    assert plot_of(page, "x") == ["2", "4", "16", "32", "64", "128", "256", "512", "1K"]
