"""Decoding by prompt lookup beside plain decoding, where an answer repeats its prompt.

    python -m benchmarks.speculation [--shape 2b] [--rounds 5] [--tokens 128] [--module bisect --name key --to name]

The prompt is a module of Python's standard library and a request to rename something in it. A Gemma 2B whose 4-bit
weights were made to copy answers (`copying.py`): the true cost of a step, and the file with the name changed. The
default model only goes on with the file. Both ways run in turn from the same cache. The last line is one JSON object.
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jax
from rich.console import Console

import gemwright
from benchmarks.copying import copying_config, copying_weights
from benchmarks.cpu import SHAPES
from gemwright.inference.generate import Chosen, decode
from gemwright.inference.sampling import Sampling
from gemwright.inference.session import Session
from gemwright.inference.speculative import PromptLookup, decode_speculatively
from gemwright.models.family import Config, Decoder
from gemwright.models.gemma import PRESETS
from gemwright.text.tokenizer import Tokenizer

_GIVEN = 12  # tokens of the answer that stand in the prompt: the model only copies, it reads no request


@dataclass
class Counted:
    """Guesses as a lookup makes them, and how many of them are the known answer."""

    answer: list[int]
    lookup: PromptLookup
    made: int = 0
    right: int = 0

    def propose(self, tokens: Sequence[int], most: int, count: int, sampling: Sampling) -> list[int]:
        guesses = self.lookup.propose(tokens, most, count, sampling)[:most]
        truth = self.answer[count : count + len(guesses)]
        self.made += len(guesses)
        self.right += next((n for n, (a, b) in enumerate(zip(guesses, truth, strict=False)) if a != b), len(truth))
        return guesses


def timed(steps: Iterator[Chosen]) -> tuple[list[int], float]:
    """The tokens of one row, and tokens a second after the first."""
    found = [next(steps).tokens[0]]
    begun = time.perf_counter()
    found += [step.tokens[0] for step in steps]
    return [token for token in found if token is not None], (len(found) - 1) / (time.perf_counter() - begun)


def compare(weights: Decoder, config: Config, prompt: list[int], tokens: int, rounds: int) -> dict[str, Any]:
    """Medians of both ways, their ratio, and the share of guesses that came true."""
    session = Session(weights, config, 1, len(prompt) + tokens)
    plain_speeds, lookup_speeds, acceptances, answer = list[float](), list[float](), list[float](), list[int]()
    for number in range(rounds + 1):  # the first compiles
        session.advance_to(prompt)
        answer, plain = timed(decode(session, tokens))
        session.advance_to(prompt)
        counted = Counted(answer, PromptLookup())
        found, lookup = timed(decode_speculatively(session, counted, tokens))
        if found != answer:
            raise AssertionError("speculation gave another answer than plain decoding")
        Console(stderr=True).print(f"round {number}: plain {plain:.2f}, lookup {lookup:.2f} tokens/s")
        if number:
            plain_speeds.append(plain)
            lookup_speeds.append(lookup)
            acceptances.append(counted.right / max(1, counted.made))
    return {
        "answer": answer,
        "plain_tok_s": round(median(plain_speeds), 2),
        "lookup_tok_s": round(median(lookup_speeds), 2),
        "lookup_ratio": round(median(lookup_speeds) / median(plain_speeds), 3),
        "acceptance": round(median(acceptances), 3),
    }


def source_of(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"{module} is no module with a source file")
    return Path(spec.origin).read_text()


def editing_prompt(tokenizer: Tokenizer, text: str, name: str, to: str) -> list[int]:
    """A file, a request to change a name, and the beginning of the answer."""
    file = tokenizer.encode(text)
    request = tokenizer.encode(f"\n\nThe same file, with {name} called {to}:\n\n")
    return tokenizer.with_bos([*file, *request, *file[:_GIVEN]])


def tokens_of(tokenizer: Tokenizer, name: str) -> list[int]:
    """With a space before it and without."""
    forms = [tokenizer.encode(space + name) for space in (" ", "")]
    if any(len(form) != 1 for form in forms):
        raise ValueError(f"a name must be one token with a space and without: {name} is {forms}")
    return [form[0] for form in forms]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="2b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128, help="of the answer")
    parser.add_argument("--module", default="bisect", help="of the standard library")
    parser.add_argument("--name", default="key")
    parser.add_argument("--to", default="name")
    parser.add_argument("--only", choices=("default", "copying"), help="one of the two models")
    arguments = parser.parse_args()
    model = gemwright.load(bits=4)
    result: dict[str, Any] = {"rounds": arguments.rounds, "tokens": arguments.tokens}
    if arguments.only != "copying":
        code = model.tokenizer.with_bos(model.tokenizer.encode(source_of(arguments.module)))[:384]
        found = compare(model.weights, model.config, code, arguments.tokens, arguments.rounds)
        result |= {f"default_{key}": value for key, value in found.items() if key != "answer"}
    if arguments.only != "default":
        result |= copying(model.tokenizer, arguments)
    print(json.dumps(result))


def copying(tokenizer: Tokenizer, arguments: argparse.Namespace) -> dict[str, Any]:
    config = copying_config(PRESETS[SHAPES[arguments.shape]])
    prompt = editing_prompt(tokenizer, source_of(arguments.module), arguments.name, arguments.to)
    replaced = dict(zip(*(tokens_of(tokenizer, name) for name in (arguments.name, arguments.to)), strict=True))
    weights = copying_weights(config, replaced, len(prompt) - 1 - _GIVEN)
    found = compare(weights, config, prompt, arguments.tokens, arguments.rounds)
    Console(stderr=True).print(tokenizer.decode(found.pop("answer")), markup=False)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    return {"prompt_tokens": len(prompt), "bytes": size} | found


if __name__ == "__main__":
    main()
