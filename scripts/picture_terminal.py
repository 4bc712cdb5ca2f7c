"""A picture of the terminal view for the README: a host writes, and the last frame is saved as an SVG.

    python scripts/picture_terminal.py --out reports/pictures/terminal.svg

The picture is of a real run: the frame is the one that `phoropter watch` leaves in a terminal of that width.
It asks for nothing when it is looked at: no font is fetched, a fixed-width one of the reader's is taken.
"""

import argparse
import io
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from lenses.errors import PhoropterError, WriteError
from lenses.files import write_atomically
from lenses.pack import LensPack
from lenses.text import one_line
from runtime.branches import GREY
from runtime.frame import Frame
from runtime.generate import encode
from runtime.host import load_host, quiet
from runtime.monitor import Monitor
from runtime.packs import resolve_pack
from runtime.session import Session
from runtime.transcript import Transcript
from runtime.trend import Trend

_FONTS = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace'
_ASPECT = 0.602
"""Width over height of a character in nearly all of these fonts."""


def drawn(frame: Frame, command: str, width: int) -> str:
    """The command and its frame in a drawn terminal, as an SVG document that refers to nothing outside it."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=width,
        force_terminal=True,
        color_system="truecolor",
        _environ={},
    )
    console.print(Text.assemble(("$ ", GREY), command, "\n"))
    for line in frame.lines(width, None, colours=True):
        console.print(line, no_wrap=True, overflow="crop")
    svg = console.export_svg(title="", theme=DIMMED_MONOKAI, unique_id="terminal", font_aspect_ratio=_ASPECT)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace(
        "<svg ", '<svg xml:space="preserve" ', 1
    )  # some renderers drop even spaces that do not break
    return svg.replace("Fira Code, monospace", _FONTS).replace(
        "font-family: arial", "font-family: sans-serif"
    )


def watched(arguments: argparse.Namespace) -> Frame:
    """The last frame of a real run; raises PhoropterError for a pack, host or concept that cannot be used."""
    pack = LensPack.from_pretrained(resolve_pack(arguments.pack))
    trends = [Trend(pack.hierarchy, id) for id in dict.fromkeys(arguments.track)]
    with Monitor(pack) as monitor, quiet():
        host = load_host(arguments.model or pack.host_dir or pack.config.host.id)
        limit = arguments.max_new_tokens
        prompt = encode(host.model, host.tokenizer, arguments.prompt, limit)["input_ids"][0].tolist()
        title = f"{host.id} · lenses {pack.path.name}"
        transcript = Transcript(host.tokenizer, prompt)
        session = Session(transcript, monitor.stats, title, limit, arguments.show, trends)
        monitor.subscribe(session.pace)
        frame = Frame(session)
        temperature = arguments.temperature
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        for event in monitor.stream(
            host.model,
            host.tokenizer,
            arguments.prompt,
            max_new_tokens=limit,
            seed=arguments.seed,
            **sampling,
        ):
            frame.add(event)
    return frame


def command(arguments: argparse.Namespace) -> str:
    """What to type for this run; what is not said is as by default."""
    usual = parse([])
    words = ["phoropter", "watch", shlex.quote(arguments.prompt)]
    for name in ("pack", "model", "max_new_tokens", "temperature", "seed", "show"):
        if (value := getattr(arguments, name)) != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", shlex.quote(str(value))]
    for id in arguments.track:
        words += ["--track", shlex.quote(id)]
    return one_line(" ".join(words))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(  # the same defaults as `phoropter watch`: the picture shows its command
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", default="wordnet-mini")
    parser.add_argument(
        "--model", help="host: a directory or hub id; by default the one that the pack is for"
    )
    parser.add_argument("--prompt", default="The dog")
    parser.add_argument("--max-new-tokens", type=int, default=40)
    parser.add_argument("--temperature", type=float, default=0.7, help="0 takes the likeliest token")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=8)
    parser.add_argument("--track", action="append", default=[], metavar="CONCEPT")
    parser.add_argument("--width", type=int, default=100, help="cells")
    parser.add_argument("--out", type=Path, default=Path("reports/pictures/terminal.svg"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    arguments = parse(argv)
    try:
        svg = drawn(watched(arguments), command(arguments), arguments.width)
        _make_directory(arguments.out.parent)
        write_atomically(arguments.out, svg)
    except PhoropterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.out} ({len(svg.encode()) / 1024:.0f} KiB)")
    return 0


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot make {directory}: {error.strerror}; give another --out") from error


if __name__ == "__main__":
    sys.exit(main())
