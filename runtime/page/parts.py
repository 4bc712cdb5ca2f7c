"""What every page is put together with: places in a template, and JSON that cannot end or open an element."""

import json
import re
from collections.abc import Mapping
from importlib.resources import files

_PLACE = re.compile(r"\{\{(\w+)\}\}")
_SPECIAL = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with `{{name}}` replaced, in one pass: what is put in may look like a place to put things in."""
    return _PLACE.sub(lambda place: parts[place[1]], template)


def embedded_json(value: object) -> str:
    """JSON that may stand inside a script element: plain ASCII without `<`, `>` and `&`."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(_SPECIAL)


def page(
    main: str, *, title: str, styles: tuple[str, ...], script: str, contents: object, **parts: str
) -> str:
    """A page: the shell around the file `main`, with `title` in HTML; `parts` are put into `main`.

    `styles` and `script` name files too; `shared.js` stands before the script.
    """
    here = files(__package__)

    def read(name: str) -> str:
        return here.joinpath(name).read_text(encoding="utf-8")

    return filled(
        read("shell.html"),
        {
            "title": title,
            "style": "".join(map(read, styles)),
            "main": filled(read(main), parts),
            "data": embedded_json(contents),
            "script": read("shared.js") + read(script),
        },
    )
