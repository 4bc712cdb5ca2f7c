"""`phoropter pack list`, `show`, `report` and `verify`: what is here, what a pack holds, the card of each lens."""

from typing import TYPE_CHECKING, Annotated

import typer

from lenses.text import one_line

if TYPE_CHECKING:
    from lenses.pack import LensPack

_PACK = typer.Argument(help="A directory, a name of `pack list`, or a hub id.")


def register(app: typer.Typer) -> None:
    """Add the commands to `phoropter pack`."""
    app.command("list")(list_packs)
    app.command("show")(show)
    app.command("report")(report)
    app.command("verify")(verify_pack)


def show(
    pack: Annotated[str, _PACK],
    concept: Annotated[str | None, typer.Argument(help="A concept's id: show the card of its lens.")] = None,
) -> None:
    """Show what a lens pack holds: its host, its lenses, its levels, and how good they were measured to be.

    With a concept, the card of its lens: everything that was measured, its grade and why.

    \b
    Examples:
      phoropter pack show wordnet-mini
      phoropter pack show wordnet-mini animal.n.01
    """
    from lenses.pack import LensPack
    from runtime.packs import resolve_pack

    opened = LensPack.from_pretrained(resolve_pack(pack))
    if concept is None:
        _show_pack(opened)
    else:
        _show_lens(opened, concept)


def report(
    pack: Annotated[str, _PACK],
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where it goes. Default: NAME-lenses.html here.")
    ] = None,
) -> None:
    """Write every lens of a pack as one page for a browser: a list to sort and search, pictures, a card for each.

    \b
    Examples:
      phoropter pack report wordnet-mini
      phoropter pack report wordnet-mini --out lenses.html
    """
    from lenses.files import write_atomically
    from lenses.pack import LensPack
    from runtime.packs import resolve_pack
    from runtime.page.lens_report import format_lens_report

    opened = LensPack.from_pretrained(resolve_pack(pack))
    path = out or f"{opened.name}-lenses.html"
    write_atomically(path, format_lens_report(opened))
    print(f"wrote {one_line(path)}: {len(opened.hierarchy)} lenses")


def _show_pack(opened: "LensPack") -> None:
    from lenses.grade import LETTERS, rule
    from runtime.display import print_table
    from runtime.packs import about_rows, alarm_rows, grade_rows, level_rows, metric_rows

    print_table(["pack", one_line(opened.name)], about_rows(opened))
    print_table(["level", "concepts", "families", "scored"], level_rows(opened))
    print_table(["grade", "means", "lenses"], grade_rows(opened))
    print_table(["a grade is the worst letter of", *LETTERS[:-1]], rule())
    print_table(["alarms per 1,000 tokens", "expected"], alarm_rows(opened))
    metrics = metric_rows(opened)
    if metrics:
        print_table(["metric", "lenses", "median", "worst tenth", "worst", "concept"], metrics)


def _show_lens(opened: "LensPack", concept: str) -> None:
    from lenses.lens_card import lens_card
    from runtime.display import print_table

    index = opened.hierarchy.index(concept)
    for section in lens_card(opened.config, opened.hierarchy, opened.heads, index):
        print_table([section.title, ""], section.rows)


def list_packs() -> None:
    """List the lens packs that are here: in lens_packs/, and beside the installed package.

    \b
    Example:
      phoropter pack list
    """
    from runtime.display import print_table
    from runtime.packs import list_rows

    rows = list_rows()
    if not rows:
        print("no lens packs in lens_packs/; scripts/train_lenses.py trains one")
        return
    print_table(["pack", "host", "site", "concepts", "base levels", "size"], rows)


def verify_pack(
    pack: Annotated[str, typer.Argument(help="A directory, a name of `pack list`, or a hub id.")],
) -> None:
    """Check every byte of a lens pack against its hashes; exit code 2 and the first damage if there is any.

    \b
    Example:
      phoropter pack verify lens_packs/wordnet-mini
    """
    from lenses.pack import LensPack
    from runtime.packs import resolve_pack

    opened = LensPack.from_pretrained(resolve_pack(pack))
    opened.verify()
    config = opened.config
    print(
        f"ok: {one_line(opened.path)}: {config.concepts} lenses in {config.families} families, "
        f"{len(config.sha256)} files, all as they were written"
    )
