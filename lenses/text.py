"""Text that comes from files of strangers, and text that goes into files: strict JSON, and one-line quoting.

It knows nothing about packs. JSON is read strictly (UTF-8, no key twice, no NaN, bounded nesting) because a
reader that takes the last of two equal keys checks one file and uses another. JSON is written canonically, so
that equal values have equal bytes and equal hashes.
"""

import json
import re
from typing import Any

from lenses.errors import PackFormatError

_LONGEST = 240
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """Whether `text` is one line without control characters that a terminal would obey, and valid UTF-8."""
    return not _UNPRINTABLE.search(text)


def one_line(value: object) -> str:
    """`value` as text fit for a one-line message.

    Control characters escaped, the middle of a long text left out.
    """
    text = _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], str(value))
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


def quoted(value: object) -> str:
    """`one_line(value)` in quotes when it is a string, as JSON-like text otherwise."""
    return f"'{one_line(value)}'" if isinstance(value, str) else one_line(value)


def read_json(raw: bytes, source: str) -> Any:
    """The value that `raw` holds as strict JSON; raises PackFormatError that begins with `source`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise PackFormatError(f"{source}: the key {quoted(twice)} stands twice in one object; {_ADVICE}")
        return found

    def no_constant(constant: str) -> Any:
        raise PackFormatError(f"{source}: {constant} is not a number that JSON has; {_ADVICE}")

    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise PackFormatError(f"{source}: not valid JSON ({one_line(error)}); {_ADVICE}") from error


_ADVICE = "the file is damaged, fetch the pack again"


def canonical_json(value: object, *, indent: int | None = None) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no trailing spaces: equal values, equal bytes."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(
        value, sort_keys=True, separators=separators, indent=indent, ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")
