"""A picture of the page for the README: a host writes, and the page of the run is photographed in a headless Chromium.

    python scripts/picture_page.py --out reports/pictures/page.png

The picture is of a real run: the page is the one that `phoropter watch --html` writes, with a word chosen.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from chromium import open_chromium

from lenses.errors import ConfigError, PhoropterError
from lenses.files import write_atomically
from runtime.cli import main as phoropter

TRACKS = ("woody_plant.n.01", "flower.n.01")
"""Tracked where the prompt is the usual one."""
_SCALE = 1
"""Pixels of the picture a pixel of the page: a README shows it smaller than it is, which is sharp enough."""


def write_page(arguments: argparse.Namespace, file: Path) -> int:
    """Watch a run and write its page; the exit code of `phoropter watch`, which has said what is wrong."""
    words = ["watch", "--html", str(file)]
    for name in ("pack", "model", "max_new_tokens", "temperature", "seed"):
        if (value := getattr(arguments, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    for id in arguments.track:
        words += ["--track", id]
    with redirect_stdout(io.StringIO()):
        return phoropter([*words, "--", arguments.prompt])


def photographed(file: Path, arguments: argparse.Namespace) -> bytes:
    """The top of the page as a PNG, a word chosen; raises ExtraMissing, and ConfigError for a word that is not."""
    with open_chromium() as browser:
        page = browser.new_page(
            viewport={"width": arguments.width, "height": arguments.height},
            device_scale_factor=_SCALE,
            color_scheme=arguments.scheme,
            reduced_motion="reduce",
        )
        page.goto(file.as_uri())
        count = page.locator(".w").count()
        word = 2 * count // 3 if arguments.word is None else arguments.word
        if not 0 <= word < count:
            raise ConfigError(f"--word {word}: the text has the words 0 to {count - 1}; give one of them")
        page.locator(f"#w{word}").click()
        page.evaluate("scrollTo(0, 0)")
        return page.screenshot()


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", help="as for `phoropter watch`, like all that is not of the picture")
    parser.add_argument("--model")
    parser.add_argument("--prompt", default="A rose is")
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--track", action="append", metavar="CONCEPT", help=f"usually {' and '.join(TRACKS)}")
    parser.add_argument(
        "--word", type=int, help="the one that is chosen; by default two thirds along the text"
    )
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--width", type=int, default=1200, help="pixels")
    parser.add_argument("--height", type=int, default=820, help="pixels")
    parser.add_argument("--out", type=Path, default=Path("reports/pictures/page.png"))
    arguments = parser.parse_args(argv)
    arguments.track = list(TRACKS) if arguments.track is None else arguments.track
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    arguments = parse(argv)
    try:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "page.html"
            if code := write_page(arguments, file):
                return code
            png = photographed(file, arguments)
        write_atomically(arguments.out, png)
    except PhoropterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.out} ({len(png) / 1024:.0f} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
