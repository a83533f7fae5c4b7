"""`gemwright chat --image` for PaliGemma: prompts about the same pictures, each answered by itself."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemwright.cli import pictures

if TYPE_CHECKING:
    from gemwright.model import Model


def at_pictures(
    model: "Model",
    images: list[Path],
    prompts: Iterable[str],
    settings: dict[str, Any],
    draw: Path | None,
    masks: Path | None,
) -> None:
    """Answer each prompt; /exit ends. Places are those of the first picture, which is drawn for each answer anew."""
    for prompt in prompts:
        if prompt in ("/exit", "/quit"):
            return
        if not prompt:
            continue
        said: list[str] = []
        stream = model.stream(prompt, images=[images], **settings)
        with suppress(KeyboardInterrupt):
            for text in pictures.in_words(_kept(stream, said), images[0]):
                print(text, end="", flush=True)
        print()
        if draw:
            print(pictures.draw_answer("".join(said), images[0], draw, masks), file=sys.stderr)


def _kept(parts: Iterable[str], said: list[str]) -> Iterable[str]:
    """The parts, kept in `said` too: what is drawn is the answer as the model wrote it."""
    for part in parts:
        said.append(part)
        yield part
