"""Writes a lens pack of any size whose lenses are random numbers, to measure what watching costs.

    python scripts/make_synthetic_pack.py --host random:gemma-3-4b --blocks 2 --out runs/synthetic-4b
    python scripts/make_synthetic_pack.py --host random:gemma-3-4b --dtype int8 --layer-norm --out runs/synthetic-int8
    python scripts/make_synthetic_pack.py --host random:gemma-3-tiny --levels 5,23,241,600 --out runs/synthetic-tiny
    python scripts/make_synthetic_pack.py --hidden-size 2560 --kind compact --widths 256,16,8 --out runs/compact

By default the tree is of the reference's shape: 7,947 concepts over seven levels, 1,239 parents, base levels 0,1,2 (269
lenses). Its lenses know nothing, but behave: each is scaled on states of the host, so that a walk opens about ten
families with fifty children at a token (`synthetic.scaling`). What it opens is printed, and stands in the pack's
provenance. Such a pack says that it is synthetic, and that no lens of it is calibrated or measured.

The same options give the same pack on the same machine; another machine may round the scales otherwise.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress
from synthetic.scaling import Opened, opened_by_walk, scale, wanted_shares, with_first_biases
from synthetic.states import gaussian_states, host_states
from synthetic.tree import REFERENCE_LEVELS, parse_levels, synthetic_tree
from synthetic.weights import FirstLayers, random_heads

from lenses.config import HostConfig, InputConfig, LensConfig
from lenses.errors import ConfigError, PhoropterError
from lenses.lens import Floats
from lenses.pack import LensPack
from lenses.writer import refuse_to_replace
from runtime.blocks import block_index
from runtime.display import progress_bars
from runtime.random_host import SHAPES, RandomHost

WIDTHS = {"mlp": (128, 64), "compact": (256, 16, 8)}
BASE_LEVELS = (0, 1, 2)
TOP_K, LOAD_THRESHOLD = 10, 0.3
_SHARD_BYTES = 512 << 20
"""Of one file of first layers: the writer has one file in memory."""


@dataclass(frozen=True, slots=True)
class Source:
    """What the lenses are for, and states of it."""

    host: HostConfig
    site: str
    states_QPD: Floats


def build(arguments: argparse.Namespace, progress: Progress) -> tuple[LensPack, Opened]:
    """Draw, scale and write the pack; also what a walk opens in it."""
    refuse_to_replace(arguments.out)
    hierarchy = synthetic_tree(parse_levels(arguments.levels), arguments.seed)
    lens = LensConfig(arguments.kind, arguments.widths or WIDTHS[arguments.kind], arguments.dtype)
    if arguments.layer_norm and arguments.kind != "mlp":
        raise ConfigError(
            "compact lenses share their projection, so none has a LayerNorm of its own; leave it out"
        )
    norm: dict[str, Any] = {"norm": "layer", "eps": 1e-5} if arguments.layer_norm else {"norm": "rms"}
    config = InputConfig(**norm, pooling=arguments.pooling)
    task = progress.add_task("states", total=1)
    source = source_of(arguments, config)
    progress.advance(task)
    states_QPD, hidden_size = source.states_QPD, source.host.hidden_size
    layers = FirstLayers(
        hierarchy,
        lens.h1,
        lens.columns(hidden_size),
        arguments.seed,
        arguments.layer_norm,
    )
    base_levels = [level for level in BASE_LEVELS if level < hierarchy.depth]
    heads = random_heads(lens, hidden_size, len(hierarchy), arguments.seed)
    heads, logits_PN = with_first_biases(
        heads, counted(layers, progress, "lenses scaled"), states_QPD.reshape(-1, hidden_size)
    )
    logits_QPN = logits_PN.reshape(*states_QPD.shape[:2], -1)
    # Scaled on every second sequence, and what a walk opens is counted on the others.
    fitted_PN, other_PN = (logits_QPN[half::2].reshape(-1, len(hierarchy)) for half in (0, 1))
    heads, slope_N, offset_N = scale(heads, fitted_PN, wanted_shares(hierarchy, base_levels), LOAD_THRESHOLD)
    opened = opened_by_walk(
        hierarchy,
        heads,
        other_PN * slope_N + offset_N,
        base_levels=base_levels,
        top_k=TOP_K,
        load_threshold=LOAD_THRESHOLD,
    )
    pack = LensPack.create(
        arguments.out,
        host=source.host,
        site=source.site,
        input=config,
        lens=lens,
        base_levels=base_levels,
        hierarchy=hierarchy,
        first_layers=counted(layers, progress, "lenses written"),
        heads=heads,
        top_k=TOP_K,
        load_threshold=LOAD_THRESHOLD,
        provenance={
            "synthetic": "random weights, trained on nothing; for measuring cost, not concepts",
            "made_by": "scripts/make_synthetic_pack.py",
            "seed": arguments.seed,
            "own_layer_norm": arguments.layer_norm,
            "opened_at_a_token": {name: round(value, 1) for name, value in asdict(opened).items()},
        },
        max_shard_bytes=_SHARD_BYTES,
    )
    return pack, opened


def source_of(arguments: argparse.Namespace, config: InputConfig) -> Source:
    """What `--host` and `--blocks`, or `--hidden-size`, ask for; raises HostError, ConfigError."""
    if arguments.host is None:
        if arguments.blocks is not None:
            raise ConfigError("--blocks shortens a host; give --host, or leave it out")
        if arguments.hidden_size < 1:
            raise ConfigError(f"hidden size {arguments.hidden_size}: expected at least 1")
        site = arguments.site or "resid_post.0"
        made_for = HostConfig(
            f"no-host-{arguments.hidden_size}", None, arguments.hidden_size, block_index(site) + 1, "fp32"
        )
        return Source(made_for, site, gaussian_states(made_for.hidden_size, config, arguments.seed))
    host = RandomHost.parse(arguments.host, blocks=arguments.blocks)
    site = arguments.site or f"resid_post.{host.blocks // 2}"
    if block_index(site) >= host.blocks:
        raise ConfigError(
            f"site {site} is not in {host.id}, whose blocks end at resid_post.{host.blocks - 1}"
        )
    states_QPD, dtype = host_states(host, site, config, arguments.seed)
    made_for = HostConfig(host.id, None, states_QPD.shape[2], host.blocks, dtype)
    return Source(made_for, site, states_QPD)


def counted(layers: FirstLayers, progress: Progress, title: str) -> FirstLayers:
    """The same layers, with a bar that counts families as they are made."""
    task = progress.add_task(title, total=len(layers))
    return replace(layers, progress=lambda: progress.advance(task))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    what_for = parser.add_mutually_exclusive_group(required=True)
    shapes = ", ".join(f"random:{shape}" for shape in SHAPES)
    what_for.add_argument("--host", help=f"the host of random weights that the pack is for: {shapes}")
    what_for.add_argument("--hidden-size", type=int, help="without a host: the size of its input states")
    add("--blocks", type=int, help="shorten the host to so many blocks; the pack is for the short host")
    add("--site", help="default: the block in the middle")
    add(
        "--levels",
        default=",".join(map(str, REFERENCE_LEVELS)),
        help="concepts at each level; default: %(default)s",
    )
    add("--kind", choices=sorted(WIDTHS, reverse=True), default="mlp")
    add(
        "--widths",
        type=lambda text: tuple(map(int, text.split(","))),
        help="h1,h2 of mlp (128,64), R,h1,h2 of compact (256,16,8)",
    )
    add("--dtype", choices=("bf16", "fp32", "int8"), default="bf16", help="how first layers are stored")
    add("--layer-norm", action="store_true", help="each lens has a LayerNorm of its own, folded into it")
    add("--pooling", default="ewm:0.9", help="token, mean, ema:a or ewm:a; default: %(default)s")
    add("--seed", type=int, default=0)
    add("--out", type=Path, required=True, help="the pack's directory")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    arguments = parse(argv)
    try:
        with progress_bars() as progress:
            pack, opened = build(arguments, progress)
    except PhoropterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    config = pack.config
    print(f"wrote {pack.path}: {config.concepts} lenses in {config.families} families ({pack.identity[:12]})")
    print(
        f"at a token of {config.host.id} a walk opens {opened.families:.1f} families, "
        f"with {opened.children:.1f} children"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
