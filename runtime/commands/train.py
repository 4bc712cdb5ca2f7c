"""`phoropter train`: from concepts and texts to a pack; `phoropter pack measure`: the same but for the training."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lenses.errors import ConfigError
from lenses.text import one_line, quoted
from runtime.commands.options import Device, Model, open_host

if TYPE_CHECKING:
    from rich.progress import Progress

    from runtime.host import Host
    from runtime.training.recipe import Recipe, Texts
    from runtime.training.sources import Concepts
    from runtime.training.workers import Workers

_WIDTHS: dict[str, tuple[int, int] | tuple[()]] = {"mlp": (128, 64), "compact": (16, 8), "linear": ()}
_SITES_AT = (0.4, 0.6, 0.8)
"""Of the way through the host: the sites that are compared where none is given."""
_POOLINGS = ("token", "ewm:0.9")
_WORDNET = "/usr/share/wordnet"
_LONG = 3
"""Tellings of a synset that make one long text."""
_NULL = ("gcide", "manual")
_NULL_TEXTS = 8000


def train(
    model: Annotated[str, typer.Option(help="Host: a directory, a hub id, or random:SHAPE.")],
    concepts: Annotated[
        str, typer.Option(metavar="FILE", help='Concepts, one a line: {"id", "name", "parent"}.')
    ],
    texts: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help='A file of lines {"text", "concepts"} or {"concept", "positive", "negative"}; wordnet or '
            'wordnet:DIR for its definitions; host to have the host write texts, from a "definition" in the concepts.',
        ),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="The pack to make.")],
    revision: Annotated[str | None, typer.Option(help="Of the host on the hub.")] = None,
    kind: Annotated[str, typer.Option(help="mlp, linear (closed form, seconds) or compact.")] = "mlp",
    widths: Annotated[
        str | None, typer.Option(help="Of the two hidden layers. Default: 128-64, 16-8 for compact.")
    ] = None,
    rank: Annotated[int, typer.Option(help="Rows of the projection that compact lenses share.")] = 256,
    site: Annotated[
        list[str] | None,
        typer.Option(
            help="Tensor to watch, such as resid_post.15; given again: the best of them on validation texts. "
            "Default: of three, at 40, 60 and 80 per cent of the way."
        ),
    ] = None,
    pooling: Annotated[
        list[str] | None,
        typer.Option(
            help="token, mean, ema:A or ewm:A; given again: the best. Default: of token and ewm:0.9."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of training at the most.")] = 2000,
    shared: Annotated[
        int,
        typer.Option(
            help="Samples a step that all lenses see. More is better and slower; small lenses can have many."
        ),
    ] = 64,
    learning_rate: Annotated[float, typer.Option(help="Of the first steps; it falls to a fiftieth.")] = 1e-3,
    positions: Annotated[int, typer.Option(help="Sampled positions of a text, its last aside.")] = 4,
    tellings: Annotated[int, typer.Option(help="Ways in which a text of WordNet is told.")] = 2,
    dtype: Annotated[str, typer.Option(help="How first layers are stored: bf16, fp32 or int8.")] = "bf16",
    other: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Texts in another style, lines as above, to measure lenses on as well."
        ),
    ] = None,
    null: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Texts of another kind, to count false alarms on: a file with a text a line, or gcide (dictionary) or "
            "manual (pages), as Debian has them; given again: as many of each.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="PACK", help="A pack of the same concepts whose probabilities take the labels' place."
        ),
    ] = None,
    with_host: Annotated[
        bool, typer.Option("--with-host", help="Put the host's files into the pack: for small hosts.")
    ] = False,
    states: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Keep the host's states there, for another pack from the same texts. Default: beside the pack, "
            "removed when it is done; a run that was stopped goes on from them.",
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(help="Processes that read texts together; start them with torchrun.")
    ] = 1,
    device: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda, cuda:1 and so on, or auto to spread the host. Default: the best there is."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Makes everything repeatable.")] = 0,
) -> None:
    """Make a lens pack for a model: read texts with it, train a lens a concept, calibrate and measure them all.

    A stop loses little: type the same command again. Nothing is seen under the pack's name before it is whole.

    \b
    Examples:
      phoropter train --model google/gemma-3-4b-pt --concepts concepts.jsonl --texts texts.jsonl --out lens_packs/mine
      phoropter train --model random:gemma-3-270m --concepts c.jsonl --texts t.jsonl --kind linear --out /tmp/try
      phoropter train --model google/gemma-3-1b-pt --concepts lens_packs/wordnet-mini.concepts.jsonl --texts wordnet \\
          --null gcide --null manual --out lens_packs/wordnet-1b
      torchrun --nproc-per-node 2 --no-python phoropter train --processes 2 ...
    """
    from lenses.files import local_path
    from lenses.writer import refuse_to_replace
    from runtime.display import progress_bars
    from runtime.training.recipe import Teacher, train_pack
    from runtime.training.sources import read_concepts
    from runtime.training.workers import Workers

    if kind not in _WIDTHS:
        raise ConfigError(f"--kind {quoted(kind)} is unknown; give mlp, linear or compact")
    target = local_path(out)
    beside = target.absolute().parent / f".{target.name}.states"
    refuse_to_replace(target)
    workers = Workers.join(processes, on_cpu=device == "cpu")
    read = read_concepts(concepts)
    with progress_bars(disable=not workers.is_first) as progress:
        host = _load(model, revision, device, workers)
        directory = beside if states is None else local_path(states)
        given = _texts(texts, other, null, tellings, host, read, directory, workers, seed, progress)
        recipe = _recipe(
            host, kind, widths, rank, site, pooling, steps, shared, learning_rate, positions, dtype, seed
        )
        if with_host and host.path is None:
            raise ConfigError(
                f"the host {one_line(model)} has no files that could travel; leave out --with-host"
            )
        pack = train_pack(
            target,
            host,
            read.hierarchy,
            given,
            recipe,
            workers=workers,
            states=directory,
            progress=progress,
            teacher=None if teacher is None else Teacher(Path(teacher), read.hierarchy),
            host_dir=host.path if with_host else None,
        )
    if pack is not None:
        shutil.rmtree(beside, ignore_errors=True)
        print(
            f"wrote {one_line(pack.path)} ({pack.identity[:12]}); look at it: phoropter pack show {one_line(out)}"
        )


def measure(
    pack: Annotated[str, typer.Argument(help="A directory, a name of `pack list`, or a hub id.")],
    texts: Annotated[str, typer.Option(metavar="SOURCE", help="As of phoropter train.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="The pack to make.")],
    model: Model = None,
    other: Annotated[
        str | None, typer.Option(metavar="FILE", help="Texts in another style, as of phoropter train.")
    ] = None,
    null: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="Texts of another kind, as of phoropter train."),
    ] = None,
    positions: Annotated[int, typer.Option(help="Sampled positions of a text, its last aside.")] = 4,
    states: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Keep the host's states there. Default: beside the pack, until it is done."
        ),
    ] = None,
    device: Device = None,
    seed: Annotated[int, typer.Option(help="Makes everything repeatable.")] = 0,
) -> None:
    """Calibrate and measure the lenses of a pack on texts, imported ones too; nothing is trained.

    The new pack has the same lenses, with a card for each: see phoropter pack show. Of the texts only those parts are
    used that phoropter train sets aside, since what lenses were trained on flatters them.

    \b
    Examples:
      phoropter pack measure lens_packs/theirs --texts texts.jsonl --null gcide --out lens_packs/theirs-measured
      phoropter pack measure wordnet-mini --texts wordnet --null gcide --null manual --out /tmp/measured
    """
    from lenses.files import local_path
    from lenses.pack import LensPack
    from lenses.writer import refuse_to_replace
    from runtime.display import progress_bars
    from runtime.packs import resolve_pack
    from runtime.training.recipe import measure_pack
    from runtime.training.sources import Concepts
    from runtime.training.workers import Workers

    target = local_path(out)
    refuse_to_replace(target)
    beside = target.absolute().parent / f".{target.name}.states"
    where = resolve_pack(pack)
    opened = LensPack.from_pretrained(where)
    host = open_host(opened, where, model, device)
    workers = Workers.join(1, on_cpu=device == "cpu")
    directory = beside if states is None else local_path(states)
    with progress_bars() as progress:
        given = _texts(
            texts, other, null, 1, host, Concepts(opened.hierarchy, {}), directory, workers, seed, progress
        )
        made = measure_pack(
            target,
            opened,
            host,
            given,
            positions=positions,
            seed=seed,
            workers=workers,
            states=directory,
            progress=progress,
        )
    assert made is not None, "of one process the first goes on"
    shutil.rmtree(beside, ignore_errors=True)
    print(
        f"wrote {one_line(made.path)} ({made.identity[:12]}); look at it: phoropter pack show {one_line(out)}"
    )


def _load(model: str, revision: str | None, device: str | None, workers: "Workers") -> "Host":
    """The host; of several processes each has it on an accelerator of its own."""
    from runtime.host import load_host

    if device is None and workers.count > 1:
        device = str(workers.state.device)
    return load_host(model, revision=revision, device=device)


def _texts(
    source: str,
    other: str | None,
    null: list[str] | None,
    tellings: int,
    host: "Host",
    concepts: "Concepts",
    directory: Path,
    workers: "Workers",
    seed: int,
    progress: "Progress",
) -> "Texts":
    """What to learn from and to judge by, as the options name it."""
    from lenses.importers.wordnet import read_wordnet
    from runtime.training.recipe import Texts
    from runtime.training.sources import read_texts, wordnet_questions, wordnet_texts
    from runtime.training.written import written_texts

    others = {} if other is None else {"style": read_texts(other, concepts.hierarchy)}
    if source == "host":
        if workers.is_first:
            written_texts(host, concepts, directory, seed, progress)
        workers.wait()
        corpus = written_texts(host, concepts, directory, seed, progress)
        about = f"written by {host.id} from definitions"
    elif source == "wordnet" or source.startswith("wordnet:"):
        wordnet = read_wordnet(Path(source.partition(":")[2] or _WORDNET))
        corpus = wordnet_texts(wordnet, tellings)
        others = {
            "style": wordnet_questions(wordnet, "held-out"),
            "length": wordnet_texts(wordnet, _LONG, "held-out").joined(),
        } | others
        about = "WordNet 3.0 noun definitions and examples"
    else:
        corpus, about = read_texts(source, concepts.hierarchy), Path(source).name
    sources = list(dict.fromkeys(null or ()))
    about_null = [one if one in _NULL else Path(one).name for one in sources]
    return Texts(corpus, others, _null(sources), {"texts": about, "null": about_null})


def _null(sources: list[str]) -> list[str]:
    """The texts of the null corpus, as many of each source as there may be; of a file all."""
    from runtime.training.null_texts import gcide, lines, manual

    readers = dict(zip(_NULL, (gcide, manual), strict=True))
    each = _NULL_TEXTS // max(1, len(sources))
    found: list[str] = []
    for source in sources:
        found += readers[source](limit=each) if source in readers else lines(Path(source))
    return found


def _recipe(
    host: "Host",
    kind: str,
    widths: str | None,
    rank: int,
    sites: list[str] | None,
    poolings: list[str] | None,
    steps: int,
    shared: int,
    learning_rate: float,
    positions: int,
    dtype: str,
    seed: int,
) -> "Recipe":
    from lenses.config import InputConfig
    from lenses.training import TrainingConfig
    from runtime.blocks import block_at, blocks_of
    from runtime.training.recipe import Recipe

    blocks = len(blocks_of(host.model))
    sites = sites or list(dict.fromkeys(f"resid_post.{int(blocks * share)}" for share in _SITES_AT))
    for site in sites:
        block_at(host.model, site)
    training = TrainingConfig(
        widths=_parse_widths(widths, kind),
        rank=rank if kind == "compact" else None,
        steps=steps,
        shared=shared,
        learning_rate=learning_rate,
        seed=seed,
    )
    return Recipe(
        inputs=tuple(
            (site, InputConfig(norm="layer", pooling=pooling))
            for site in sites
            for pooling in poolings or _POOLINGS
        ),
        dtype=dtype,  # type: ignore[arg-type]  # LensConfig says what it may be
        training=training,
        positions=positions,
        seed=seed,
    )


def _parse_widths(widths: str | None, kind: str) -> tuple[int, int] | tuple[()]:
    """Of the hidden layers; raises ConfigError."""
    if widths is None:
        return _WIDTHS[kind]
    parts = widths.split("-")
    if kind == "linear" or len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        raise ConfigError(
            f"--widths {quoted(widths)} cannot be for {kind} lenses; give two such as 128-64 for mlp and compact, and "
            "none for linear"
        )
    return int(parts[0]), int(parts[1])
