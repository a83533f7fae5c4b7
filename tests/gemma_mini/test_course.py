"""Stages in their order: each is done once, goes on where it was, and one that gains nothing is named."""

import json
from pathlib import Path

import pytest

from gemwright.gemma_mini.course import Stage, carry_out, failed, folder_of
from gemwright.gemma_mini.outcome import Outcome
from gemwright.gemma_mini.report import verdict, write_report
from gemwright.tuning.intervals import Interval

NAMES = ("first", "second", "third")


def outcome(gain: float, margin: float = 0.1) -> Outcome:
    both = Interval(0.5, 0.4, 0.6, 10)
    samples = [("<b>1 + 1", "3", "2")]
    return Outcome(
        "a share", "the model before", both, both, Interval(gain, gain - margin, gain + margin, 10), {"steps": "7"},
        [3.0, float("nan"), 1.0], "loss", ("question", "before", "after"), samples,
    )  # fmt: skip


class Works:
    """Stages that note their calls; the one of `fails_once` ends by an error the first time."""

    def __init__(self, gains: dict[str, float], fails_once: str = "") -> None:
        self.gains, self.fails, self.calls = gains, fails_once, list[str]()

    @property
    def stages(self) -> list[Stage]:
        return [Stage(name, 1.0, lambda folder, name=name: self.work(name, folder)) for name in NAMES]

    def work(self, name: str, folder: Path) -> Outcome:
        self.calls.append(name)
        assert folder.is_dir()
        if self.fails == name:
            self.fails = ""
            raise KeyboardInterrupt
        return outcome(self.gains.get(name, 0.3))


def test_a_chain_goes_on_at_the_stage_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    whole = carry_out(Works({}).stages, tmp_path / "whole", {"seed": 0}, 3, lambda _: None)
    works, heard = Works({}, fails_once="second"), list[str]()
    with pytest.raises(KeyboardInterrupt):
        carry_out(works.stages, tmp_path / "out", {"seed": 0}, 3, heard.append)
    done = carry_out(works.stages, tmp_path / "out", {"seed": 0}, 3, heard.append)
    assert works.calls == ["first", "second", "second", "third"]
    assert [(one.name, one.outcome.to_json()["gain"]) for one in done] == [
        (one.name, one.outcome.to_json()["gain"]) for one in whole
    ]
    again = carry_out(works.stages, tmp_path / "out", {"seed": 0}, 3, heard.append)
    assert works.calls == ["first", "second", "second", "third"], "what is done is not done twice"
    assert [one.seconds for one in again] == [one.seconds for one in done]


def test_what_is_under_way_and_how_long_it_will_take_is_told(tmp_path: Path) -> None:
    heard = list[str]()
    carry_out(Works({}).stages, tmp_path, {}, 30, heard.append)
    assert heard[0] == "stage 1 of 3: first; 30 min left in all"
    assert heard[1].startswith("stage 1 of 3: first: gained: a share 0.500 (0.400 to 0.600) -> ")
    assert heard[2] == "stage 2 of 3: second; 0 min left in all", "a first stage of no time says that the rest is quick"


def test_the_time_of_all_sessions_is_added_up(tmp_path: Path) -> None:
    works = Works({})
    (tmp_path / "1-first").mkdir()
    (tmp_path / "1-first" / "seconds.json").write_text("100.0")
    assert carry_out(works.stages, tmp_path, {}, 3, lambda _: None)[0].seconds == pytest.approx(100, abs=5)


@pytest.mark.parametrize("gain", [-0.2, 0.0, 0.09])
def test_a_stage_that_gains_nothing_beyond_chance_is_named_and_the_rest_is_done(tmp_path: Path, gain: float) -> None:
    heard = list[str]()
    done = carry_out(Works({"second": gain}).stages, tmp_path, {}, 3, heard.append)
    assert failed(done) == ["second"]
    assert verdict(done, 3) == "not passed: no gain beyond chance in second"
    assert any(text.startswith("stage 2 of 3: second: NO GAIN beyond chance") for text in heard)
    assert len(done) == 3
    assert failed(carry_out(Works({}).stages, tmp_path, {}, 3, heard.append)) == ["second"], "as it was measured"


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    carry_out(Works({}).stages, tmp_path, {"seed": 0, "steps": (1, 2)}, 3, lambda _: None)
    with pytest.raises(ValueError, match="holds a run with seed = 0, now it is 1; give the same command"):
        carry_out(Works({}).stages, tmp_path, {"seed": 1, "steps": (1, 2)}, 3, lambda _: None)


def test_an_outcome_is_read_back_as_it_was() -> None:
    kept = json.loads(json.dumps(outcome(0.2).to_json()))
    assert kept["improved"] is True
    assert Outcome.from_json(kept).gain == outcome(0.2).gain
    assert Outcome.from_json(kept).improved


def test_the_page_needs_nothing_beside_it_and_hides_no_markup(tmp_path: Path) -> None:
    done = carry_out(Works({"third": 0.0}).stages, tmp_path, {}, 3, lambda _: None)
    write_report(tmp_path / "report.html", done, 3, "gemwright recipe gemma-mini --seed=0")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>gemma-mini: not passed: no gain beyond chance in third</h1>" in page
    assert page.count("<svg") == page.count("<polyline") == 3
    assert "&lt;b&gt;1 + 1" in page
    assert not any(mark in page for mark in ("<script", "src=", "http", "<b>1"))
    write_report(tmp_path / "report.html", done[:1], 3, "")
    assert "1 of 3 stages done" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_folders_are_numbered_in_order() -> None:
    assert folder_of(Path("out"), NAMES, "second") == Path("out/2-second")
