"""`phoropter pack import`, `convert`, `subset` and `diff`: packs out of other packs, and out of what others have.

It reads options, calls `lenses`, and prints. What is slow to import is imported where it is needed.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lenses.errors import ConfigError
from lenses.text import one_line

if TYPE_CHECKING:
    from lenses.diff import Difference
    from lenses.importers.imported import Imported, Progress
    from lenses.pack import LensPack

_MOST_SHOWN = 20
"""Rows of one kind that are printed; all are counted, and an import keeps them in the pack's provenance."""
_DTYPES = ("bf16", "fp32", "int8")

_Pack = Annotated[str, typer.Argument(help="A directory, a name of `pack list`, or a hub id.")]
_Out = Annotated[str, typer.Option(metavar="DIR", help="The new pack's directory.")]
_Dtype = Annotated[
    str | None, typer.Option(metavar="DTYPE", help="How first layers are stored: bf16, fp32 or int8.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `phoropter pack`."""
    app.command("import")(import_pack)
    app.command("convert")(convert_pack)
    app.command("subset")(subset_pack)
    app.command("diff")(diff_packs)


def import_pack(
    source: Annotated[
        str,
        typer.Argument(help="A directory of layer0/NAME.pt and so on, or probes as .npz or .safetensors."),
    ],
    out: _Out,
    host_id: Annotated[
        str | None, typer.Option(help="Hub id of the host. Default: `model` of pack_info.json.")
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="What lenses read: resid_post.15 is the output of block 15.")
    ] = None,
    blocks: Annotated[
        int | None, typer.Option(help="Decoder blocks of the host: num_hidden_layers of its config.json.")
    ] = None,
    host_dtype: Annotated[
        str | None, typer.Option(help="What the host's states were computed in: bf16, fp32 or fp16.")
    ] = None,
    host_revision: Annotated[str | None, typer.Option(help="Commit of the host on the hub.")] = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="How states were pooled over positions: token, mean, ema:A or ewm:A."),
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option(
            help="How a state was normalised: none, rms or layer. Default for a directory: layer where lenses have a "
            "LayerNorm of their own, none where not; where some have one, this says which are imported."
        ),
    ] = None,
    eps: Annotated[
        float | None, typer.Option(help="Of the norm. Default: 1e-5 for layer, as PyTorch has it, else 1e-6.")
    ] = None,
    base_levels: Annotated[
        str | None, typer.Option(help="Levels scored at every token: 0 or 0,1 and so on. Default: 0,1.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="SPDX identifier of the lenses' licence. Default: unknown.")
    ] = None,
    dtype: _Dtype = None,
) -> None:
    """Make a lens pack out of lenses that others trained: a directory of state dicts, or linear probes.

    A directory has one .pt file a concept, as layer0/NAME.pt or layer0/NAME_classifier.pt, with hierarchy.json and
    pack_info.json beside; a file of probes has coef, intercept and names. Files are read without running any code of
    theirs. What they do not say must be given, and what is odd is listed. The pack is uncalibrated and unmeasured.
    First layers are stored as they are unless --dtype is given.

    \b
    Examples:
      phoropter pack import apertus --site resid_post.15 --blocks 32 --host-dtype bf16 --pooling token --out packs/a
      phoropter pack import probes.npz --host-id google/gemma-3-270m --site resid_post.9 --blocks 18
          --host-dtype bf16 --pooling mean --norm none --out packs/probes
    """
    from lenses.importers.facts import Given
    from lenses.importers.probes import ENDINGS, import_probes
    from lenses.importers.reading import Reader
    from lenses.importers.state_dicts import import_state_dicts
    from runtime.config import parse_levels

    given = Given(
        host_id=host_id,
        host_revision=host_revision,
        host_dtype=host_dtype,
        blocks=blocks,
        site=site,
        pooling=pooling,
        norm=norm,
        eps=eps,
        base_levels=None if base_levels is None else tuple(parse_levels(base_levels)),
        licence=licence,
    )
    stored = _dtype(dtype)
    with _progress() as progress:
        if Path(source).suffix in ENDINGS and not Path(source).is_dir():
            made = import_probes(source, out, given, dtype=stored, progress=progress)
        else:
            with Reader() as reader:
                made = import_state_dicts(source, out, given, reader=reader, dtype=stored, progress=progress)
    _print_imported(made)


def convert_pack(
    pack: _Pack,
    out: _Out,
    dtype: _Dtype = None,
    compact: Annotated[
        int | None,
        typer.Option(
            metavar="R",
            help="Make mlp lenses compact: one projection to R for all. Refused unless they do lie in R directions; "
            "else compact lenses must be trained.",
        ),
    ] = None,
) -> None:
    """Store the lenses of a pack otherwise: in another dtype, or as compact lenses.

    Calibration and metrics are kept, and not measured again; how far logits are off is printed and kept in the pack.

    \b
    Examples:
      phoropter pack convert wordnet-mini --dtype int8 --out wordnet-mini-int8
      phoropter pack convert wordnet-mini --compact 64 --out wordnet-mini-compact
    """
    from lenses.convert import convert, convert_to_compact
    from lenses.pack import LensPack
    from runtime.packs import resolve_pack

    stored = _dtype(dtype)
    if (stored is None) == (compact is None):
        raise ConfigError("give one of --dtype bf16, fp32 or int8, and --compact R")
    opened = LensPack.from_pretrained(resolve_pack(pack))
    with _progress() as progress:
        families = len(opened.hierarchy.families)

        def written(done: int) -> None:
            progress("families written", done, families)

        if stored is not None:
            made, error = convert(opened, out, stored, progress=written)
            said = (
                f"logits off by {error.median:.2g} (median) and {error.largest:.2g} (largest) on {error.states} random "
                f"states of {error.lenses} lenses, whose largest logit is {error.largest_logit:.3g}"
            )
        else:
            assert compact is not None
            made, lost = convert_to_compact(opened, out, compact, progress=written)
            said = f"the worst lens loses {lost:.2g} of its first layer's energy"
    _print_made(made)
    print(said)


def subset_pack(
    pack: _Pack,
    concepts: Annotated[
        list[str], typer.Argument(metavar="CONCEPT...", help="Concepts to keep, by id or alias.")
    ],
    out: _Out,
) -> None:
    """Make a smaller pack: some concepts with everything below them, and what is above them.

    \b
    Example:
      phoropter pack subset wordnet-mini animal.n.01 artifact.n.01 --out small
    """
    from lenses.pack import LensPack
    from lenses.subset import write_subset
    from runtime.packs import resolve_pack

    opened = LensPack.from_pretrained(resolve_pack(pack))
    with _progress() as progress:
        made = write_subset(
            opened, concepts, out, progress=lambda done: progress("families written", done, done)
        )
    _print_made(made)


def diff_packs(a: _Pack, b: Annotated[str, typer.Argument(help="Another.", metavar="OTHER")]) -> None:
    """Show what two packs say differently: settings, concepts, weights, calibration, metrics.

    Exit code 0 if they are the same, 1 if they differ, 2 if one cannot be read, as of diff.

    \b
    Example:
      phoropter pack diff wordnet-mini wordnet-mini-int8
    """
    from lenses.diff import diff
    from lenses.pack import LensPack
    from runtime.display import print_table
    from runtime.packs import resolve_pack

    opened = [LensPack.from_pretrained(resolve_pack(name)) for name in (a, b)]
    found = list(diff(*opened))
    if not found:
        print(f"the same: {one_line(opened[0].path)} and {one_line(opened[1].path)}")
        return
    print_table(["part", "what", *(one_line(pack.path.name) for pack in opened)], _difference_rows(found))
    raise typer.Exit(1)


def _difference_rows(found: Sequence["Difference"]) -> Iterator[list[str]]:
    counts = Counter(one.part for one in found)
    shown: Counter[str] = Counter()
    for one in found:
        shown[one.part] += 1
        if shown[one.part] <= _MOST_SHOWN:
            yield [one.part, one_line(one.where), one.a, one.b]
        if shown[one.part] == counts[one.part] > _MOST_SHOWN:
            yield [one.part, f"and {counts[one.part] - _MOST_SHOWN} more", "", ""]


def _print_imported(made: "Imported") -> None:
    from lenses.importers.imported import UNPROVEN
    from runtime.display import print_table

    print_table(
        ["fact", "value", "said by"],
        [[fact.name.replace("_", " "), one_line(_plain(fact.value)), fact.origin] for fact in made.facts],
    )
    if made.odd:
        print_table(
            ["odd", "count", "what was done", "which"],
            [
                [item.what, str(len(item.names)), item.done, which]
                for item in made.odd
                for which in _some(item.names)
            ],
        )
    _print_made(made.pack)
    print(UNPROVEN)


def _some(names: Sequence[str]) -> Iterable[str]:
    yield from names[:_MOST_SHOWN]
    if len(names) > _MOST_SHOWN:
        yield f"and {len(names) - _MOST_SHOWN} more, in the provenance of the pack's config.json"


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _print_made(pack: "LensPack") -> None:
    config = pack.config
    print(
        f"wrote {one_line(pack.path)}: {config.concepts} lenses in {config.families} families, "
        f"{config.lens.describe(config.host.hidden_size)}, first layers {config.lens.dtype} ({pack.identity[:12]})"
    )


def _dtype(dtype: str | None) -> Any:
    if dtype is not None and dtype not in _DTYPES:
        raise ConfigError(f"dtype {one_line(dtype)}: expected {', '.join(_DTYPES)}")
    return dtype


@contextmanager
def _progress() -> "Iterator[Progress]":
    """A bar for each thing that is being done, on standard error, while it is a terminal."""
    from runtime.display import progress_bars

    with progress_bars(transient=True, disable=not sys.stderr.isatty()) as bars:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield advance
