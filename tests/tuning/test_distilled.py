"""Fine-tuning by a teacher: the student's probabilities come near the teacher's at the answers' tokens."""

import json
from pathlib import Path

import numpy as np
import pytest

import gemwright
from gemwright.checkpoints.save import save_checkpoint
from gemwright.data.pairs import pair_of
from gemwright.data.rows import Row
from gemwright.text.tokenizer import Tokenizer
from gemwright.tuning.pair_scores import divergences_of_pairs
from gemwright.tuning.sft import sft
from tests.tiny import CONFIG, sharp_weights


def test_a_student_comes_near_its_teacher(tiny_folder: Path, tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    words = ["import", "json", "class", "return", "value", "self"]
    rows = [{"prompt": f"{a} {b}", "completion": f"{b} {b}"} for a in words for b in words]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    teacher = sharp_weights(CONFIG, seed=1)
    save_checkpoint(tmp_path / "teacher", CONFIG, teacher, tiny_tokenizer)
    done = sft(
        tiny_folder, tmp_path / "data.jsonl", tmp_path / "out", teacher=str(tmp_path / "teacher"), likeliest=720,
        rate=1e-2, epochs=4, batch_tokens=256, held_out=0.2,
    )  # fmt: skip
    pairs = [
        pair_of(
            Row(Path("x"), 1, {"prompt": row["prompt"], "chosen": row["completion"], "rejected": "x"}),
            tiny_tokenizer,
            99,
        )
        for row in rows[:8]
    ]
    student, before = (gemwright.load(folder).weights for folder in (done.folder, tiny_folder))
    distances = [divergences_of_pairs(teacher, one, CONFIG, pairs)[:, 0] for one in (before, student)]
    assert np.all(distances[1] < 0.5 * distances[0])


def test_a_teacher_of_another_vocabulary_is_refused(tiny_folder: Path, gemma3_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}))
    with pytest.raises(ValueError, match="expected the vocabulary of tiny, found another"):
        sft(tiny_folder, tmp_path / "data.jsonl", tmp_path / "out", teacher=str(gemma3_folder))
