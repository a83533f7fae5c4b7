"""Planted repeats are found, originals stay, whatever the order of pieces."""

import itertools
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.planted import edited
from gemwright.data.columns import Columns
from gemwright.data.documents import Document
from gemwright.data.pipeline.shards import ColumnWriter
from gemwright.data.plain import window_hashes, word_hashes, word_spans
from gemwright.data.repeats.exact import Exact
from gemwright.data.repeats.near import Near
from gemwright.data.repeats.passages import Passages
from gemwright.data.rules.batch import Verdicts
from gemwright.data.step import Global

BEGINNINGS, ENDINGS = ("lan", "mor", "tes", "ver", "kun", "pil", "dro", "sha"), ("ta", "ri", "no", "le", "su")
NAMES = [begin + end for begin in BEGINNINGS for end in ENDINGS]


def text_of(number: int, words: int = 80) -> str:
    rng = random.Random(number)
    return " ".join(rng.choice(NAMES) for _ in range(words))


def judged(step: Global, texts: list[str], pieces: int = 1) -> Verdicts:
    """A step over texts that come in some pieces, each sketched and judged apart."""
    documents = [Document(str(n), "s", text, "train") for n, text in enumerate(texts)]
    cuts = [len(texts) * n // pieces for n in range(pieces + 1)]
    sketches = Columns([step.sketch(documents[a:b], a) for a, b in itertools.pairwise(cuts)])
    with tempfile.TemporaryDirectory() as scratch:
        decision = step.decide(sketches, Path(scratch))
    parts = [step.judge(documents[a:b], a, decision) for a, b in itertools.pairwise(cuts)]
    texts = [text for part in parts for text in (part.texts or [])]
    counts = sum((part.counts for part in parts), start=parts[0].counts.__class__())
    return Verdicts([reason for part in parts for reason in part.reasons], texts or None, counts)


@pytest.mark.parametrize("pieces", [1, 3, 7])
def test_the_first_of_equal_texts_stays(pieces: int) -> None:
    texts = [text_of(n) for n in (0, 1, 0, 2, 1, 0, 3)]
    assert judged(Exact(), texts, pieces).reasons == [None, None, "duplicate", None, "duplicate", "duplicate", None]
    loosely = [texts[0], texts[0].upper().replace(" ", ",  "), texts[1]]
    assert judged(Exact(), loosely).reasons == [None] * 3
    assert judged(Exact(loosely=True), loosely).reasons == [None, "duplicate", None]


def test_texts_with_a_tenth_of_their_words_changed_are_found_and_no_others() -> None:
    """Of 200 the expected miss is 0.6 (docstring of Near); the seeds are fixed, so that luck has no part."""
    rng = random.Random(0)
    originals = [text_of(n) for n in range(200)]
    copies = [edited(text, rng, NAMES) for text in originals]
    reasons = judged(Near(), originals + copies, pieces=5).reasons
    assert reasons[:200] == [None] * 200
    assert sum(reason is not None for reason in reasons[200:]) >= 196
    assert judged(Near(), originals * 2).reasons[200:] == ["near duplicate"] * 200


def test_texts_too_short_for_a_window_are_left_alone() -> None:
    assert judged(Near(), ["one two", "one two", "", "삼"]).reasons == [None] * 4
    assert judged(Near(), [], 1).reasons == []


def test_a_signature_agrees_as_often_as_sets_overlap() -> None:
    """1,500 orders: the deviation is 0.013 at most; the seed is fixed."""
    step = Near(words=1, bands=500, rows=3)
    windows = np.random.default_rng(0).integers(1 << 63, size=1400, dtype=np.uint64)
    a, b = windows[:1000], windows[400:]
    orders = step._orders()  # pyright: ignore[reportPrivateUsage]
    first, second = (step._signature(x, orders) for x in (a, b))  # pyright: ignore[reportPrivateUsage]
    assert abs((first == second).mean() - 600 / 1400) < 0.05


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_passage_is_cut_after_its_first_copies(pieces: int) -> None:
    passage = text_of(99, 40)
    texts = [f"{text_of(n, 30)} {passage} {text_of(n + 50, 30)}" for n in range(5)]
    said = judged(Passages(40), texts, pieces)
    assert said.texts is not None
    assert said.texts[0] == texts[0]
    assert said.texts[1:] == [f"{text_of(n, 30)} {text_of(n + 50, 30)}" for n in range(1, 5)]
    assert said.counts == {"words cut": 160, "texts cut": 4}
    capped = judged(Passages(40, copies=3), texts, pieces)
    assert [passage in text for text in capped.texts or []] == [True] * 3 + [False] * 2
    assert judged(Passages(41), texts, pieces).texts == texts, "one word longer than what is repeated"


def test_a_text_of_repeats_alone_is_dropped_and_repeats_inside_one_text_are_cut() -> None:
    passage = text_of(5, 60)
    said = judged(Passages(50), [passage, passage.upper(), f"{passage}. {passage}."])
    assert said.reasons == [None, "repeated passages", "repeated passages"]
    inside = judged(Passages(50), [f"Begin {passage} middle {passage} end"])
    assert inside.texts == [f"Begin {passage} middle end"]


@settings(deadline=None, max_examples=60)
@given(numbers=st.lists(st.integers(0, 3), min_size=1, max_size=40), words=st.integers(2, 4), copies=st.integers(1, 2))
def test_what_is_cut_is_what_a_plain_reading_cuts(numbers: list[int], words: int, copies: int) -> None:
    tokens = [NAMES[n] for n in numbers]
    seen: dict[tuple[str, ...], int] = {}
    marked = [False] * len(tokens)
    for k in range(len(tokens) - words + 1):
        window = tuple(tokens[k : k + words])
        seen[window] = seen.get(window, 0) + 1
        if seen[window] > copies:
            marked[k : k + words] = [True] * words
    said = judged(Passages(words, copies, min_left=0), [" ".join(tokens)])
    assert (said.texts or [""])[0].split() == [t for t, cut in zip(tokens, marked, strict=True) if not cut]


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=80))
def test_every_word_has_a_hash_and_a_place(text: str) -> None:
    hashes, spans = word_hashes(text), word_spans(text)
    assert len(hashes) == len(spans.begins)
    for begin, end, value in zip(spans.begins, spans.ends, hashes, strict=True):
        assert [int(h) for h in word_hashes(text[begin:end])] == [int(value)]


def test_words_are_compared_without_case_punctuation_accents_and_width() -> None:
    same = ["Crème brûlée, please!", "creme  brulee\nplease", "CRÈME (BRÛLÉE) — please…"]
    assert len({word_hashes(text).tobytes() for text in same}) == 1
    assert len(word_hashes("日本語の文")) == 5
    assert len(window_hashes(word_hashes("a b c"), 4)) == 0


def test_columns_are_read_and_taken_alike_from_memory_and_from_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(1 << 40, size=(n, 3)) for n in (5, 0, 1, 500_000)]
    writers = [ColumnWriter(tmp_path / f"{n}.npy") for n in range(len(parts))]
    for writer, part in zip(writers, parts, strict=True):
        for rows in np.array_split(part, 3):
            writer.add(rows)
        writer.close()
    stored, whole = Columns([{"a": writer.path} for writer in writers]), np.concatenate(parts)
    wanted = rng.permutation(len(whole))[:100]
    for columns in (stored, Columns([{"a": part} for part in parts])):
        chunks = list(columns.read("a"))
        assert max(chunk.nbytes for chunk in chunks) <= 8 << 20 < whole.nbytes
        assert (np.concatenate(chunks) == whole).all()
        assert (columns.take("a", wanted) == whole[wanted]).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npy", "1.npy", "2.npy", "3.npy"]


def test_ranges_and_bands_held_apart_decide_what_they_decide_together(monkeypatch: pytest.MonkeyPatch) -> None:
    passage = text_of(99, 60)
    texts = [f"{text_of(n, 30)} {passage} {text_of(n + 50, 30)}" for n in range(40)] + [
        text_of(n) for n in range(9)
    ] * 2
    steps: list[Global] = [Passages(40), Near()]
    before = [judged(step, texts, 3) for step in steps]
    monkeypatch.setattr("gemwright.data.repeats.passages._HELD", 100)
    monkeypatch.setattr("gemwright.data.repeats.near._KEYS", 1)
    monkeypatch.setattr("gemwright.data.repeats.near._PAIRS", 2)
    assert [judged(step, texts, 3) for step in steps] == before
    assert before[0].counts["texts cut"] == 39 + 9
    assert before[1].reasons[-9:] == ["near duplicate"] * 9
