"""Small pictures for reports, as SVG text: boxes by group, stacked bars, lines, dots. Knows numbers and labels only.

A picture stands on a white ground of its own, so that it reads the same on a dark page. Numbers are rounded to a tenth
of a pixel: equal data, equal bytes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Self

import numpy as np

COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#555555"),
    *("#f0e442", "#882255", "#44aa99", "#999933", "#332288"),
)
"""Okabe and Ito's, then some of Tol's: told apart by colour-blind readers too."""

_WIDTH, _HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 52, 62


@dataclass(frozen=True, slots=True)
class Box:
    """One box: the values of one group."""

    group: str
    series: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Stack:
    """One stacked bar: the parts of one whole."""

    label: str
    parts: Mapping[str, float]
    """Size of each part, 0 or more, by its series."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, or one cloud of dots."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    notes: Sequence[str] = ()
    """Written beside the points, where given."""


@dataclass(frozen=True, slots=True)
class Axis:
    """From where to where, what it says, where it has ticks."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]

    @classmethod
    def up_to(cls, label: str, most: float) -> Self:
        """From 0 to at least `most`, with four to eight ticks at round numbers."""
        step = 10.0 ** math.floor(math.log10(most / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if most / (factor * step) <= 8)
        ticks = [step * n for n in range(math.ceil(most / step) + 1)]
        return cls(label, 0.0, ticks[-1], ticks)

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high end; values beyond are drawn at the end."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def boxes(title: str, found: Sequence[Box], y: Axis, *, reference: float | None = None) -> str:
    """Box plots: whiskers at the 10th and 90th percentile, the box from quartile to quartile, the median a line."""
    groups = list(dict.fromkeys(box.group for box in found))
    series = list(dict.fromkeys(box.series for box in found))
    picture = _Picture(title, y)
    if len(series) > 1:
        picture.legend(series)
    if reference is not None:
        picture.horizontal(reference)
    room = (_WIDTH - _LEFT - _RIGHT) / max(1, len(groups))
    width = min(34.0, 0.8 * room / max(1, len(series)))
    for g, group in enumerate(groups):
        middle = _LEFT + (g + 0.5) * room
        picture.group(middle, group, max(len(box.values) for box in found if box.group == group))
        for box in (box for box in found if box.group == group and len(box.values)):
            s = series.index(box.series)
            x = middle + (s - (len(series) - 1) / 2) * width * 1.12
            picture.box(x, width, np.quantile(box.values, [0.1, 0.25, 0.5, 0.75, 0.9]).tolist(), COLOURS[s])
    return picture.text()


def stacks(
    title: str, found: Sequence[Stack], y: Axis, *, x_label: str = "", reference: float | None = None
) -> str:
    """Stacked bars, parts from the bottom up in the order of the first bar that has them; many bars become thin ones.

    At most `len(COLOURS)` series: put small ones together.
    """
    series = list(dict.fromkeys(name for stack in found for name in stack.parts))
    assert len(series) <= len(COLOURS), f"{len(series)} series for {len(COLOURS)} colours"
    rows = _legend_rows(series, 7.2)
    picture = _Picture(title, y, legend_rows=len(rows))
    picture.legend_rows(rows, 7.2)
    if x_label:
        picture.below(x_label)
    room = (_WIDTH - _LEFT - _RIGHT) / max(1, len(found))
    longest = max((len(stack.label) for stack in found), default=0)
    every = max(1, math.ceil((7 * longest + 8) / room))
    for at, stack in enumerate(found):
        middle, bottom = _LEFT + (at + 0.5) * room, 0.0
        for name, colour in zip(series, COLOURS, strict=False):
            top = bottom + stack.parts.get(name, 0.0)
            if top > bottom:
                picture.part(middle, min(60.0, 0.86 * room), bottom, top, colour)
            bottom = top
        if at % every == 0:
            picture.tick(middle, stack.label)
    if reference is not None:
        picture.horizontal(reference)
    return picture.text()


def lines(title: str, found: Sequence[Line], x: Axis, y: Axis, *, diagonal: bool = False) -> str:
    """Lines through their points in the order given."""
    picture = _Picture(title, y, x)
    picture.legend([line.label for line in found])
    if diagonal:
        picture.diagonal(x)
    for line, colour in zip(found, COLOURS, strict=False):
        picture.line(x, line, colour)
    return picture.text()


def dots(title: str, found: Line, x: Axis, y: Axis) -> str:
    """A dot a pair, with the diagonal on which both are equal."""
    picture = _Picture(title, y, x)
    picture.diagonal(x)
    for at in zip(found.x, found.y, strict=True):
        picture.dot(x, *at, COLOURS[0], 2.5, 0.45)
    return picture.text()


class _Picture:
    def __init__(self, title: str, y: Axis, x: Axis | None = None, *, legend_rows: int = 1) -> None:
        self._y = y
        self._top = _TOP + 16 * max(0, legend_rows - 1)
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" role="img" font-family="Helvetica, Arial, sans-serif" font-size="12">',
            f"<title>{escape(title)}</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
        ]
        self._write(_LEFT, 20, title, size=14, weight="bold")
        for tick in y.ticks:
            self._stroke(_LEFT, self._up(tick), _WIDTH - _RIGHT, self._up(tick), "#e4e4e4")
            self._write(_LEFT - 6, self._up(tick) + 4, f"{tick:g}", anchor="end")
        middle = (self._top + _HEIGHT - _BOTTOM) / 2
        self._parts.append(
            f'<text x="14" y="{middle:g}" text-anchor="middle" fill="#222" '
            f'transform="rotate(-90 14 {middle:g})">{escape(y.label)}</text>'
        )
        if x is not None:
            for tick in x.ticks:
                self._stroke(
                    self._across(x, tick), self._top, self._across(x, tick), _HEIGHT - _BOTTOM, "#f0f0f0"
                )
                self._write(self._across(x, tick), _HEIGHT - _BOTTOM + 17, f"{tick:g}", anchor="middle")
            self.below(x.label)
        self._stroke(_LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, "#888888")

    def legend(self, labels: Sequence[str]) -> None:
        self.legend_rows([labels], 6.4)

    def legend_rows(self, rows: Sequence[Sequence[str]], letter: float) -> None:
        colours = iter(COLOURS)
        for row, labels in enumerate(rows):
            at = float(_LEFT)
            for label, colour in zip(labels, colours, strict=False):
                self._parts.append(
                    f'<rect x="{at:.1f}" y="{31 + 16 * row}" width="11" height="11" fill="{colour}"/>'
                )
                self._write(at + 15, 41 + 16 * row, label)
                at += 24 + letter * len(label)

    def below(self, label: str) -> None:
        self._write((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - _BOTTOM + 38, label, anchor="middle")

    def tick(self, x: float, label: str) -> None:
        self._write(x, _HEIGHT - _BOTTOM + 17, label, anchor="middle")

    def part(self, x: float, width: float, low: float, high: float, colour: str) -> None:
        top, bottom = self._up(high), self._up(low)
        self._parts.append(
            f'<rect x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}" '
            f'fill="{colour}"/>'
        )

    def group(self, x: float, label: str, count: int) -> None:
        self.tick(x, label)
        self._write(x, _HEIGHT - _BOTTOM + 34, f"n = {count}", anchor="middle", colour="#666666")

    def horizontal(self, value: float) -> None:
        self._stroke(_LEFT, self._up(value), _WIDTH - _RIGHT, self._up(value), "#999999", dash=True)

    def diagonal(self, x: Axis) -> None:
        low, high = max(x.low, self._y.low), min(x.high, self._y.high)
        self._stroke(
            self._across(x, low), self._up(low), self._across(x, high), self._up(high), "#999999", dash=True
        )

    def box(self, x: float, width: float, five: Sequence[float], colour: str) -> None:
        low, first, median, third, high = (self._up(value) for value in five)
        self._stroke(x, low, x, high, colour)
        self._parts.append(
            f'<rect x="{x - width / 2:.1f}" y="{third:.1f}" width="{width:.1f}" '
            f'height="{max(first - third, 0.5):.1f}" fill="{colour}" fill-opacity="0.35" stroke="{colour}"/>'
        )
        self._stroke(x - width / 2, median, x + width / 2, median, "#111111", thick=2)

    def line(self, x: Axis, line: Line, colour: str) -> None:
        points = [(self._across(x, a), self._up(b)) for a, b in zip(line.x, line.y, strict=True)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        for a, b in zip(line.x, line.y, strict=True):
            self.dot(x, a, b, colour, 3, 1)
        for (a, b), note in zip(points, line.notes, strict=False):
            self._write(a + 5, b - 5, note, size=10, colour=colour)

    def dot(self, x: Axis, a: float, b: float, colour: str, radius: float, opacity: float) -> None:
        self._parts.append(
            f'<circle cx="{self._across(x, a):.1f}" cy="{self._up(b):.1f}" r="{radius:g}" fill="{colour}"'
            + (f' fill-opacity="{opacity:g}"/>' if opacity < 1 else "/>")
        )

    def text(self) -> str:
        return "\n".join([*self._parts, "</svg>"]) + "\n"

    def _across(self, axis: Axis, value: float) -> float:
        return _LEFT + axis.place(value) * (_WIDTH - _LEFT - _RIGHT)

    def _up(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self._y.place(value) * (_HEIGHT - self._top - _BOTTOM)

    def _stroke(
        self, x1: float, y1: float, x2: float, y2: float, colour: str, *, dash: bool = False, thick: float = 1
    ) -> None:
        dashes = ' stroke-dasharray="5 4"' if dash else ""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{thick:g}"{dashes}/>'
        )

    def _write(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "start",
        size: int = 12,
        colour: str = "#222222",
        weight: str = "normal",
    ) -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}" '
            f'font-weight="{weight}">{escape(text)}</text>'
        )


def _legend_rows(labels: Sequence[str], letter: float) -> list[list[str]]:
    """Labels in as many rows as they need."""
    rows: list[list[str]] = [[]]
    for label in labels:
        if rows[-1] and _LEFT + sum(24 + letter * len(one) for one in (*rows[-1], label)) > _WIDTH:
            rows.append([])
        rows[-1].append(label)
    return rows
