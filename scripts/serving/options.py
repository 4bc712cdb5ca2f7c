"""Options of a benchmark of serving: what is measured has a size, and a smaller one with `--quick`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Options:
    """A command line with `--out`, `--seed` and `--quick`, and the sizes that are added."""

    def __init__(self, about: str | None, out: str, quick: str) -> None:
        self.parser = argparse.ArgumentParser(
            description=about, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add = self.parser.add_argument
        add("--out", type=Path, default=Path(out), help="the report's path without ending")
        add("--seed", type=int, default=0)
        add("--quick", action="store_true", help=f"{quick}: good for trying only")
        self._sizes: dict[str, tuple[Any, Any]] = {}

    def add(self, name: str, full: Any, quick: Any, help: str = "") -> None:
        """An option for a size, a number or several, with what it is where it is not given."""
        several = isinstance(full, (tuple, list))
        shown = " ".join(f"{one:g}" for one in (full if several else (full,)))
        number = type(full[0] if several else full)
        self.parser.add_argument(
            f"--{name}",
            type=number,
            nargs="+" if several else None,
            help=f"{help} (default {shown})".lstrip(),
        )
        self.fix(name.replace("-", "_"), full, quick)

    def fix(self, name: str, full: Any, quick: Any) -> None:
        """A size that is no option."""
        self._sizes[name] = full, quick

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Read the command line."""
        found = self.parser.parse_args(argv)
        for name, sizes in self._sizes.items():
            if getattr(found, name, None) is None:
                setattr(found, name, sizes[1 if found.quick else 0])
        return found
