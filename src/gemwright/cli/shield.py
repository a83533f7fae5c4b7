"""`gemwright shield`: does a text break a safety policy?"""

import json
from typing import Annotated

import typer

from gemwright.cli import options


def shield(
    model: Annotated[str, typer.Argument(help="A ShieldGemma: a folder or a hub name.")] = "shieldgemma-2b",
    prompt: Annotated[str, typer.Option(help="What a user wrote.")] = "",
    answer: Annotated[str | None, typer.Option(help="What a model answered; it is judged then.")] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="dangerous, harassment, hate or sexual; may be repeated, all if left out.")
    ] = None,
    dtype: options.DType = None,
    revision: options.Revision = None,
    as_json: options.AsJson = False,
) -> None:
    """Print how probable it is that a prompt, or an answer to it, breaks each policy."""
    if not prompt.strip():
        raise ValueError("nothing to judge: give --prompt")
    from gemwright.model import load  # after the arguments are checked: it brings JAX
    from gemwright.shield import Shield
    from gemwright.text.shield_prompt import POLICIES

    found = Shield(load(model, dtype=dtype, revision=revision)).judge(prompt, answer, policy or tuple(POLICIES))
    if as_json:
        print(json.dumps(found))
        return
    for name, probability in found.items():
        print(f"{name:<12}{probability:.3f}")
