"""Mixtures are ranked by proxies: the one with the source that is asked for wins, and a second run trains nothing."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gemwright.data.pipeline.recipe import Recipe
from gemwright.data.pipeline.run import run_recipe
from gemwright.training import ablation as room
from gemwright.training.ablation import Ablation, Score, Size, ablate, read_ablation

# Daft leaves a pipe of its workers to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def trial(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    """Documents that count, of which some are held out, and noise, of which none is."""
    folder, rng = tmp_path_factory.mktemp("ablation"), random.Random(0)
    counting = [" ".join(str(n % 10) for n in range(start, start + 60)) for start in range(60)]
    noise = ["".join(rng.choice("qxzjkvw ") for _ in range(120)) for _ in range(60)]
    for name, texts in (("counting", counting), ("noise", noise)):
        held = ["heldout" if name == "counting" and n % 5 == 0 else "train" for n in range(len(texts))]
        rows = [json.dumps({"text": text, "split": split}) for text, split in zip(texts, held, strict=True)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    run_recipe(Recipe((str(folder),), tokenizer=str(tiny_folder)).with_inputs([str(folder)]), folder.with_name("run"))
    candidates = {"noisy": {"counting": 0.05, "noise": 1.0}, "count/only": {"counting": 1.0}}
    return Ablation(folder.with_name("run"), tiny_folder, candidates, (Size(32, 1, 40),), (0, 1), 32, 512, lr=1e-2)


def test_the_better_mixture_ranks_first_and_nothing_is_trained_twice(
    trial: Ablation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mixture reads the held-out kind of text twenty times as often as the other: no seed changes who wins."""
    said: list[str] = []
    ranking = ablate(trial, tmp_path, said.append)
    assert [one.name for one in ranking] == ["count/only", "noisy"]
    assert ranking[0].total.mean < 0.9 * ranking[1].total.mean
    assert ranking[0].sources == {"counting": ranking[0].total}
    assert (len(said), "about" in said[-1]) == (4, True)
    assert (tmp_path / "ranking.png").stat().st_size > 5000
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [(row["tokens"], row["parameters"] > 5000, row["loss"] > 0) for row in runs] == [(40 * 512, True, True)] * 4

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(room, "_train_proxy", refuse)
    assert ablate(trial, tmp_path) == ranking
    with pytest.raises(ValueError, match="holds a proxy with another lr"):
        ablate(replace(trial, lr=1.0), tmp_path)


def test_an_interval_is_students() -> None:
    """Two values: t is 12.706; three: 4.303 (tables of Student's distribution)."""
    score = Score.of([1.0, 1.2])
    assert (score.mean, round(score.margin, 3)) == (pytest.approx(1.1), 1.271)
    assert round(Score.of([1.0, 1.1, 1.2]).margin, 4) == 0.2484


WRONG: dict[str, tuple[Callable[[Ablation], Ablation], str]] = {
    "no run": (lambda trial: replace(trial, documents=Path("none")), "expected a run that ended in tokens"),
    "another source": (lambda trial: replace(trial, candidates={"a": {"nope": 1.0}}), "unknown sources"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_cannot_be_tried_is_told(mistake: str, trial: Ablation, tmp_path: Path) -> None:
    change, message = WRONG[mistake]
    with pytest.raises(ValueError, match=message):
        ablate(change(trial), tmp_path)


def test_one_seed_and_recipes_without_an_ablation_are_refused(trial: Ablation, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two different seeds"):
        replace(trial, seeds=(1, 1))
    (tmp_path / "r.py").write_text("def ablation():\n    return 1 / 0\n")
    with pytest.raises(ValueError, match=r"r\.py, line 2: ZeroDivisionError"):
        read_ablation(tmp_path / "r.py")
    (tmp_path / "r.py").write_text("")
    with pytest.raises(ValueError, match="expected a function ablation"):
        read_ablation(tmp_path / "r.py")
