import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"import {word}", "chosen": word, "rejected": "value"} for word in "abcdefghijklmnopqrst"]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_reward_model_rewards_a_policy(run: Run, tiny_folder: Path, pairs: Path, tmp_path: Path) -> None:
    fast = ("--batch-tokens", 128, "--rate", 0.01)
    done = run("reward", tiny_folder, pairs, tmp_path / "reward", *fast)
    assert done.code == 0
    assert "right about " in done.out
    assert "of 2 pairs held out" in done.out
    settings = ("--steps", 1, "--prompts-a-step", 2, "--samples", 2, "--max-new-tokens", 3, "--slots", 4)
    said = run("rlhf", tiny_folder, pairs, tmp_path / "policy", "--reward", tmp_path / "reward", *settings, "--json")
    assert said.code == 0
    told = json.loads(said.out)
    assert (told["steps"], told["held_out"], told["faults"]) == (1, 2, 0)
    assert told["share_of_speed"] > 0
    assert run("dpo", tiny_folder, pairs, tmp_path / "tuned", "--loss", "orpo", *fast).code == 0


def test_what_is_wrong_is_told_before_anything_is_trained(
    run: Run, tiny_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    for arguments, why in (
        (("rlhf", tiny_folder, pairs, tmp_path / "out", "--reward", "luck"), "reward 'luck': expected a folder of"),
        (
            ("rlhf", tiny_folder, pairs, tmp_path / "out", "--reward", "exact"),
            "row 1: expected a text or a number as 'ans",
        ),
        (("rlhf", tiny_folder, pairs, tmp_path / "out", "--reward", "sql:no.db"), "no.db: expected an SQLite database"),
        (("rlhf", tiny_folder, pairs, tmp_path / "out", "--reward", "exact", "--watch-every", 5), "needs a rater"),
        (("reward", tiny_folder, tmp_path / "none", tmp_path / "out"), "none: no such file or folder"),
        (("dpo", tiny_folder, pairs, tmp_path / "out", "--bits", 4), "give its rank too"),
    ):
        done = run(*arguments)
        assert done.code == 1
        assert why in done.err
        assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()
