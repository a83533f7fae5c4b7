"""A curve goes through what it is given, or through means of so many in a row."""

import xml.etree.ElementTree as ElementTree

import pytest

from gemwright.data.pipeline.plots import curve


@pytest.mark.parametrize(("count", "points"), [(1, 1), (150, 150), (151, 76), (3000, 150)])
def test_a_curve_has_so_many_points_between_its_extremes(count: int, points: int) -> None:
    drawn = ElementTree.fromstring(curve([float(n) for n in range(count)], "steps", "loss <nats>"))
    found = [tuple(map(float, pair.split(","))) for pair in drawn.findall("polyline")[0].attrib["points"].split()]
    assert len(found) == points
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert [y for _, y in found] == sorted((y for _, y in found), reverse=True), "what rises goes up"
    assert found[-1][1] == 24
    texts = ["".join(one.itertext()) for one in drawn.iter("text")]
    assert f"steps: 1 to {count:,}" in texts
    assert any(text.startswith("loss <nats>") for text in texts)


def test_what_stays_the_same_is_a_flat_line_and_nothing_is_no_drawing() -> None:
    assert "65.0,24.0" in curve([2.0, 2.0, 2.0], "steps", "loss")
    assert curve([], "steps", "loss") == ""
