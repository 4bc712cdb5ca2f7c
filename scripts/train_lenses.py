"""Trains the lenses of the travelling pack: `phoropter train` on WordNet's texts, with that pack's settings.

    python scripts/train_lenses.py --host lens_packs/wordnet-mini/host --out lens_packs/wordnet-mini
    python scripts/train_lenses.py --rank 24 --out runs/compact
    python scripts/train_lenses.py --rank 24 --teacher lens_packs/wordnet-mini --out runs/distilled

A text of a synset is a text of each concept above it, through all hypernyms. Trained on are four of five synsets that
the host was trained on, chosen and calibrated on is the rest of these, and measured on the tenth that neither host nor
lenses have seen. `runtime.training.recipe` has the order of it all.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.cli import main as phoropter


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="WordNet's dict directory")
    add("--concepts", type=Path, default=Path("lens_packs/wordnet-mini.concepts.jsonl"))
    add(
        "--host",
        type=Path,
        default=Path("lens_packs/wordnet-mini/host"),
        help="its directory; it travels with the pack",
    )
    add("--out", type=Path, default=Path("lens_packs/wordnet-mini"))
    add("--site", default="resid_post.3")
    add("--pooling", default="ewm:0.9", help="token, mean, ema:a or ewm:a")
    add("--widths", default="16-8")
    add("--rank", type=int, help="train compact lenses, behind a projection with so many rows")
    add("--teacher", type=Path, help="a pack of the same concepts whose probabilities take the labels' place")
    add("--null", nargs="*", default=("gcide", "manual"), help="null corpora, as of phoropter train")
    add("--steps", type=int, default=5000)
    add("--shared", type=int, default=512, help="samples a step that all lenses see")
    add("--states", type=Path, help="keep the host's states there")
    add("--positions", type=int, default=4, help="sampled positions a text, its last aside")
    add("--tellings", type=int, default=2, help="ways in which each synset is told to train on")
    add("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `phoropter train`; its exit code."""
    arguments = parse(argv)
    given = {
        "model": arguments.host,
        "concepts": arguments.concepts,
        "texts": f"wordnet:{arguments.wordnet}",
        "out": arguments.out,
        "site": arguments.site,
        "pooling": arguments.pooling,
        "widths": arguments.widths,
        "steps": arguments.steps,
        "shared": arguments.shared,
        "learning-rate": 3e-3,
        "positions": arguments.positions,
        "tellings": arguments.tellings,
        "seed": arguments.seed,
        "kind": "mlp" if arguments.rank is None else "compact",
    }
    given |= {name: value for name in ("rank", "teacher", "states") if (value := getattr(arguments, name))}
    options = [f"--{name}={value}" for name, value in given.items()]
    return phoropter(["train", "--with-host", *options, *(f"--null={source}" for source in arguments.null)])


if __name__ == "__main__":
    sys.exit(main())
