"""`gemwright generate`: continue a text."""

import dataclasses
import json
import sys
from typing import Annotated

import typer

from gemwright.cli import options


def generate(
    model: options.ModelArgument = None,
    prompt: Annotated[str | None, typer.Option(help="The text to continue; standard input if left out.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to write at most.")] = 256,
    temperature: options.Temperature = 0.0,
    top_k: options.TopK = 0,
    top_p: options.TopP = 1.0,
    min_p: options.MinP = 0.0,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: options.Seed = 0,
    stop: options.Stop = None,
    dtype: options.DType = None,
    revision: options.Revision = None,
    as_json: options.AsJson = False,
) -> None:
    """Continue a text, without any chat format. The continuation goes to standard output."""
    if prompt is None:
        if sys.stdin.isatty():
            raise ValueError("nothing to continue: give --prompt, or a text on standard input")
        prompt = sys.stdin.read()
    from gemwright.model import load  # after the arguments are checked: it brings JAX

    loaded = load(model, dtype=dtype, revision=revision)
    sampling = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }
    if as_json:
        (completion,) = loaded.complete([prompt], max_new_tokens, stop=stop or (), **sampling)
        print(json.dumps({"prompt": prompt, **dataclasses.asdict(completion)}, ensure_ascii=False))
        return
    for text in loaded.stream(prompt, max_new_tokens, stop=stop or (), **sampling):
        print(text, end="", flush=True)
    print()
