"""A linear model tells texts apart that differ in their words, and says the same after a trip to disk."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.data.rules.batch import Batch
from gemwright.data.rules.features import COUNT, features
from gemwright.data.rules.learned import Learned, area_under_curve, learn, learn_from, load_model, quality
from tests.data.rules.test_rules import PROSE

GOOD = ["harbour", "lantern", "meadow", "orchard", "village", "winter", "candle", "bread", "garden", "stone"]
BAD = ["casino", "bonus", "click", "jackpot", "winner", "cheap", "discount", "offer", "subscribe", "viral"]
BOTH = ["the", "a", "of", "and", "in", "on", "with", "for", "to", "by"]


def examples(count: int, seed: int) -> tuple[list[str], list[bool]]:
    """Texts of mostly common words; one word in five tells."""
    rng = random.Random(seed)
    labels = [n % 2 == 0 for n in range(count)]
    kinds = [GOOD if label else BAD for label in labels]
    return [" ".join(rng.choice(k if rng.random() < 0.2 else BOTH) for _ in range(30)) for k in kinds], labels


def test_new_texts_are_told_apart_and_the_file_says_the_same(tmp_path: Path) -> None:
    """The seeds are fixed, so that luck has no part."""
    model = learn(*examples(200, 0))
    texts, labels = examples(200, 1)
    scores = model.scores(texts)
    assert area_under_curve(scores, np.array(labels)) > 0.98
    model.save(tmp_path / "new" / "quality")
    np.testing.assert_allclose(load_model(tmp_path / "new" / "quality").scores(texts), scores, atol=1e-2)
    kept = Learned(str(tmp_path / "new" / "quality"), "below", 0.5, name="quality")(Batch(texts)).reasons
    assert np.mean([(reason is None) == label for reason, label in zip(kept, labels, strict=True)]) > 0.95


def test_files_of_examples_make_a_model(tmp_path: Path) -> None:
    texts, labels = examples(200, 0)
    for name, wanted in (("good", True), ("bad", False)):
        (tmp_path / name).mkdir()
        for n, (text, label) in enumerate(zip(texts, labels, strict=True)):
            if label == wanted:
                (tmp_path / name / f"{n}.txt").write_text(text)
    held, right = learn_from([str(tmp_path / "good")], [str(tmp_path / "bad")], tmp_path / "m.npz")
    assert 20 < held < 60
    assert right > 0.9
    with pytest.raises(ValueError, match="too few to learn"):
        learn_from([str(tmp_path / "good" / "0.txt")], [str(tmp_path / "bad" / "1.txt")], tmp_path / "m.npz")


def test_the_model_in_the_package_finds_abuse_and_bears_prose() -> None:
    rude = "You are a stupid worthless idiot, shut your fucking mouth you piece of shit."
    assert Learned()(Batch([PROSE, rude, PROSE + " " + rude])).reasons[:2] == [None, "score above 0.85"]


def test_the_quality_model_in_the_package_keeps_prose_and_drops_what_is_none() -> None:
    """Nothing here was learned from; recipes/quality.py has the shares on held-out texts."""
    code = 'def area(radius: float) -> float:\n    """Of a circle."""\n    return math.pi * radius**2\n' * 5
    offers = (
        "WIN a FREE phone!! Txt CLAIM to 80082 now, call 0900 123 456, 150p/msg T&Cs apply. Ur reward expires! " * 5
    )
    menu = "Home | About Us | Contact | Login | Register | Privacy Policy | Terms | Sitemap | My Cart | Help\n" * 5
    words = "cheap flights, hotel, deals, paris, holiday, booking, london, discount, car hire, insurance, " * 5
    garbage = "".join(random.Random(0).choice("abcdefgh01 .,;{}<>=/") for _ in range(500))
    assert quality()(Batch([PROSE, code])).reasons == [None, None]
    bad = [offers, menu, words, garbage]
    assert quality()(Batch(bad)).reasons == ["score below 0.2"] * 4
    assert quality()(Batch([])).reasons == []
    assert quality()(Batch([PROSE + offers * 9])).reasons == ["score below 0.2"], "the mean of a text's parts counts"


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.text(max_size=60), max_size=6))
def test_texts_have_the_same_features_alone_and_together(texts: list[str]) -> None:
    together = features(texts)
    for n, text in enumerate(texts):
        alone = features([text]).numbers
        assert together.numbers[together.starts[n] : together.starts[n + 1]].tolist() == alone.tolist()
        assert len(set(alone.tolist())) == len(alone)
        assert not len(alone) or 0 <= alone[0] <= alone[-1] < COUNT


def test_long_texts_which_are_not_taken_all_at_once_have_the_same_features() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(GOOD + BOTH, k=size)) for size in (20_000, 20_000, 0, 2, 50_000, 1)]
    assert sum(map(len, texts)) > 1 << 18, "several groups"
    together = features(texts)
    assert together.starts[-1] == len(together.numbers)
    for text, begin, end in zip(texts, together.starts, together.starts[1:], strict=False):
        assert together.numbers[begin:end].tolist() == features([text]).numbers.tolist()


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", other=np.zeros(3))
    with pytest.raises(ValueError, match="expected a model written by `gemwright data learn`"):
        load_model(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="examples of both labels"):
        learn(["a", "b"], [True, True])
