"""`phoropter diff`: where two recordings part."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lenses.text import one_line
from runtime.commands.options import check

if TYPE_CHECKING:
    from runtime.recording.differing import Differences, Moved, PositionDifference, TokenDifference
    from runtime.recording.recording import Recording

_File = Annotated[str, typer.Argument(help="A recording.")]
_NONE = "not scored"


def diff(
    a: _File,
    b: Annotated[str, typer.Argument(help="Another.", metavar="OTHER")],
    show: Annotated[
        int, typer.Option(help="Concepts that are shown of a position: those that differ most.")
    ] = 3,
    positions: Annotated[int, typer.Option(help="Positions that are shown, the first ones.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Show where two recordings part: in tokens, and in what lenses said at each position.

    No pack is needed, and the two may be of different ones. Exit code 0 if they are equal, 1 if they differ, 2 if one
    cannot be read.

    \b
    Examples:
      phoropter diff monday.safetensors tuesday.safetensors
      phoropter diff dog.safetensors mine.safetensors --json
    """
    check("show", show, 0)
    check("positions", positions, 0)
    from runtime.display import print_table
    from runtime.recording.differing import differing
    from runtime.recording.recording import Recording

    left, right = Recording.load(a), Recording.load(b)
    found = differing(left, right)
    if as_json:
        print(json.dumps(_to_json(found), ensure_ascii=False, allow_nan=False))
        raise typer.Exit(int(not found.are_equal))
    names = [one_line(Path(path).stem) for path in (a, b)]
    if names[0] == names[1]:
        names = ["first", "second"]
    if found.settings:
        print_table(["made with", *names], [[one_line(part) for part in row] for row in found.settings])
    for line in _summary(found, left, right):
        print(line)
    if found.are_equal:
        return
    if found.positions and positions:
        columns = ["where", "word", "differs in", "concept", *names, "logits apart"]
        print_table(columns, _rows(found, left, right, show, positions))
    raise typer.Exit(1)


def _summary(found: "Differences", a: "Recording", b: "Recording") -> Iterator[str]:
    if found.are_equal:
        yield f"equal: {a}, the same contents at {_positions(found.compared)}"
        return
    several = _several(a, b)
    for difference in found.tokens:
        said = " and ".join(_spelled(run, token) for run, token in ((a, difference.a), (b, difference.b)))
        yield f"tokens part at position {_place(difference, several)}: {said}"
    if not found.tokens:
        yield "tokens are the same"
    if found.positions:
        count = len(found.positions)
        first, of = _place(found.positions[0], several), _positions(found.compared)
        yield f"contents part at position {first}; {count:,} of {of} differ{'s' if count == 1 else ''}"
    else:
        yield f"contents are the same at {_positions(found.compared)}"


def _positions(count: int) -> str:
    return f"{count:,} position{'' if count == 1 else 's'}"


def _several(a: "Recording", b: "Recording") -> bool:
    return max(len(run.sequences) for run in (a, b)) > 1


def _place(of: "TokenDifference | PositionDifference", several: bool) -> str:
    return f"{of.position} of sequence {of.sequence}" if several else str(of.position)


def _spelled(run: "Recording", token: int | None) -> str:
    """A token as a person reads it."""
    if token is None:
        return "the end"
    text = run.tokenizer.decode([token])
    return f"'{one_line(text)}'" if text else one_line(run.tokenizer.convert_ids_to_tokens(token))


def _rows(
    found: "Differences", a: "Recording", b: "Recording", show: int, positions: int
) -> Iterator[list[str]]:
    for at in found.positions[:positions]:
        word = _word(at, a, b)
        place = [_place(at, _several(a, b)), word, ", ".join(at.what)]
        for moved in at.moved[:show]:
            yield [*place, *_moved(moved)]
            place = [""] * len(place)
        if not at.moved or not show:
            yield [*place, "", "", "", ""]
        elif len(at.moved) > show:
            yield ["", "", "", f"and {len(at.moved) - show} more", "", "", ""]
    if len(found.positions) > positions:
        yield ["", "", f"and {_positions(len(found.positions) - positions)} more", "", "", "", ""]


def _word(at: "PositionDifference", a: "Recording", b: "Recording") -> str:
    """The word that was read there, of both runs where they differ."""
    words = []
    for run in (a, b):
        tokens = run.sequences[at.sequence].tokens if at.sequence < len(run.sequences) else []
        words.append(_spelled(run, tokens[at.position] if at.position < len(tokens) else None))
    return " / ".join(dict.fromkeys(words))


def _moved(moved: "Moved") -> list[str]:
    said = [_NONE if p is None else f"{p:.4f}" for p in (moved.a, moved.b)]
    one, other = moved.logits
    return [moved.name, *said, "" if one is None or other is None else f"{other - one:+.2g}"]


def _to_json(found: "Differences") -> dict[str, Any]:
    from runtime.recording.fields import to_json

    value: dict[str, Any] = {"equal": found.are_equal, **to_json(found)}
    return value
