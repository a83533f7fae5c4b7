import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemwright.training import loop

Run = Callable[..., Any]
FAST = ("--lora", 2, "--epochs", 1, "--batch-tokens", 256, "--rate", 0.01)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    pairs = [{"prompt": f"import {word}", "completion": f"{word} {word}"} for word in "abcdefghijklmnopqrst"]
    path.write_text("\n".join(map(json.dumps, pairs)))
    return path


def test_fine_tuning_ends_with_an_adapter_to_chat_with(run: Run, tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    done = run("sft", tiny_folder, data, "--out", tmp_path / "out", *FAST)
    assert done.code == 0
    assert "19 examples" in done.out
    assert "loss of 1 examples held out: " in done.out
    assert f"gemwright chat {tiny_folder} --adapter {tmp_path / 'out'}" in done.out
    assert run("chat", tiny_folder, "--adapter", tmp_path / "out", "--prompt", "a", "--max-new-tokens", 2).code == 0


def test_a_preview_marks_what_is_learned_and_writes_nothing(
    run: Run, tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    data.write_text(data.read_text().replace('"prompt": "import b"', '"question": 1'))
    done = run("sft", tiny_folder, data, "--preview", 2)
    assert done.code == 0
    assert "<start_of_turn>user\nimport a<end_of_turn>\n<start_of_turn>model\n⟦a a<end_of_turn>\n⟧" in done.out
    assert "cannot be learned from: expected messages, conversations, prompt and completion, or text" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_an_interrupted_run_says_how_to_go_on(
    run: Run, tiny_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop._Loop._batches

    def interrupting(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "_batches", interrupting)
        done = run("sft", tiny_folder, data, "--out", tmp_path / "out", *FAST)
    assert done.code == 130
    assert "stopped after step 1 of " in done.err
    assert "the same command goes on" in done.err
    assert run("sft", tiny_folder, data, "--out", tmp_path / "out", *FAST).code == 0


def test_what_is_wrong_is_told_before_anything_is_trained(
    run: Run, tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    missing = run("sft", tiny_folder, data)
    assert (missing.code, missing.out) == (1, "")
    assert missing.err.startswith("error: --out: expected a folder to write")
    data.write_text("{}")
    bad = run("sft", tiny_folder, data, "--out", tmp_path / "out")
    assert bad.code == 1
    assert "data.jsonl, row 1: expected messages" in bad.err
    assert "Traceback" not in bad.err
    assert not (tmp_path / "out").exists()
