"""Crops of oblong pictures. They are compared with the oracle's in tests/parity/pictures."""

import numpy as np
import pytest
from PIL import Image

from gemwright.images.crops import PanAndScan, pan_and_scan


@pytest.mark.parametrize("size", [(896, 896), (1000, 840), (840, 1000), (500, 255), (300, 200), (10, 3000)])
def test_pictures_that_are_nearly_square_or_small_stay_whole(size: tuple[int, int]) -> None:
    assert pan_and_scan(Image.new("RGB", size)) == []


@pytest.mark.parametrize(
    ("size", "crops"),
    [
        ((800, 600), [(400, 600)] * 2),
        ((600, 800), [(600, 400)] * 2),
        ((2000, 700), [(667, 700), (667, 700), (666, 700)]),
        ((9000, 300), [(2250, 300)] * 4),
        ((520, 256), [(260, 256)] * 2),
    ],
)
def test_oblong_ones_are_cut_along_their_longer_side(size: tuple[int, int], crops: list[tuple[int, int]]) -> None:
    assert [crop.size for crop in pan_and_scan(Image.new("RGB", size))] == crops


def test_crops_side_by_side_are_the_picture() -> None:
    levels = np.random.default_rng(0).integers(256, size=(11, 37, 3), dtype=np.uint8)
    crops = pan_and_scan(Image.fromarray(levels), PanAndScan(smallest=4, most=5))
    assert len(crops) == 3
    np.testing.assert_array_equal(np.concatenate([np.asarray(crop) for crop in crops], axis=1), levels)
