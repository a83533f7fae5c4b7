"""The stored answers are those of the oracle installed here; needs torch, `make parity` runs it."""

from pathlib import Path

import numpy as np
import pytest

from gemwright.images.load import load_picture
from gemwright.images.pixels import to_pixels
from tests.parity.pictures.stored import stored
from tests.tolerances import LOGITS

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"  # beside the checkout, where it is


@pytest.mark.parity
@pytest.mark.filterwarnings("default")  # transformers warns of itself
def test_the_fixtures_are_what_the_oracle_says() -> None:
    from tests.parity.pictures.make_fixtures import fixtures  # imports torch

    for name, made in fixtures():
        kept = stored(name)
        assert set(kept) == {*made, "oracle"}
        for part, values in made.items():
            exact = values.dtype.kind == "i" or name == "pixels"
            np.testing.assert_allclose(
                kept[part], values, rtol=0, atol=0 if exact else LOGITS, err_msg=f"{name} {part}"
            )


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("size", [224, 448, 896])
def test_pixels_of_photographs_are_exactly_the_processors(size: int) -> None:
    from tests.parity.pictures.oracle import processed  # imports torch

    paths = sorted(path for path in SHARED.glob("images_*/*") if path.suffix.lower() in (".jpg", ".png"))
    if not paths:
        pytest.skip("the photographs are not here")
    for path in paths:
        picture = load_picture(path)
        np.testing.assert_array_equal(to_pixels(picture, size), processed(picture, size), err_msg=path.name)
