"""Pictures are well-formed, small, the same for the same data, and keep within their frame."""

import xml.etree.ElementTree as ET

import pytest
from pages.pictures import COLOURS, Axis, Box, Line, Stack, boxes, dots, lines, stacks

UNIT = Axis("share <of> all", 0, 1, (0, 0.5, 1))
PICTURES = {
    "boxes": lambda: boxes("a & b", [Box("g", "s", [0.1, 0.2, 0.9]), Box("h", "t", [])], UNIT, reference=0.5),
    "lines": lambda: lines("l", [Line("one", [0, 0.5, 2], [0, 1, 0.3], ["x<y"])], UNIT, UNIT, diagonal=True),
    "stacks": lambda: stacks("s", [Stack("a<b", {"x": 0.2, "y": 3}), Stack("b", {})], UNIT, x_label="t"),
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


def test_parts_stand_on_each_other_and_sum_to_the_whole() -> None:
    bars = [Stack("a", {"x": 0.2, "y": 0.5}), Stack("b", {"y": 0.4})]
    svg = stacks("t", bars, UNIT, reference=0.5)
    rects = [
        shape
        for shape in ET.fromstring(svg).iter()
        if shape.attrib.get("fill") in COLOURS and shape.attrib.get("height") != "11"
    ]
    heights: dict[str, list[float]] = {}
    for rect in rects:
        heights.setdefault(rect.attrib["fill"], []).append(float(rect.attrib["height"]))
    (x,), (y, other) = heights[COLOURS[0]], heights[COLOURS[1]]
    assert y / x == pytest.approx(2.5, abs=0.02)
    assert other / y == pytest.approx(0.8, abs=0.02)
    lower, upper = (next(r for r in rects if r.attrib["height"] == f"{h:.1f}") for h in (x, y))
    assert float(upper.attrib["y"]) + y == pytest.approx(float(lower.attrib["y"]), abs=0.11)


def test_many_bars_keep_their_frame_and_name_some() -> None:
    names = [
        "initial detection",
        "cold to warm",
        "child detection",
        "expansion",
        "cache management",
        "hook",
        "rest",
    ]
    bars = [Stack(str(n), dict.fromkeys(names, 0.1)) for n in range(300)]
    root = ET.fromstring(stacks("t", bars, UNIT, x_label="token"))
    texts = [shape.text for shape in root.iter() if shape.tag.endswith("text")]
    assert set(names) <= set(texts)
    assert 10 < len([text for text in texts if text and text.isdecimal()]) < 60
    for shape in root.iter():
        assert 0 <= float(shape.attrib.get("x", "0")) <= 720


@pytest.mark.parametrize("most", [0.003, 0.9, 1.0, 7.2, 39.0, 41.0, 12345.0])
def test_an_axis_reaches_as_far_as_it_must_in_a_few_round_steps(most: float) -> None:
    axis = Axis.up_to("ms", most)
    assert axis.ticks[0] == axis.low == 0
    assert most <= axis.high == axis.ticks[-1] < 1.4 * most
    assert 4 <= len(axis.ticks) <= 10
