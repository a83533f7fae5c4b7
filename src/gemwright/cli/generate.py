"""`gemwright generate`: continue a text."""

import dataclasses
import json
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from gemwright.cli import options, pictures
from gemwright.cli.interruptible import Interrupt
from gemwright.cli.piped import piped_text


def generate(
    model: options.ModelArgument = None,
    adapter: options.Adapter = None,
    prompt: Annotated[str | None, typer.Option(help="The text to continue; standard input if left out.")] = None,
    image: pictures.Image = None,
    pan_and_scan: pictures.PanAndScan = False,
    draw: pictures.Draw = None,
    masks: pictures.Masks = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to write at most.")] = 256,
    temperature: options.Temperature = 0.0,
    top_k: options.TopK = 0,
    top_p: options.TopP = 1.0,
    min_p: options.MinP = 0.0,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: options.Seed = 0,
    stop: options.Stop = None,
    dtype: options.DType = None,
    cache_bits: options.CacheBits = None,
    draft: options.Draft = None,
    revision: options.Revision = None,
    as_json: options.AsJson = False,
) -> None:
    """Continue a text, without any chat format. The continuation goes to standard output."""
    missing = "nothing to continue: give --prompt, or a text on standard input"
    text = piped_text(missing) if prompt is None else prompt
    pictures.check_options(image, draw, masks)
    from gemwright.model import load  # after the arguments are checked: it brings JAX

    loaded = load(model, dtype=dtype, cache_bits=cache_bits, draft=draft, revision=revision)
    loaded = loaded.with_adapter(adapter) if adapter else loaded
    pictures.check_finds_places(loaded, draw)
    sampling: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop or (),
        "images": [image] if image else None,
        "pan_and_scan": pan_and_scan,
    }
    if as_json:
        (completion,) = loaded.complete([text], max_new_tokens, **sampling)
        print(json.dumps({"prompt": text, **dataclasses.asdict(completion)}, ensure_ascii=False))
        answer = completion.text
    else:
        answer = _print_parts(loaded.stream(text, max_new_tokens, **sampling))
    if image and draw:
        print(pictures.draw_answer(answer, image[0], draw, masks), file=sys.stderr)


def _print_parts(parts: Iterable[str]) -> str:
    """Each as it comes; returns them all."""
    answer = ""
    with Interrupt() as interrupt:
        for part in parts:
            print(part, end="", flush=True)
            answer += part
            interrupt.check()
    print()
    return answer
