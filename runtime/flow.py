"""Text that only grows, broken into lines of a width.

What was broken once stays: only the last line is laid out again when text is added, so a long text costs no
more than a short one and does not move while it is read. Knows nothing about words, colours or terminals;
widths are in terminal cells, of which some characters take two.
"""

import re

from rich.cells import cell_len

_RUN = re.compile(r"\n|[^\S\n]+|\S+")


class Flow:
    """A growing text and its lines of at most `width` cells, broken at spaces where that is possible."""

    def __init__(self, width: int) -> None:
        self._width = max(1, width)
        self.text = ""
        """All that was added."""
        self.lines: list[tuple[int, int]] = [(0, 0)]
        """Where each line begins and ends in `text`, spaces at its end left out."""

    def add(self, text: str) -> None:
        """Append to the text."""
        self.text += text
        start, _ = self.lines.pop()
        self._lay_out(start)

    def _lay_out(self, start: int) -> None:
        end, cells = start, 0  # `cells` counts the spaces after `end`, too
        for found in _RUN.finditer(self.text, start):
            run = found[0]
            if run == "\n":
                self.lines.append((start, end))
                start = end = found.end()
                cells = 0
            elif run.isspace():
                cells += cell_len(run)
            else:
                if end > start and cells + cell_len(run) > self._width:
                    self.lines.append((start, end))
                    start, cells = found.start(), 0
                for at, character in enumerate(run, found.start()):
                    cells += cell_len(character)
                    if cells > self._width and at > start:
                        # Spaces that leave no room for the first character are no line of their own.
                        self.lines.append((start, at if at > found.start() else end))
                        start, cells = at, cell_len(character)
                end = found.end()
        self.lines.append((start, end))
