"""A tuned model practises one skill: its own answers, rewarded by a rule where they are right.

    python -m recipes.practice --model runs/tuned/model --skill counting --out runs/practice

is `gemwright.rlhf` on questions that are never asked in the examination, which counts right answers before and after,
with 95% intervals. Interrupted, the same command goes on. Expected: see docs/tuning.md.
"""

import argparse
import itertools
import time
from dataclasses import asdict
from pathlib import Path

import gemwright
from gemwright.data.skills import Question, Skill, fingerprint, questions
from gemwright.tuning.actor import How
from gemwright.tuning.rewards.reward import ByRule, Task
from gemwright.tuning.rlhf_course import Watched
from recipes.skills import examine, skills, tell, write_rows

PROMPTS = 4000
SEED_OF_PRACTICE = 7  # other questions than those that the model was tuned on


def last_line() -> ByRule:
    """1 where the last line is the row's answer to the letter."""
    return ByRule("last line", _is_last_line, "answer")


def _is_last_line(task: Task, said: str) -> float:
    return float(Question("", "", task.prompt, task.text("answer")).is_right(said.strip()))


def write_prompts(path: Path, skill: str, seed: int) -> None:
    """Questions with their answers, which the policy is not shown."""
    asked = [each for each in skills() if each.__name__ == skill]
    found = itertools.islice(questions("train", seed, asked), PROMPTS)
    write_rows(path, ({"prompt": one.prompt, "answer": one.answer} for one in found))


def room_for(model: str, skill: Skill) -> int:
    """Tokens of the longest answer among some, and a few more: rows are as long in training."""
    tokenizer = gemwright.load(model).tokenizer
    found = itertools.islice(questions("train", 0, [skill]), 500)
    return 8 + max(len(tokenizer.encode(one.completion)) for one in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the tuned model to begin with")
    parser.add_argument("--skill", required=True, choices=[skill.__name__ for skill in skills()])
    parser.add_argument("--out", type=Path, required=True, help="folder for prompts, result and report")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--beta", type=float, default=0.01)
    parser.add_argument("--questions", type=int, default=500, help="of the examination")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    begun, prompts = time.perf_counter(), asked.out / "prompts.jsonl"
    if not prompts.exists():
        write_prompts(prompts, asked.skill, SEED_OF_PRACTICE + asked.seed)
    skill = next(each for each in skills() if each.__name__ == asked.skill)
    room = room_for(asked.model, skill)
    how = How(steps=asked.steps, prompts=32, samples=8, slots=64, max_new_tokens=room, rate=asked.rate, seed=asked.seed)
    watched = Watched(beta=asked.beta, held_out=0.015)
    done = gemwright.rlhf(
        asked.model, prompts, asked.out / "policy", last_line(), overwrite=True, how=how, watched=watched
    )
    found = list(itertools.islice(questions("heldout", asked.seed, [skill]), asked.questions))
    report = {
        "skill": asked.skill,
        "steps": done.steps,
        "seed": asked.seed,
        "kl": asdict(done.kl),
        "share_of_speed": done.share_of_speed,
        "fingerprint": fingerprint(found),
        "before": examine(gemwright.load(asked.model), found)["all"],
        "after": examine(gemwright.load(done.folder), found)["all"],
    }
    tell(report, asked.out, begun)


if __name__ == "__main__":
    main()
