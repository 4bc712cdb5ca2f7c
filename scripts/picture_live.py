"""A picture of a server's page for the README: `phoropter serve` is started, and a prompt typed.

    python scripts/picture_live.py --out reports/pictures/live.png

The picture is of a real run, taken when the text is written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from chromium import open_chromium
from serving.servers import running

from lenses.errors import PhoropterError
from lenses.files import write_atomically


def photographed(url: str, arguments: argparse.Namespace) -> bytes:
    """The top of the page as a PNG; raises ExtraMissing."""
    with open_chromium() as browser:
        page = browser.new_page(
            viewport={"width": arguments.width, "height": arguments.height},
            color_scheme=arguments.scheme,
            reduced_motion="reduce",
        )
        page.goto(url)
        page.locator("#prompt:not([disabled])").fill(arguments.prompt)
        page.keyboard.press("Control+Enter")
        page.locator("body:not(.running) #text .w").first.wait_for()
        return page.screenshot()


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", help="as for `phoropter serve`")
    parser.add_argument("--model")
    parser.add_argument("--prompt", default="A rose is")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--width", type=int, default=1160, help="pixels")
    parser.add_argument("--height", type=int, default=800, help="pixels")
    parser.add_argument("--out", type=Path, default=Path("reports/pictures/live.png"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    arguments = parse(argv)
    named = {name: getattr(arguments, name) for name in ("pack", "model")}
    words = [word for name, value in named.items() if value is not None for word in (f"--{name}", value)]
    try:
        with running("serving.product", ["--port", "0", *words]) as server:
            png = photographed(server.url, arguments)
        write_atomically(arguments.out, png)
    except PhoropterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.out} ({len(png) / 1024:.0f} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
