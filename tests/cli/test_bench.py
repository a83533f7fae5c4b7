"""`gemwright bench`, without the processes that it starts."""

import json
import re
from pathlib import Path

import pytest

from gemwright.bench import report
from gemwright.bench.cold import Memory
from gemwright.models.family import PRESETS
from tests.cli.conftest import Run
from tests.tiny import CONFIG


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "first_token_seconds", lambda model, bits: 2.0)
    monkeypatch.setattr(report, "peak_memory", lambda model, bits, prompt, steps: Memory(1000, 600, 100))


def test_the_command_tells_all_as_json_or_as_a_table(tiny_folder: Path, run: Run) -> None:
    small = ("--prompt", 20, "--steps", 3, "--sequences", 2)
    done = run("bench", tiny_folder, "--json", *small)
    assert done.code == 0
    found = json.loads(done.out)
    assert found["first_token_seconds"] == 2.0
    assert found["memory"] == {"peak": 1000, "weights": 600, "cache": 100, "over": 300}
    assert all(found[part]["tokens_per_second"] > 0 < found[part]["share"] for part in ("prefill", "decode", "batch"))
    assert found["machine"]["bandwidth"] > 0 < found["machine_after"]["bandwidth"]
    table = run("bench", tiny_folder, *small).out
    for part in ("read bandwidth", "prefill of 20 tokens", "decoding 2 sequences", "2.00 s", "share of the limit"):
        assert part in table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prompt", 500), "need 536 tokens, the model's context has 128: give a smaller prompt or fewer steps"),
        (("--steps", 0), "expected 1 or more, found 0"),
        (("--bits", 5), "bits: expected 4 or 8, found 5"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(
    tiny_folder: Path, run: Run, options: tuple[object, ...], message: str
) -> None:
    done = run("bench", tiny_folder, *options)
    assert done.code == 1
    assert message in done.err
    assert "Traceback" not in done.err


def test_random_weights_of_a_shape_stand_for_a_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", CONFIG)
    done = run("bench", "--shape", "tiny", "--bits", 8, "--json", "--prompt", 20, "--steps", 3, "--sequences", 2)
    assert json.loads(done.out)["machine"]["products"] == "int8"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shape", "gemma-3b"), "--shape: expected one of gemma-2b, .*, found gemma-3b"),
        (("--shape", "gemma-2b", "--bits", 5), "bits: expected 4 or 8, found 5"),
        (("google/gemma-2b", "--shape", "gemma-2b"), "expected a MODEL or --shape, found both"),
    ],
)
def test_a_shape_that_cannot_be_made_is_refused(run: Run, options: tuple[object, ...], message: str) -> None:
    done = run("bench", *options)
    assert done.code == 1
    assert re.search(message, done.err)
