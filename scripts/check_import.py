"""Imports 2,000 `.pt` lenses, with a LayerNorm and without, and compares every one with plain PyTorch.

    python scripts/check_import.py
    python scripts/check_import.py --lenses 300 --out /tmp/import     a try

What it does, for lenses without a LayerNorm, with one, and in bf16:
1. writes a directory of random state dicts, three levels deep;
2. imports it as `phoropter pack import` does;
3. scores random states with every lens: the module as it was written, the pack's bank, which serves them, and the
   pack's lens alone; the tolerance is 1e-5 times the largest |logit| of that lens, at least 1e-5;
4. compares each lens also with the module of its neighbour: the control, which must be seen to differ;
5. puts a hostile pickle among the files and imports again, which must be refused by its name and not run it.

The last line of standard output is one JSON document.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreign.state_dicts import tree_keys, write_directory
from pages.command import make_report
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from pages.tables import made_with, table
from rich.progress import Progress
from torch import nn

from lenses.bank import Bank
from lenses.errors import ConfigError, SourceError
from lenses.importers.facts import Given
from lenses.importers.reading import Reader
from lenses.importers.state_dicts import import_state_dicts
from lenses.pack import LensPack
from lenses.state import normalise

Record = dict[str, Any]

LENSES, SIZE, WIDTHS, STATES = 2000, 64, (16, 8), 4
GIVEN = Given(site="resid_post.1", blocks=4, host_dtype="bf16", pooling="token")
CASES: Mapping[str, Mapping[str, Any]] = {
    "without LayerNorm": {},
    "with LayerNorm": {"norm": True},
    "bf16, without LayerNorm": {"dtype": torch.bfloat16},
    "bf16, with LayerNorm": {"dtype": torch.bfloat16, "norm": True},
}


class _Hostile:
    """Its pickle makes a directory when it is loaded by a reader that trusts it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Write, import and compare; returns the report."""
    if arguments.lenses < 12:
        raise ConfigError(f"{arguments.lenses} lenses are too few for a tree; give 12 or more")
    run = RunRecord.begin(
        command, {"lenses": arguments.lenses, "size": SIZE, "widths": list(WIDTHS), "states": STATES}
    )
    begin = time.perf_counter()
    width = max(2, round((arguments.lenses / 10) ** 0.5))
    children = tree_keys((10, width, width))
    bar = progress.add_task("imports", total=len(CASES))
    found: list[Record] = []
    with tempfile.TemporaryDirectory() as directory, Reader() as reader:
        for name, how in CASES.items():
            here = Path(directory, str(len(found)))
            modules = write_directory(here / "lenses", children, size=SIZE, widths=WIDTHS, **how)
            started = time.perf_counter()
            pack = import_state_dicts(here / "lenses", here / "pack", GIVEN, reader=reader).pack
            seconds = time.perf_counter() - started
            found.append({"case": name, "import_s": seconds, **_compare(pack, modules)})
            progress.advance(bar)
        refused = _refused(here, reader)
    seconds = round(time.perf_counter() - begin, 1)
    report: Record = plain(
        {"cases": found, "hostile": refused, "run": run.to_json() | {"seconds": seconds}}, 4
    )
    return report


def _compare(pack: LensPack, modules: Mapping[str, nn.Sequential]) -> Record:
    """How far the lenses of a pack are from the modules they came from, in tolerances."""
    rows_PD = torch.randn(STATES, SIZE, generator=torch.Generator().manual_seed(0)) * 3 + 1
    inputs_PD = normalise(rows_PD.numpy(), pack.config.input)
    bank = Bank(pack, base=range(len(pack.hierarchy.families)))
    served_PN = bank.score_base(inputs_PD)[:, np.argsort(bank.base_ids)]
    bank.close()
    with torch.no_grad():
        expected_PN = np.stack(
            [modules[c.aliases[0] if c.aliases else c.id](rows_PD)[:, 0].numpy() for c in pack.hierarchy],
            axis=1,
        )
    states = torch.from_numpy(inputs_PD)
    alone_PN = np.array(
        [[lens.logit(state) for state in states] for lens in map(pack.lens, range(len(pack.hierarchy)))]
    ).T
    allowed_N = 1e-5 * np.maximum(1, np.abs(expected_PN).max(axis=0))

    def worst(logits_PN: np.ndarray[Any, Any]) -> float:
        return float((np.abs(logits_PN - expected_PN).max(axis=0) / allowed_N).max())

    off_N = np.abs(served_PN - expected_PN).max(axis=0) / allowed_N
    neighbours_N = np.abs(np.roll(served_PN, 1, axis=1) - expected_PN).max(axis=0) / allowed_N
    return {
        "lenses": len(pack.hierarchy),
        "stored": pack.config.lens.dtype,
        "within": int((off_N <= 1).sum()),
        "served": worst(served_PN),
        "alone": worst(alone_PN),
        "control_differs": int((neighbours_N > 1).sum()),
    }


def _refused(here: Path, reader: Reader) -> Record:
    """What an import says of a directory with a hostile pickle in it, and whether that ran."""
    mark = here / "it-ran"
    torch.save({"net.0.weight": _Hostile(mark)}, here / "lenses" / "layer1" / "Evil.pt")
    said = "it was imported"
    try:
        import_state_dicts(here / "lenses", here / "again", GIVEN, reader=reader)
    except SourceError as error:
        said = str(error)
    ran = mark.exists()
    torch.load(here / "lenses" / "layer1" / "Evil.pt", weights_only=False)
    return {
        "said": said,
        "ran": ran,
        "written": (here / "again").exists(),
        "control_ran": mark.exists(),
    }


def markdown(report: Record) -> str:
    """The page."""
    run, hostile = report["run"], report["hostile"]
    head = [
        ("made by", f"`{run['command']}`"),
        ("run", f"`{run['run']}`, {run['seconds']:.0f} s"),
        ("configuration", f"`{run['configuration_sha256'][:16]}`"),
        *made_with(run),
    ]
    rows = [
        (
            one["case"],
            str(one["lenses"]),
            one["stored"],
            f"{one['import_s']:.1f}",
            f"{one['within']} of {one['lenses']}",
            f"{one['served']:.3f}",
            f"{one['alone']:.3f}",
            f"{one['control_differs']} of {one['lenses']}",
        )
        for one in report["cases"]
    ]
    columns = (
        *("lenses", "n", "stored", "import, s", "within tolerance", "worst, served", "worst, alone"),
        "neighbour's module differs",
    )
    return "\n".join(
        [
            "# Imported lenses against plain PyTorch\n",
            table(("", ""), head),
            "Differences are in tolerances: 1 is 1e-5 times the largest |logit| of the lens, at least 1e-5.\n",
            table(columns, rows),
            "## A hostile pickle in the directory\n",
            f"The import said: `{hostile['said']}`.\n",
            f"It ran: {_yes(hostile['ran'])}. A pack was written: {_yes(hostile['written'])}. Loaded by a reader that "
            f"trusts it, it ran: {_yes(hostile['control_ran'])}.\n",
        ]
    )


def _yes(what: bool) -> str:
    return "yes" if what else "no"


def summary(report: Record) -> Record:
    """What the last line says."""
    hostile = report["hostile"]
    return {
        "lenses": [one["lenses"] for one in report["cases"]],
        "all_within": all(one["within"] == one["lenses"] for one in report["cases"]),
        "worst": max(one["served"] for one in report["cases"]),
        "control_differs": all(one["control_differs"] == one["lenses"] for one in report["cases"]),
        "hostile_refused": "layer1/Evil.pt asks for" in hostile["said"]
        and hostile["control_ran"]
        and not (hostile["ran"] or hostile["written"]),
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lenses", type=int, default=LENSES, help="about how many; default %(default)s")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("reports/import"),
        help="the report's path without ending; default %(default)s",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/check_import.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
