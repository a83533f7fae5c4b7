"""One dial sets the rest: the model has nearly the size that was asked for, and every run can be taken."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.kernels import native
from gemwright.training.pretrain import pretrain
from recipes import mini, sized


@settings(derandomize=True, deadline=None, max_examples=30)
@given(size=st.floats(6.1, 10.9).map(lambda power: int(10**power)), accelerator=st.booleans())
def test_a_model_has_nearly_the_size_and_its_run_fits_it(size: int, accelerator: bool) -> None:
    run = sized.run(size, accelerator)
    model = run.model
    assert 0.6 < sized.parameters(model) / size < 1.7
    assert model.vocab_size * model.embed_dim < 0.5 * sized.parameters(model) or model.vocab_size == 4096
    for stage in run.stages:
        assert run.tokens_per_step % stage.length == 0
        assert stage.length <= model.max_positions
    assert abs(run.steps * run.tokens_per_step / (20 * size) - 1) < 0.05


def test_the_dial_at_the_default_models_size_gives_what_was_measured_there() -> None:
    for accelerator, measured in ((True, 1e-2), (False, 4e-3)):
        run = sized.run(4_000_000, accelerator)
        default = mini.run(accelerator)
        assert run.tokens_per_step == default.tokens_per_step
        assert run.model.embed_dim == default.model.embed_dim
        assert run.optimizer.lr == pytest.approx(measured, rel=0.01) == default.optimizer.lr


def test_larger_models_take_lower_rates() -> None:
    rates = [sized.run(size, accelerator=True).optimizer.lr for size in (4_000_000, 300_000_000, 7_000_000_000)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("text", ["", "big", "12X", "10k", "-4M", "200B", "4M M"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected parameters from 1M to 100B"):
        sized.parse_size(text)


def test_sizes_are_read() -> None:
    assert [sized.parse_size(text) for text in ("4M", "1.5B", "2000000", " 3m ")] == [4e6, 1.5e9, 2e6, 3e6]


@pytest.mark.parametrize("narrow", [True, False])
def test_products_are_narrow_where_that_is_faster(narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "multiplies_bfloat16", lambda: narrow)
    assert sized.pretraining("4M").run.compute.dtype == ("bfloat16" if narrow else "float32")


def test_the_smallest_dial_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini, "standard_library", list)
    monkeypatch.setattr(sized, "vocabulary", lambda size: 600)
    (tmp_path / "corpus").mkdir()
    words = " ".join(f"{number:x} is {number}, and {number * 37 % 4099} follows." for number in range(3000))
    (tmp_path / "corpus" / "text.txt").write_text(words)
    recipe = sized.pretraining("1M", tmp_path / "corpus", tokens=40_960)
    assert recipe.run.steps == 20
    assert pretrain(recipe, tmp_path / "out", until=1).exists()
