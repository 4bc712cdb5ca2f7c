"""A picture of a server's page for the README: `phoropter serve` is started, and a prompt typed.

    python scripts/picture_live.py --out reports/pictures/live.png

The picture is of a real run, taken when the text is written.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chromium import open_chromium

from lenses.errors import HostError, PhoropterError
from lenses.files import write_atomically
from lenses.text import one_line

_SERVE = "import sys; from runtime.cli import main; sys.exit(main(['serve', '--port', '0', *sys.argv[1:]]))"


@contextmanager
def served(arguments: argparse.Namespace) -> Iterator[str]:
    """A server's address, while it is there; raises HostError where it does not come up."""
    words = []
    for name in ("pack", "model"):
        if (value := getattr(arguments, name)) is not None:
            words += [f"--{name}", value]
    command = [sys.executable, "-c", _SERVE, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None, "it is a pipe"
            line = server.stdout.readline()
            if " · " not in line:
                raise HostError(
                    f"the server did not start; phoropter serve {one_line(' '.join(words))} says why"
                )
            yield line.rsplit(" · ", 1)[1].strip()
        finally:
            server.terminate()


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
    try:
        with served(arguments) as url:
            png = photographed(url, arguments)
        write_atomically(arguments.out, png)
    except PhoropterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.out} ({len(png) / 1024:.0f} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
