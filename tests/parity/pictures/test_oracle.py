"""The stored answers are those of the oracle installed here; needs torch, `make parity` runs it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gemwright.images.crops import PanAndScan, pan_and_scan
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
        bilinear = processed(picture, size, "Gemma3ImageProcessorPil")
        np.testing.assert_array_equal(to_pixels(picture, size, "bilinear"), bilinear, err_msg=path.name)


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
def test_crops_are_those_of_gemma_3s_processor() -> None:
    from tests.parity.pictures.oracle import crops  # imports torch

    draw, cut = np.random.default_rng(0), 0
    for _ in range(400):
        width, height = (int(side) for side in draw.integers(1, 120, 2))
        rule = PanAndScan(int(draw.integers(4, 40)), int(draw.integers(2, 6)), float(draw.uniform(1, 2)))
        picture = Image.fromarray(draw.integers(256, size=(height, width, 3), dtype=np.uint8))
        theirs = crops(picture, rule.smallest, rule.most, rule.from_ratio)
        for mine, other in zip(pan_and_scan(picture, rule), theirs, strict=True):
            np.testing.assert_array_equal(np.asarray(mine), other)
        cut += bool(theirs)
    assert 50 < cut < 350
