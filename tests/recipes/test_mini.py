import argparse
import inspect
import json
import re
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.data.documents import Document
from gemwright.model import load
from gemwright.models.gemma import gemma1
from gemwright.text.tokenizer import Tokenizer
from gemwright.training.pretrain import pretrain
from gemwright.training.run import Optimizer, Run, Stage
from recipes import mini

like_a_property = settings(derandomize=True, deadline=None, max_examples=200)
texts = st.text("ab. \n", max_size=80)


@like_a_property
@given(text=texts, longest=st.integers(1, 30))
def test_passages_lose_nothing_but_newlines_where_they_are_cut(text: str, longest: int) -> None:
    found = list(mini.passages(text, longest))
    assert re.sub(r"\s", "", "".join(found)) == re.sub(r"\s", "", text)
    for passage in found:
        assert passage in text
        assert len(passage) <= longest or not re.search(r"\S\n\n", passage[:-1]), "longer only where no blank line is"


@like_a_property
@given(text=st.text("ab. ,\n", max_size=300))
def test_an_opening_and_its_rest_make_the_passage(text: str) -> None:
    opening, rest = mini.split_opening(text)
    assert re.sub(r"\s", "", opening + rest) == re.sub(r"\s", "", text)
    assert not rest or len(opening) <= 200


@pytest.mark.parametrize("text", ["A story, told in a single breath, <bos> and all. The end.", "no pause", "x" * 500])
def test_an_example_has_one_bos_and_can_be_packed(tiny_tokenizer: Tokenizer, text: str) -> None:
    for ids in (mini.chat_example(text, tiny_tokenizer), mini.plain_example(text, tiny_tokenizer)):
        assert ids[0] == tiny_tokenizer.bos_id
        assert ids.count(tiny_tokenizer.bos_id) == 1


def test_a_chat_example_is_a_turn_and_its_answer(tiny_tokenizer: Tokenizer) -> None:
    ids = mini.chat_example("Once upon a time there was a fox. It was red.", tiny_tokenizer)
    shown = tiny_tokenizer.decode(ids, skip_control=False)
    assert re.fullmatch(
        r"<bos><start_of_turn>user\n.*[.]<end_of_turn>\n<start_of_turn>model\nIt was red[.]<end_of_turn>\n", shown
    )


def test_an_epoch_reads_some_of_the_code_and_the_rarest_languages_twice() -> None:
    texts = {"en": "A fox, a café.", "ja": "雨が降る。", "ko": "비가 온다.", "python_code": "def f(): pass"}
    found = [Document(f"{name}-{i}", name, text, "train") for i in range(400) for name, text in texts.items()]
    held_out = [Document("x", "en", "Held out.", "heldout")]
    counts = Counter(d.source for d in mini.mixture(found + held_out, np.random.default_rng(0)))
    assert {name: counts[name] for name in ("en", "ja", "ko")} == {"en": 400, "ja": 800, "ko": 800}
    # 200 of 400 are expected with a standard deviation of 10; the seed fixes the draw.
    assert 160 < counts["python_code"] < 240


@pytest.mark.parametrize("accelerator", [False, True])
def test_the_recipe_fits_the_default_models_limits(accelerator: bool) -> None:
    recipe = mini.run(accelerator)
    for stage in recipe.stages:
        assert recipe.tokens_per_step % stage.length == 0
        assert stage.length <= recipe.model.max_positions
    assert recipe.model.vocab_size == mini.VOCAB_SIZE


def test_the_whole_recipe_runs_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for module in (argparse, textwrap, inspect, json):
        (corpus / f"{module.__name__}.py").write_text(inspect.getsource(module), encoding="utf-8")
    sizes = {"embed_dim": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8, "mlp_dim": 32}
    small = Run(gemma1(vocab_size=700, max_positions=64, **sizes), (Stage(3, 32),), 64, Optimizer(warmup=1))
    monkeypatch.setattr(mini, "VOCAB_SIZE", 700)
    monkeypatch.setattr(mini, "run", lambda accelerator: small)
    monkeypatch.setattr(mini, "documents", lambda folder: list(mini.read_folder(folder)))
    recipe = mini.pretraining(corpus)
    model = load(pretrain(recipe, tmp_path / "out"))
    assert model.config == small.model
    assert isinstance(model.generate("def", 4), str)
    before = (tmp_path / "out" / "stream.npy").stat().st_mtime_ns
    pretrain(recipe, tmp_path / "out")  # again: nothing is left to do, nothing is made anew
    assert (tmp_path / "out" / "stream.npy").stat().st_mtime_ns == before
    (corpus / "more.py").write_text("more = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected the documents that its tokens were made of, found others in"):
        recipe.read(small, tmp_path / "out")
