"""The whole chain at the size of seconds: stopped in a stage and between two, it ends as if it had not been."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from gemwright.data.documents import Document
from gemwright.data.mixture import Mixture
from gemwright.data.packing import Batch
from gemwright.gemma_mini import language, stages
from gemwright.gemma_mini.course import Done
from gemwright.gemma_mini.recipe import gemma_mini
from gemwright.gemma_mini.sizes import Sizes
from gemwright.models.gemma import gemma1
from gemwright.training.loop import Interrupted

MODEL = gemma1(
    vocab_size=640, embed_dim=32, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64, max_positions=128
)
SIZES = Sizes(MODEL, pretraining=6, examples=60, pairs=40, reinforcement=2, questions=12, documents=3)
MODELS = ("1-pretrain", "2-sft", "3-reward", "4-rlhf")


@pytest.fixture(scope="module", autouse=True)
def little_prose() -> Iterator[None]:
    """The library's own takes seconds to be read."""
    told = [line for one in language.sheets("train", 9, 40) for line in one.text.splitlines()]

    def prose(_: int) -> Iterator[Document]:
        for number in range(40):
            text = "\n".join(told[20 * number : 20 * number + 20])
            yield Document(f"{number}", "prose", text, "heldout" if number < 4 else "train")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language, "prose", prose)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Done]]:
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, gemma_mini(out, sizes=SIZES, say=lambda _: None)


def test_every_stage_leaves_its_model_its_measure_and_its_part_of_the_page(whole: tuple[Path, list[Done]]) -> None:
    out, done = whole
    assert [one.name for one in done] == ["pretrain", "sft", "reward", "rlhf", "evaluate"]
    assert all((out / name / "model" / "model.safetensors").exists() for name in MODELS)
    assert len(done[0].outcome.curve) == 6
    assert done[0].outcome.before.mean > 1
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(f"<h2>{one.name}</h2>" in page for one in done)
    assert page.count("<svg") == 4
    for one in done:
        kept = json.loads((out / f"{done.index(one) + 1}-{one.name}" / "outcome.json").read_text())
        assert kept["improved"] == (kept["gain"]["low"] > 0)


def test_a_chain_that_was_stopped_ends_as_if_it_had_not_been(
    whole: tuple[Path, list[Done]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C amid the pretraining, then after each model is written and before it is measured."""
    out = tmp_path / "out"
    batch = Mixture.batch

    def interrupted(self: Mixture, step: int, rows: int, length: int) -> Batch:
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        return batch(self, step, rows, length)

    with monkeypatch.context() as patch:
        patch.setattr(Mixture, "batch", interrupted)
        with pytest.raises(Interrupted, match=r"stopped after step \d of 6"):
            gemma_mini(out, sizes=SIZES, say=lambda _: None)
    for name in ("pretrain", "sft", "reward", "rlhf"):
        with monkeypatch.context() as patch:
            patch.setattr(stages, name, struck_after(getattr(stages, name)))
            with pytest.raises(KeyboardInterrupt):
                gemma_mini(out, sizes=SIZES, say=lambda _: None)
    done = gemma_mini(out, sizes=SIZES, say=lambda _: None)
    assert [one.outcome.to_json() for one in done] == [one.outcome.to_json() for one in whole[1]]
    for name in MODELS:
        ours, theirs = (load_file(folder / name / "model" / "model.safetensors") for folder in (out, whole[0]))
        assert all(np.array_equal(ours[weight], theirs[weight]) for weight in theirs), name


def struck_after(work: Callable[..., Any]) -> Callable[..., Any]:
    def done(*given: Any, **settings: Any) -> None:
        work(*given, **settings)
        raise KeyboardInterrupt

    return done


def test_sizes_grow_with_the_minutes_and_examinations_stay() -> None:
    short, usual = Sizes.of(5), Sizes.of(50)
    assert usual == Sizes()
    assert 10 * short.pretraining == usual.pretraining
    assert short.questions == usual.questions
