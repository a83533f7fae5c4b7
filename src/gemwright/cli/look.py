"""`gemwright chat --image`: prompts about one picture, each answered by itself."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemwright.cli import pictures

if TYPE_CHECKING:
    from gemwright.model import Model


def at_picture(
    model: "Model", image: Path, prompts: Iterable[str], settings: dict[str, Any], draw: Path | None, masks: Path | None
) -> None:
    """Answer each prompt; /exit ends. A picture is drawn for each answer anew."""
    for prompt in prompts:
        if prompt in ("/exit", "/quit"):
            return
        if not prompt:
            continue
        said: list[str] = []
        stream = model.stream(prompt, images=[image], **settings)
        with suppress(KeyboardInterrupt):
            for text in pictures.in_words(_kept(stream, said), image):
                print(text, end="", flush=True)
        print()
        if draw:
            print(pictures.draw_answer("".join(said), image, draw, masks), file=sys.stderr)


def _kept(parts: Iterable[str], said: list[str]) -> Iterable[str]:
    """The parts, kept in `said` too: what is drawn is the answer as the model wrote it."""
    for part in parts:
        said.append(part)
        yield part
