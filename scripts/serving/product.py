"""`phoropter serve` in a process of its own, with what a benchmark adds: `python -m serving.product --add timers ...`

What follows `--add NAME` is the command line of `phoropter serve`. Nothing of the server is another one but for what
the additions say that they change.
"""

import sys
from collections.abc import Callable

from runtime.cli import main as phoropter
from serving.additions import Addition, add_route
from serving.faults import Faults
from serving.joining import Joining
from serving.showing import Showing
from serving.timers import Timers

ADDITIONS: dict[str, Callable[[], Addition]] = {
    "timers": lambda: Timers().install(),
    "joining": lambda: Joining().install(),
    "showing": lambda: Showing().install(),
    "faults": lambda: Faults().install(),
}


def main(arguments: list[str]) -> int:
    """Install what is asked for, and serve; the exit code is the product's."""
    added = {"bytes": Addition(lambda service: service.ledger.by_cause())}
    while arguments[:1] == ["--add"]:
        added[arguments[1]] = ADDITIONS[arguments[1]]()
        arguments = arguments[2:]
    add_route(added)
    return phoropter(["serve", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
