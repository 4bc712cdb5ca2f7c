"""Colours tell branches apart, and can be read on dark and on light terminals."""

import pytest
from rich.color import Color, ColorSystem
from rich.color_triplet import ColorTriplet

from lenses.concept import Hierarchy
from runtime.branches import GREY, Branches
from tests.watched import named_nodes

BACKGROUNDS = {
    "black": "#000000",
    "dark": "#1e1e1e",
    "solarized dark": "#002b36",
    "white": "#ffffff",
    "solarized light": "#fdf6e3",
}


def luminance(colour: ColorTriplet) -> float:
    """Relative luminance as WCAG defines it."""
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: ColorTriplet, b: ColorTriplet) -> float:
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def test_branches_have_colours_of_their_own() -> None:
    hierarchy = Hierarchy.build(named_nodes())
    branches = Branches(hierarchy)
    tints = {concept.id: branches.tint(concept) for concept in hierarchy}
    for id, tint in tints.items():
        assert tint.branch == id.split(".")[0]
    assert len({tint.colour for tint in tints.values()}) == 3


def test_more_branches_than_colours_still_differ() -> None:
    many = Hierarchy.build((f"c{i}", f"branch {i}", None) for i in range(48))
    branches = Branches(many)
    assert len({branches.tint(concept).colour for concept in many}) == 48


@pytest.mark.parametrize("background", BACKGROUNDS.values(), ids=BACKGROUNDS)
@pytest.mark.parametrize(("system", "least"), [(ColorSystem.TRUECOLOR, 3.0), (ColorSystem.EIGHT_BIT, 2.5)])
def test_every_colour_can_be_read_on_every_background(
    background: str, system: ColorSystem, least: float
) -> None:
    many = Hierarchy.build((f"c{i}", f"branch {i}", None) for i in range(48))
    colours = {Branches(many).tint(concept).colour for concept in many} | {GREY}
    behind = Color.parse(background).get_truecolor()
    for colour in colours:
        seen = Color.parse(colour).downgrade(system).get_truecolor()
        assert contrast(seen, behind) >= least, colour
