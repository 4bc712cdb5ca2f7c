"""Times the walk in one step on a GPU, with lenses of Gemma-3-4b's shape; without a GPU it says "not measured".

    python scripts/benchmark_gpu.py                                  no GPU: what can be counted, and what is missing
    python scripts/make_synthetic_pack.py --hidden-size 2560 --out runs/synthetic-4b
    python scripts/benchmark_gpu.py --pack runs/synthetic-4b         writes reports/gpu.json and .md

What it does with a GPU, everything hot unless said:
1. walks every state on the GPU and by the engine on the CPU: they are to agree, and with states moved by 1e-2 not to;
2. times a step, from states on the GPU to results on the host, one position at a time and several: as it is written,
   recorded as a graph, compiled and recorded; in turns, the memory floor read between them;
3. times families on their way from pinned memory to the arena, beside one pinned copy of the same bytes.

Shapes: P positions, D hidden size.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages.command import make_report
from pages.files import plain
from pages.gpu_report import markdown
from pages.run_record import RunRecord
from rich.progress import Progress
from synthetic.tree import REFERENCE_LEVELS, synthetic_tree

from lenses.concept import Hierarchy
from lenses.errors import ConfigError
from lenses.files import write_atomically
from lenses.pack import LensPack
from lenses.state import normalise
from lenses.writer import TORCH_DTYPES
from runtime.config import MonitorConfig
from runtime.device_walk import DeviceWalk, Walked
from runtime.engine import Engine
from runtime.walk import Scores

Record = dict[str, Any]

BASE_LEVELS = (0, 1, 2)
PAGES = (1, 2, 4, 8)
WAYS = ("as written", "graph", "compiled graph")
AT_ONCE = (1, 8)
"""Positions of a step."""
PROMOTED = 50
"""Lenses brought together, about what a walk opens at a token."""
MOVED = 1e-2
_FLOOR_BYTES = 512 << 20


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Count what can be counted and measure what can be measured; returns the report."""
    has_gpu = torch.cuda.is_available()
    if has_gpu and arguments.pack is None:
        raise ConfigError(
            "there is a GPU and no pack to measure: make one with scripts/make_synthetic_pack.py, give --pack"
        )
    pack = LensPack.from_pretrained(arguments.pack) if has_gpu else None
    settings = {"pack": pack.identity if pack else None, "rounds": arguments.rounds, "seed": arguments.seed}
    found = {
        "run": RunRecord.begin(command, settings).to_json(),
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
        "layouts": layouts(synthetic_tree(REFERENCE_LEVELS, arguments.seed)),
        "measured": measure(pack, "cuda", arguments.rounds, arguments.seed, progress) if pack else None,
    }
    report: Record = plain(found, 6)
    return report


def layouts(hierarchy: Hierarchy) -> list[Record]:
    """What an arena for all families beyond the base would take, by how many lenses a slot has."""
    base = hierarchy.base_families(BASE_LEVELS)
    rows = np.array([family.rows for family in hierarchy.families if family.index not in base])
    found = []
    for size in (*PAGES, int(rows.max())):
        room = int((-(-rows // size) * size).sum())
        found.append({"lenses_a_slot": size, "room_lenses": room, "empty": 1 - float(rows.sum()) / room})
    return found


def measure(pack: LensPack, device: str, rounds: int, seed: int, progress: Progress) -> Record:
    """All that there is to measure, on one pack."""
    with Engine(pack, MonitorConfig(hot_budget_bytes=1 << 40, warm_budget_bytes=1 << 40)) as engine:
        rng = np.random.default_rng(seed)
        rows_PD = rng.standard_normal((rounds, pack.config.host.hidden_size), dtype=np.float32)
        states_PD = normalise(rows_PD, pack.config.input)
        expected = engine.score(states_PD, "generation")
        return {
            "agreement": agreement(engine, states_PD, expected, device),
            "steps": [
                steps(engine, torch.from_numpy(states_PD), at_once, device, progress) for at_once in AT_ONCE
            ],
            "promotion": promotion(engine, device, rounds),
            "peak_device_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else 0,
        }


def new_walk(engine: Engine, device: str, *, positions: int = 1, hot_lenses: int | None = None) -> DeviceWalk:
    """A walk on the device with room for everything, or for so many lenses beyond the base."""
    lens, config = engine.pack.config.lens, engine.pack.config
    return DeviceWalk(
        engine.pack.read_family,
        engine.expansion,
        engine.bank.base_families,
        columns=lens.columns(config.host.hidden_size),
        dtype=TORCH_DTYPES[lens.dtype],
        device=device,
        hot_lenses=len(engine.pack.hierarchy) if hot_lenses is None else hot_lenses,
        warm_lenses=0 if hot_lenses is None else 2 * hot_lenses,
        positions=positions,
    )


def agreement(engine: Engine, states_PD: np.ndarray, expected: Sequence[Scores], device: str) -> Record:
    """The walk on the device beside the engine on the CPU, and a control that has to differ."""
    walk = new_walk(engine, device)

    def differences(states_PD: np.ndarray) -> list[float]:
        walked = (walk.score(torch.from_numpy(state_D)[None]).walked[0] for state_D in states_PD)
        return [difference(one, scores) for one, scores in zip(walked, expected, strict=True)]

    same, moved = differences(states_PD), differences(states_PD + np.float32(MOVED))
    equal = [one for one in same if np.isfinite(one)]
    return {
        "positions": len(same),
        "other_sets": len(same) - len(equal),
        "largest_difference": max(equal, default=None),
        "control_differs": sum(one > 1e-5 for one in moved),
    }


def difference(walked: Walked, scores: Scores) -> float:
    """Largest difference of logits over max(1, largest logit); infinite where other lenses were scored."""
    order = np.argsort(walked.concepts)
    concepts, logits = scores.ordered()
    if not np.array_equal(walked.concepts[order], concepts):
        return float("inf")
    return float(np.abs(walked.logits[order] - logits).max() / max(1.0, np.abs(logits).max()))


def steps(engine: Engine, states_PD: torch.Tensor, at_once: int, device: str, progress: Progress) -> Record:
    """Steps of so many positions in three ways, in turns, with the floor read between them."""
    together = torch.split(states_PD.to(device), at_once)
    walks = {name: new_walk(engine, device, positions=at_once) for name in WAYS}
    for name, walk in walks.items():
        for states in together:
            walk.score(states)
        if name != "as written":
            walk.capture(compiled=name == "compiled graph")
    source, target = (torch.zeros(_FLOOR_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    wanted, copied = [], []
    for states in progress.track(together, description=f"{at_once} at once"):
        for name, walk in walks.items():
            begin = time.perf_counter()
            walked = walk.read(walk.submit(states))
            times[name].append(1e3 * (time.perf_counter() - begin))
        wanted.append(len({concept for one in walked for concept in one.concepts.tolist()}))
        copied.append(timed(device, lambda: target.copy_(source)))
    lenses, gb_s = int(np.median(wanted)), 2 * _FLOOR_BYTES / float(np.median(copied)) / 1e6
    return {
        "at_once": at_once,
        "lenses": lenses,
        "bandwidth_gb_s": gb_s,
        "floor_ms": lenses * lens_bytes(engine.pack) / gb_s / 1e6,
        "ways": {name: summary(ms) for name, ms in times.items()},
    }


def promotion(engine: Engine, device: str, rounds: int) -> Record:
    """A lens on its way from pinned memory to the arena, beside a lens's share of one copy of as many bytes."""
    families = engine.pack.hierarchy.families
    sets: list[list[int]] = [[], []]
    for family in (f for f in families if f.index not in engine.bank.base_families):
        fewest = min(sets, key=lambda some: sum(families[f].rows for f in some))
        if sum(families[f].rows for f in fewest) < PROMOTED:
            fewest.append(family.index)
    # No more room than for one of the two, so each makes the other give way.
    room = max(sum(families[f].rows for f in some) for some in sets)
    walk = new_walk(engine, device, hot_lenses=max(room, *(family.rows for family in families)))
    size = lens_bytes(engine.pack)
    host = torch.zeros(room * size, dtype=torch.uint8, pin_memory=device == "cuda")
    target = torch.zeros(room * size, dtype=torch.uint8, device=device)
    brought, copied = [], []
    for turn in range(2 + rounds):
        found: dict[int, str] = {}
        ms = timed(device, lambda some=sets[turn % 2], found=found: found.update(walk.bring(some)))  # type: ignore[misc]
        if turn >= 2:  # the first two were read from disk
            assert set(found.values()) == {"warm"}
            brought.append(ms / sum(families[family].rows for family in found))
            copied.append(timed(device, lambda: target.copy_(host, non_blocking=True)) / room)
    return {"lens_bytes": size, "bring": summary(brought), "copy": summary(copied)}


def lens_bytes(pack: LensPack) -> int:
    """The bytes of one lens's first layer."""
    return pack.family_bytes(0) // pack.hierarchy.families[0].rows


def timed(device: str, work: Callable[[], object]) -> float:
    """Milliseconds of some work, to its end on the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - begin)


def summary(ms: Sequence[float]) -> Record:
    """n, median, p95 and the middle half of some times."""
    quarter, median, three_quarters, p95 = np.quantile(ms, [0.25, 0.5, 0.75, 0.95]).tolist()
    return {"n": len(ms), "median_ms": median, "p95_ms": p95, "spread_ms": three_quarters - quarter}


def write(report: Record, out: Path) -> list[Path]:
    """Write `out`.json and `out`.md; returns their paths."""
    texts = {
        f"{out.name}.json": json.dumps(report, indent=1, allow_nan=False) + "\n",
        f"{out.name}.md": markdown(report),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(out.parent / name, text)
    return [out.parent / name for name in texts]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, help="the pack to measure, where there is a GPU")
    parser.add_argument(
        "--rounds", type=int, default=400, help="positions that are timed (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/gpu"), help="report without its ending")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    return make_report(
        "scripts/benchmark_gpu.py",
        argv,
        parser().parse_args(argv),
        build=build,
        write=write,
        summary=lambda report: {"gpu": report["gpu"], "measured": report["measured"] or "not measured"},
    )


if __name__ == "__main__":
    sys.exit(main())
