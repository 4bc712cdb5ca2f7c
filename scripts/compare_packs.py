"""Compares ways of scoring the same concepts: walking or all lenses at every token, stored as bf16 or int8, compact.

    python scripts/compare_packs.py
    python scripts/compare_packs.py lens_packs/wordnet-mini runs/compact runs/distilled
    python scripts/compare_packs.py --sample 300 --out runs/try

The first pack is the reference; its host must travel with it, and all packs must read the same states. Every pack is
looked at as it is and stored as int8; the reference also with its walk at several thresholds. Quality is on synsets
that neither host nor lenses have seen (see `comparing.quality`), cost is one position at a time with everything hot.

Compact packs are made by `python scripts/train_lenses.py --rank 24 --out runs/compact`, and distilled ones by adding
`--teacher lens_packs/wordnet-mini`.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from comparing.cost import cost
from comparing.page import markdown, pictures
from comparing.quality import Found, Truth, difference, lens_quality, say
from data.parts import POSITIONS, collect_states, read_part
from pages.command import make_report
from pages.files import plain
from pages.report_files import json_text, write_report
from pages.run_record import RunRecord
from rich.progress import Progress

from lenses.errors import ConfigError, PackNotFound
from lenses.importers.wordnet import read_wordnet
from lenses.lens import Floats
from lenses.metrics import SEED, is_measured
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.host import load_host
from runtime.training.served import score_all

Record = dict[str, Any]
DEFAULT_PACKS = (
    "lens_packs/wordnet-mini",
    "runs/compact",
    "runs/distilled",
)
THRESHOLDS = (0.05, 0.12, 0.25, 0.5)
"""Of the reference's walk."""
SAID_AT = 3000
"""Positions at which what is said is compared."""
TIMED = 300


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Judge and time every way; returns the report."""
    packs = [LensPack.from_pretrained(path) for path in arguments.packs]
    reference = packs[0]
    check_comparable(packs)
    assert reference.host_dir is not None
    wordnet, host = read_wordnet(arguments.wordnet), load_host(reference.host_dir, device="cpu")
    run = RunRecord.begin(
        command,
        {
            "packs": [pack.identity for pack in packs],
            "sample": arguments.sample,
            "positions": SAID_AT,
            "timed": TIMED,
            "seed": SEED,
        },
    )
    part = read_part("held-out", wordnet, host, reference, arguments.sample)
    states = collect_states(part, reference, host, progress, POSITIONS)
    positive_PN = part.positive_XN[states.text_S]
    measured = np.flatnonzero([is_measured(part.positive_XN[:, n]) for n in range(len(reference.hierarchy))])
    if not len(measured):
        raise ConfigError(f"{len(part.texts)} texts are too few for any lens; give a larger --sample")
    truth = Truth(positive_PN, states.last_S, measured)
    rng = np.random.default_rng(SEED)
    picked = np.sort(rng.permutation(len(states.states_SD))[:SAID_AT])
    at_picked = Truth(positive_PN[picked], states.last_S[picked], measured)
    ways: dict[str, tuple[LensPack, MonitorConfig]] = {}
    lenses: dict[str, Record] = {}
    found: dict[str, Record] = {}
    with ExitStack() as opened:
        reference_said = None
        for pack in packs:
            scratch = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            kept_PN: Floats | None = None
            for dtype in dict.fromkeys((pack.config.lens.dtype, "int8")):
                stored = (
                    pack if dtype == pack.config.lens.dtype else pack.save_as(scratch / pack.path.name, dtype)
                )
                name = f"{pack.path.name}, {dtype}"
                logits_PN = score_all(stored, states.states_SD, progress, name)
                lenses[name] = {
                    "lens": pack.config.lens.describe(pack.config.host.hidden_size),
                    "dtype": dtype,
                }
                lenses[name] |= lens_quality(logits_PN, truth)
                if kept_PN is None:
                    kept_PN = logits_PN
                else:
                    lenses[name]["difference"] = difference(logits_PN, kept_PN)
                said = say(stored, logits_PN[picked], None)
                reference_said = reference_said or said
                exhaustive = f"all lenses: {name}"
                ways[exhaustive] = stored, MonitorConfig(exhaustive=True)
                found[exhaustive] = Found.of(said, reference_said, at_picked).record()
                if pack is not reference:
                    continue
                for threshold in THRESHOLDS if stored is pack else (pack.config.load_threshold,):
                    settings = pack.config.base_levels, pack.config.top_k, threshold
                    walk = f"walk at {threshold:g}: {name}"
                    ways[walk] = stored, MonitorConfig(load_threshold=threshold)
                    found[walk] = Found.of(
                        say(stored, logits_PN[picked], settings), reference_said, at_picked
                    ).record()
        costs, floor = cost(ways, states.states_SD[picked[:TIMED]])
    report = {
        "run": run.to_json(),
        "counts": {"texts": len(part.texts), "positions": len(states.text_S), "compared_at": len(picked)},
        "reference": f"all lenses: {reference.path.name}, {reference.config.lens.dtype}",
        "lenses": lenses,
        "ways": {name: found[name] | costs[name] for name in ways},
        "floor": floor,
    }
    return dict(plain(report))


def check_comparable(packs: Sequence[LensPack]) -> None:
    """Raise PackNotFound where the first has no host, ConfigError where states or concepts of the others differ."""
    first = packs[0]
    if first.host_dir is None:
        raise PackNotFound(
            f"the pack {first.path.name} has no host inside; name one first whose host travels with it"
        )
    for pack in packs[1:]:
        for what, one, other in (
            ("site", first.config.site, pack.config.site),
            ("input", first.config.input, pack.config.input),
            ("host", first.config.host.id, pack.config.host.id),
            ("concepts", [c.id for c in first.hierarchy], [c.id for c in pack.hierarchy]),
        ):
            if one != other:
                raise ConfigError(
                    f"the pack {pack.path.name} has another {what} than {first.path.name}; give packs made alike"
                )


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packs", type=Path, nargs="*", default=[Path(one) for one in DEFAULT_PACKS])
    parser.add_argument(
        "--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="WordNet's dict directory"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("reports/all-lenses"), help="the report's path without ending"
    )
    parser.add_argument("--sample", type=int, default=None, help="only so many held-out synsets: a quick try")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/compare_packs.py",
        argv,
        parse(argv),
        build=build,
        write=lambda report, out: write_report(
            out, json=json_text(report), page=markdown(report, out), pictures=pictures(report, out)
        ),
        summary=lambda report: {name: way["milliseconds"]["median"] for name, way in report["ways"].items()},
    )


if __name__ == "__main__":
    sys.exit(main())
