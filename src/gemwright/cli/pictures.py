"""What verbs do with --image: answers that speak of places are told in words, and drawn with --draw."""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # loads slowly, and --help does not need it
    import numpy as np

    from gemwright.images.regions import Region
    from gemwright.model import Model

Image = Annotated[list[Path] | None, typer.Option(help="A picture before the prompt; may be repeated.")]
PanAndScan = Annotated[
    bool,
    typer.Option("--pan-and-scan", help="Show oblong pictures in crops too, for Gemma 3: small things stay legible."),
]
Draw = Annotated[
    Path | None, typer.Option(help="With --image: write the picture here, with what the answer finds in it.")
]
Masks = Annotated[
    Path | None, typer.Option(help="With --draw: the decoder of masks, vae-oid.npz; boxes alone without it.")
]


def check_options(images: list[Path] | None, draw: Path | None, masks: Path | None) -> None:
    """Raises ValueError, before a model is loaded, where options want others, or OUT is no picture's name."""
    if draw is not None and len(images or ()) != 1:
        raise ValueError(f"--draw: needs a picture to draw on, found {len(images or ())}; give --image once")
    if masks is not None and draw is None:
        raise ValueError("--masks: are drawn on a picture; give --draw")
    if draw is not None and draw.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError(f"--draw: expected a name that ends in .png, .jpg or .webp, found {draw.name}")
    for image in images or ():
        from gemwright.images.load import load_picture

        load_picture(image)


def check_finds_places(model: "Model", draw: Path | None) -> None:
    """Raises ValueError where there is nothing to draw: only PaliGemma answers with places."""
    from gemwright.looking import converses

    if draw is not None and converses(model.config):
        name = f"{model.folder.name} ({model.config.family})"
        raise ValueError(f"--draw: draws the places that PaliGemma finds, and {name} finds none: leave it out")


def in_words(parts: Iterable[str], image: Path) -> Generator[str]:
    """An answer as it comes, or, where it begins with a place, its regions: a line each, once it is whole."""
    held, plain = "", False
    for part in parts:
        held += part
        plain = plain or held.lstrip()[:1] not in ("", "<")
        if plain:
            yield held
            held = ""
    if held:
        yield tell(held, image)


def tell(answer: str, image: Path) -> str:
    """The regions of an answer in pixels of the picture; the answer itself if it has none."""
    from gemwright.images.load import load_picture
    from gemwright.images.regions import read_regions

    size = load_picture(image).size
    return "\n".join(_line(region, size) for region in read_regions(answer)) or answer


def _line(region: "Region", size: tuple[int, int]) -> str:
    left, top, right, bottom = region.in_pixels(*size)
    mask = ", with a mask" if region.codes else ""
    return f"{region.label or 'something'}: x {left} to {right}, y {top} to {bottom} of {size[0]} x {size[1]}{mask}"


def draw_answer(answer: str, image: Path, out: Path, masks: Path | None) -> str:
    """Write the picture with the regions of an answer on it; says in a line what was drawn."""
    from gemwright.images.draw import draw_regions
    from gemwright.images.load import load_picture
    from gemwright.images.regions import read_regions

    regions = read_regions(answer)
    drawn = [] if masks is None else _masks(regions, masks)
    draw_regions(load_picture(image), regions, drawn).save(out)
    return f"{out}: {len(regions)} regions, {sum(mask is not None for mask in drawn)} masks"


def _masks(regions: "list[Region]", path: Path) -> "list[np.ndarray | None]":
    import jax.numpy as jnp
    import numpy as np

    from gemwright.checkpoints.mask_decoder import load_mask_decoder

    decoder = load_mask_decoder(path)
    return [np.asarray(decoder(jnp.array([region.codes])))[0] if region.codes else None for region in regions]
