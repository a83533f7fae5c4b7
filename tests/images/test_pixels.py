"""Pixels by both recipes. The default's are compared with the oracle in tests/parity/pictures."""

from typing import get_args

import numpy as np
import pytest
from PIL import Image

from gemwright.images.pixels import Recipe, to_pixels


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8))


def triangle(size: int, given: int) -> np.ndarray:
    """(size, given): weights of an antialiased linear filter, in float64."""
    scale = given / size
    centres = (np.arange(size)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(given) + 0.5 - centres) / max(scale, 1)
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(61, 47), (9, 13), (200, 3), (1, 1), (28, 28)])
def test_the_original_recipe_drops_the_fraction_of_an_antialiased_linear_filter(shape: tuple[int, int]) -> None:
    picture = noise(*shape)
    width, height = shape
    exact = np.einsum("ih,hwc,jw->ijc", triangle(28, height), np.asarray(picture).astype(float), triangle(28, width))
    found = (to_pixels(picture, 28, "big_vision") + 1) * 127.5
    whole = np.abs(exact - exact.round()) < 2e-3  # there float32 decides
    np.testing.assert_allclose(found[~whole], np.floor(exact)[~whole], atol=1e-3)
    assert np.abs(found - exact).max() < 1.01


def test_a_plain_surface_stays_what_it_is() -> None:
    for recipe in get_args(Recipe):
        for level, value in ((0, -1.0), (255, 1.0)):
            pixels = to_pixels(Image.new("RGB", (37, 53), (level,) * 3), 28, recipe)
            assert pixels.dtype == np.float32
            assert set(pixels.ravel().tolist()) == {value}


def test_a_picture_of_the_size_itself_is_not_resampled() -> None:
    exact = np.asarray(noise(28, 28)) / 127.5 - 1
    for recipe in get_args(Recipe):
        np.testing.assert_allclose(to_pixels(noise(28, 28), 28, recipe), exact, rtol=0, atol=1e-6)


def test_the_recipes_differ() -> None:
    picture = noise(61, 47)
    found = [to_pixels(picture, 28, recipe) for recipe in get_args(Recipe)]
    assert np.abs(found[0] - found[1]).max() > 0.05
    lower = found[1] - found[2]
    assert lower.min() >= 0
    assert 0.3 < (lower > 0).mean() < 0.7, "half of the levels are rounded up"


def test_other_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a picture in RGB, found L"):
        to_pixels(Image.new("L", (2, 2)), 28)
