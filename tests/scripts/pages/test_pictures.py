"""Pictures are well-formed, small, the same for the same data, and keep within their frame."""

import xml.etree.ElementTree as ET

import pytest
from pages.pictures import Axis, Box, Line, boxes, dots, lines

UNIT = Axis("share <of> all", 0, 1, (0, 0.5, 1))
PICTURES = {
    "boxes": lambda: boxes("a & b", [Box("g", "s", [0.1, 0.2, 0.9]), Box("h", "t", [])], UNIT, reference=0.5),
    "lines": lambda: lines("l", [Line("one", [0, 0.5, 2], [0, 1, 0.3], ["x<y"])], UNIT, UNIT, diagonal=True),
    "dots": lambda: dots("d", Line("", [0.1, -3], [0.2, 0.3]), UNIT, UNIT),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_svg_and_the_same_each_time(name: str) -> None:
    svg = PICTURES[name]()
    assert svg == PICTURES[name]()
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg")
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for shape in root.iter():
        for key in ("x", "x1", "x2", "cx"):
            assert 0 <= float(shape.attrib.get(key, 0)) <= width
        for key in ("y", "y1", "y2", "cy"):
            assert 0 <= float(shape.attrib.get(key, 0)) <= height


def test_a_box_stands_where_its_values_are() -> None:
    svg = boxes("t", [Box("low", "s", [0.1] * 5), Box("high", "s", [0.9] * 5)], UNIT)
    rects = [shape for shape in ET.fromstring(svg).iter() if shape.attrib.get("fill-opacity") == "0.35"]
    low, high = (float(rect.attrib["y"]) for rect in rects)
    assert low > high  # downwards is larger
