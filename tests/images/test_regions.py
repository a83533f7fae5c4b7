"""Places and masks in answers: read, written, drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gemwright.images.draw import COLOURS, draw_regions, place_mask
from gemwright.images.regions import Region, read_regions, write_region, write_regions

CODES = tuple(range(100, 116))
SEGMENTS = "".join(f"<seg{code}>" for code in CODES)


def test_a_box_is_top_left_bottom_right() -> None:
    (region,) = read_regions("<loc0000><loc0341><loc0682><loc1023> cat")
    assert region == Region((0.0, 341 / 1023, 682 / 1023, 1.0), (), "cat")
    assert region.in_pixels(width=300, height=90) == (100, 0, 300, 60)


def test_several_boxes_keep_their_order_and_labels() -> None:
    answer = "<loc0001><loc0002><loc0003><loc0004> black cat ; <loc0005><loc0006><loc0007><loc0008> dog"
    assert [region.label for region in read_regions(answer)] == ["black cat", "dog"]
    assert read_regions(answer)[1].box == (5 / 1023, 6 / 1023, 7 / 1023, 8 / 1023)


def test_a_mask_has_sixteen_codes() -> None:
    (region,) = read_regions(f"<loc0001><loc0002><loc0003><loc0004>{SEGMENTS} cat")
    assert region.codes == CODES
    assert region.label == "cat"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "a cat on a mat",
        "<loc0001><loc0002><loc0003>",
        "<loc1024><loc0002><loc1030><loc0004> cat",
        "<loc0100><loc0002><loc0050><loc0004> cat",
        "<loc0001><loc0004><loc0050><loc0004> cat",
    ],
    ids=["empty", "words", "three places", "place out of range", "upside down", "no width"],
)
def test_what_is_no_region_is_skipped(answer: str) -> None:
    assert read_regions(answer) == []


@pytest.mark.parametrize("segments", [SEGMENTS[:-8], SEGMENTS + "<seg001>", SEGMENTS[:-8] + "<seg128>"])
def test_a_mask_of_other_codes_is_lost_and_its_box_kept(segments: str) -> None:
    (region,) = read_regions(f"<loc0001><loc0002><loc0003><loc0004>{segments} cat")
    assert (region.codes, region.label) == ((), "cat")


steps = st.lists(st.integers(0, 1023), min_size=2, max_size=2, unique=True).map(sorted)
labels = st.text(st.characters(codec="ascii", categories=("L", "N")), max_size=8)
regions = st.builds(
    lambda rows, columns, codes, label: Region(
        (rows[0] / 1023, columns[0] / 1023, rows[1] / 1023, columns[1] / 1023), codes, label
    ),
    steps, steps, st.sampled_from([(), CODES]), labels,
)  # fmt: skip


@given(st.lists(regions, max_size=4))
def test_what_is_written_is_read_back(written: list[Region]) -> None:
    assert read_regions(write_regions(written)) == written


@given(st.text(st.sampled_from("<loc0123seg>; 9\n"), max_size=60))
def test_any_answer_is_read_without_failing(answer: str) -> None:
    assert all(region.box[0] < region.box[2] for region in read_regions(answer))


def test_a_share_is_written_as_its_nearest_step() -> None:
    region = Region((-0.1, 0.5, 0.9996, 1.2), (), "x")
    assert write_region(region) == "<loc0000><loc0512><loc1023><loc1023> x"


# -------------------------------------------------------------------------------------------- drawn


def test_a_mask_is_stretched_over_its_box_alone() -> None:
    half = np.full((64, 64), -1.0)
    half[:, 32:] = 1
    placed = place_mask(Region((0.5, 0.0, 1.0, 0.5)), half, (40, 20))
    assert placed.shape == (20, 40)
    assert placed[10:, 10:20].all()
    assert placed.sum() == 100


def test_a_box_and_a_mask_are_drawn_and_the_picture_is_kept() -> None:
    picture = Image.new("RGB", (200, 100), (250, 250, 250))
    drawn = np.asarray(draw_regions(picture, [Region((0.2, 0.5, 0.8, 0.9))], [np.ones((64, 64))])).astype(int)
    assert drawn[20, 140].tolist() == list(COLOURS[0])
    assert drawn[79, 140].tolist() == list(COLOURS[0])
    tinted = 250 + 0.45 * (np.array(COLOURS[0]) - 250)
    assert np.abs(drawn[50, 140] - tinted).max() <= 1
    assert drawn[50, 50].tolist() == drawn[80, 140].tolist() == [250] * 3
    assert picture.getcolors() == [(200 * 100, (250, 250, 250))]


def test_a_label_stays_within_the_picture() -> None:
    picture = Image.new("RGB", (120, 60))
    corner = np.asarray(draw_regions(picture, [Region((0.9, 0.9, 1.0, 1.0), (), "a cat")]))
    assert (corner > 200).all(axis=-1).any()


def test_boxes_of_no_pixels_and_many_regions_are_drawn() -> None:
    tiny = Region((0.5, 0.5, 0.5001, 0.5001), CODES, "dust")
    many = [tiny] * (len(COLOURS) + 1)
    assert draw_regions(Image.new("RGB", (3, 2)), many, [np.ones((64, 64))] * len(many)).size == (3, 2)
