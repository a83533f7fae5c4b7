"""The default model: it reads documents and conversations, both from the first step on.

    gemwright pretrain recipes/tuned.py --set corpus=FOLDER --out runs/tuned
    python -m recipes.tuned --model runs/tuned/model --out runs/tuned

The first trains `recipes/mini.py`'s model, on its documents and on questions of skills, about itself and about what it
cannot know; the second examines a model on questions that are held out. What is learned after the documents, from the
same conversations, costs the model its documents. Expected: see docs/mini.md.
"""

import argparse
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import gemwright
from gemwright.data.documents import Document
from gemwright.data.mixture import Mixture, MixtureStage
from gemwright.data.packing import Rows, Tokens
from gemwright.data.skills import Question, Skill, calculation, fingerprint, questions
from gemwright.model import DEFAULT_MODEL, Model
from gemwright.text.chat import Message, format_chat
from gemwright.text.tokenizer import Tokenizer
from gemwright.training.effort import fast_dtype
from gemwright.training.pretrain import Corpus, Pretraining
from gemwright.training.run import Compute, Run
from recipes import mini
from recipes.manners import manners
from recipes.skills import SHOP, examine, replies, share, skills, taught, tell

CONVERSATIONS = 0.3
"""Share of the tokens; the rest are documents."""
COUNT = 700_000
"""Conversations that are written: 53 million tokens."""
LONGER = 1.7
"""Times the steps of `recipes/mini.py`."""
PHRASES = 200_000
"""Pieces of documents that are quoted in questions."""
MANNERS, CALCULATIONS, REWORDED, TURNS = 0.1, 0.15, 0.4, 0.25
"""Of the questions, those about the model and its limits, and those of any size; of the others, those that are asked in
another way; of the conversations, those that go on for a second turn."""

Turn = tuple[str, str]


def conversations(count: int, seed: int, found: list[Document]) -> Iterator[list[Turn]]:
    """Questions with their answers, in turns.

    Args:
      found: documents whose words are quoted.
    """
    rng = random.Random(f"tuned {seed}")
    asked, said = taught(seed, _copied(phrases(found, PHRASES, seed))), manners("train", seed)
    sizes = questions("train", seed, (calculation,))

    def turn() -> Turn:
        kind = rng.random()
        if kind < MANNERS:
            return next(said)
        if kind < MANNERS + CALCULATIONS:
            one = next(sizes)
            prompt, answer = one.prompt, one.completion
        else:
            row = next(asked)
            prompt, answer = row["prompt"], row["completion"]
        return reworded(prompt, rng) if rng.random() < REWORDED else prompt, answer

    for _ in range(count):
        yield [turn() for _ in range(1 + (rng.random() < TURNS))]


def phrases(found: list[Document], count: int, seed: int) -> list[str]:
    """One to six words that stand together in a training document, some with capitals as in titles."""
    rng = random.Random(f"phrases {seed}")
    words = [one.text[:50_000].split() for one in found if one.split == "train" and one.source != "python_code"]
    chosen: list[str] = []
    for document in rng.choices([one for one in words if len(one) > 6], k=count):
        begin = rng.randrange(len(document) - 6)
        text = " ".join(document[begin : begin + rng.randint(1, 6)])[:60].strip(" \"'(),.;:!?“”‘’")
        chosen.append(text.title() if rng.random() < 0.5 else text)
    return [text for text in chosen if text]


def _copied(found: Sequence[str]) -> tuple[Skill, ...]:
    """Questions whose answers quote: copying is what so small a model does worst."""

    def repeating(rng: random.Random) -> Question:
        text = rng.choice(found)
        return Question("repeating", text, f"Repeat: {text}", text)

    return (repeating, *(SHOP.quoting(found),) * 3) if SHOP.is_there else (repeating,)


_SPOKEN = {"+": ("plus", "The sum of {} and {}?"), "-": ("minus", "{} less {}?"), "*": ("times", "Multiply {} by {}.")}


def reworded(prompt: str, rng: random.Random) -> str:
    """A calculation or a list to sort asked for in another way; other questions as they are."""
    if not prompt.endswith(" ="):
        return prompt.replace("Sort:", rng.choice(("Sort these numbers:", "Sort", "Put in order:")))
    a, operation, b = prompt.removesuffix(" =").split()
    word, sentence = _SPOKEN[operation]
    if rng.random() < 0.2:
        return sentence.format(a, b)
    asked = rng.choice((f"{a} {operation} {b}", f"{a}{operation}{b}", f"{a} {word} {b}"))
    return rng.choice(("What is {}?", "{}", "{}?", "{}=", "Calculate {}.", "How much is {}?", "what is {}")).format(
        asked
    )


def example(turns: list[Turn], tokenizer: Tokenizer) -> list[int]:
    """Token ids of a conversation."""
    said = [Message(role, text) for turn in turns for role, text in zip(("user", "model"), turn, strict=True)]
    return format_chat(tokenizer, said, add_generation_prompt=False).ids


def stream(count: int, corpus: Path | None, tokenizer: Tokenizer, out: Path) -> Tokens:
    """The conversations, packed; from `out` if they were made before."""
    file = out / "conversations.npy"
    found = [] if file.exists() else mini.documents(corpus)
    return mini.packed(file, (example(turns, tokenizer) for turns in conversations(count, 0, found)), tokenizer)


def read(corpus: Path | None, out: Path, count: int) -> Corpus:
    """Documents as `recipes/mini.py` reads them, and conversations beside them."""
    found = mini.read(corpus, out)
    documents, tokenizer = found.data, found.tokenizer
    assert isinstance(documents, Rows)
    assert tokenizer is not None
    asked = Rows(stream(count, corpus, tokenizer, out), tokenizer.bos_id, seed=1)
    weights = {"conversations": CONVERSATIONS, "documents": 1 - CONVERSATIONS}
    mixture = Mixture({"conversations": asked, "documents": documents}, (MixtureStage(1, weights),))
    return Corpus(mixture, tokenizer, found.held_out)


def run(accelerator: bool) -> Run:
    """As `recipes/mini.py`, longer by the conversations; text that is read so often wants more decay."""
    shorter = mini.run(accelerator)
    stages = tuple(replace(one, steps=int(one.steps * LONGER)) for one in shorter.stages)
    optimizer = replace(shorter.optimizer, weight_decay=0.3)
    dtype = "bfloat16" if accelerator else fast_dtype()
    return replace(shorter, stages=stages, optimizer=optimizer, compute=Compute(dtype))


def pretraining(corpus: Path | None = None, accelerator: bool | None = None, conversations: int = COUNT) -> Pretraining:
    """The recipe.

    Args:
      corpus, accelerator: as of `recipes/mini.py`.
      conversations: that are written.
    """
    accelerator = mini.has_accelerator() if accelerator is None else accelerator
    return Pretraining(run(accelerator), lambda _, out: read(corpus, out, conversations), save_every=1000)


# --------------------------------------------------------------------------------------- examination


def examine_manners(model: Model, count: int, seed: int) -> dict[str, float]:
    """Questions held out by their words, answered to the letter."""
    found = list(itertools.islice(manners("heldout", seed), count))
    said = replies(model, [question for question, _ in found])
    return share(sum(text == answer for text, (_, answer) in zip(said, found, strict=True)), count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEFAULT_MODEL), help="that is examined")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument("--questions", type=int, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    begun, model = time.perf_counter(), gemwright.load(asked.model)
    found = list(itertools.islice(questions("heldout", asked.seed, skills()), asked.questions))
    report = {"seed": asked.seed, "fingerprint": fingerprint(found), "after": examine(model, found)}
    asked.out.mkdir(parents=True, exist_ok=True)
    tell({**report, "manners": examine_manners(model, 200, asked.seed)}, asked.out, begun)


if __name__ == "__main__":
    main()
