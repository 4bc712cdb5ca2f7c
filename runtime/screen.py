"""A terminal's alternate screen, painted in place: what is already there is not written again.

The alternate screen makes resizing clean (a terminal that wraps lines anew moves them under whoever repaints
them), and writing only the lines that changed makes it steady. Knows nothing about what the lines say.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.segment import Segment
from rich.text import Text


class Screen:
    """The alternate screen of a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._there: list[Text] = []
        self._size: tuple[int, int] | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the terminal has another size than the one that was painted for."""
        return self._size != tuple(self._console.size)

    def open(self) -> None:
        """Change to the alternate screen and hide the cursor."""
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def close(self) -> None:
        """Give the terminal back as it was; may be called when it was never taken."""
        self._console.show_cursor(True)
        self._console.set_alt_screen(False)

    def paint(self, lines: Sequence[Text], width: int, height: int) -> None:
        """Show these lines on a screen of this size, from the top; beyond its height there is nothing."""
        shown = [*lines[:height], *(Text() for _ in range(height - len(lines)))]
        with self._console:  # one write a frame: a terminal never shows half of one
            if self._size != (width, height):
                self._console.clear()
                self._there, self._size = [Text() for _ in range(height)], (width, height)
            for row, (there, line) in enumerate(zip(self._there, shown, strict=True)):
                if there != line:
                    segments = Segment.adjust_line_length(list(line.render(self._console)), width)
                    self._console.update_screen_lines([segments], 0, row)
        self._there = shown
