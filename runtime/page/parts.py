"""What every page is put together with: places in a template, and JSON that cannot end or open an element."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

_PLACE = re.compile(r"\{\{(\w+)\}\}")
VIEW = ("concepts.js", "run.js", "text.js", "strips.js", "side.js", "map.js", "search.js", "view.js")
"""The scripts that show a run, whole or growing, wherever its page came from."""
_CLOSED = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_SPECIAL = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with `{{name}}` replaced, in one pass: what is put in may look like a place to put things in."""
    return _PLACE.sub(lambda place: parts[place[1]], template)


def embedded_json(value: object) -> str:
    """JSON that may stand inside a script element: plain ASCII without `<`, `>` and `&`."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(_SPECIAL)


def read(name: str) -> str:
    """A file of this package."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def page(
    main: str,
    *,
    title: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    contents: object,
    asks: bool = False,
    **parts: str,
) -> str:
    """A page: the shell around the file `main`, with `title` in HTML; `parts` are put into `main`.

    `styles` and `scripts` name files too; `shared.js` stands before the scripts. The page's content security policy
    refuses every request; where the page `asks`, all but those to the server that it came from.
    """
    style = "".join(map(read, styles))
    script = "".join(map(read, ("shared.js", *scripts)))
    return filled(
        read("shell.html"),
        {
            "policy": _asking(style, script) if asks else _CLOSED,
            "title": title,
            "style": style,
            "main": filled(read(main), parts),
            "data": embedded_json(contents),
            "script": script,
        },
    )


def _asking(style: str, script: str) -> str:
    """A policy for these two elements of the shell, each known by its hash."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(f"\n{text}\n".encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'"
    )
