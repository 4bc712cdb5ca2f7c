"""Calls that come at the same time, answered together or one at a time: throughput and latency by number of callers.

    python scripts/benchmark_coalescing.py                                   the travelling pack and its host
    python scripts/benchmark_coalescing.py --model random:gemma-3-270m --out reports/coalescing-270m
    python scripts/benchmark_coalescing.py --quick --out /tmp/try            a try of seconds that proves nothing

What it does:
1. starts `phoropter serve` with a switch that the product does not have: whether calls that wait are answered together;
2. has 1, 8, 32 and 128 callers send one state each to /v1/lenses/score, or one text each to /v1/tokenize, again as
   soon as they are answered: joined, alone and joined again, in an order drawn anew each round;
3. compares the first answer of every caller in every cell with what the same call gives alone, scores to the bit and
   within 1e-5 of the largest; a cell beyond that is void and counted;
4. counts passes over the lenses or the tokenizer in the server: the switch is seen to work;
5. writes reports/NAME.json and .md.

The last line of standard output is one JSON document.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from experiments.requirements import Requirement
from experiments.subject import pack_json
from measuring.samples import Summary
from pages.coalescing_report import markdown
from pages.command import make_report
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from rich.progress import Progress
from serving.additions import PATH
from serving.calls import Caller, json_request, load, request
from serving.client import Client
from serving.options import Options
from serving.pairs import median_ratio
from serving.servers import running
from serving.servers import serving as command_line
from serving.subject import add_options, open_pack, questions

from lenses.errors import ConfigError
from lenses.pack import LensPack
from runtime.environment import FAITHFUL

Record = dict[str, Any]

CALLERS, QUICK_CALLERS = (1, 8, 32, 128), (1, 4)
ROUNDS, QUICK_ROUNDS = 7, 2
SECONDS, QUICK_SECONDS = 2.0, 0.2
TEXT_WORDS = 40
MODES = ("joined", "alone", "joined (again)")
MOST_CALLERS_GAIN, LONE_LOSS = 6.0, 1.1
SCORE, TOKENIZE = "score", "tokenize"
BINARY = "application/octet-stream"

Same = Callable[[bytes, bytes], tuple[bool, float]]
"""Whether two answers are equal to the bit, and how far they are apart: 1 is as far as may be."""


@dataclass(slots=True)
class Cell:
    """One number of callers of one route, in one mode."""

    route: str
    callers: int
    mode: str
    per_s: list[float] = field(default_factory=list)
    """Calls a second, round by round."""
    latency_ms: list[float] = field(default_factory=list)
    calls: int = 0
    passes: int = 0
    void: int = 0
    compared: int = 0
    equal_bits: int = 0
    largest: float = 0.0


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Call; returns the report."""
    if arguments.rounds < 1 or arguments.seconds <= 0 or min(arguments.callers) < 1:
        raise ConfigError(
            f"{arguments.rounds} rounds of {arguments.seconds:g} s, {min(arguments.callers)} callers; give more than 0"
        )
    begin = time.perf_counter()
    pack, where, model = open_pack(arguments, progress)
    settings = {
        "subject": pack_json(pack),
        "callers": list(arguments.callers),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "text_words": TEXT_WORDS,
        "seed": arguments.seed,
    }
    run = RunRecord.begin(command, settings)
    with running("serving.product", command_line(where, model, add=["joining"])) as server:
        cells = asyncio.run(measure(server.url, pack, arguments, progress))
    by_key = {(cell.route, cell.callers, cell.mode): cell for cell in cells}
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "cells": [to_json(cell) for cell in cells],
        "ratios": [
            {"route": route, "callers": callers} | ratios(by_key, route, callers, arguments.seed)
            for route in (SCORE, TOKENIZE)
            for callers in arguments.callers
        ],
    }
    found["requirements"] = [one.to_json() for one in requirements(found)]
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


async def measure(url: str, pack: LensPack, arguments: argparse.Namespace, progress: Progress) -> list[Cell]:
    """All cells in turns."""
    most = max(arguments.callers)
    asked = {SCORE: score_requests(pack, most, arguments.seed), TOKENIZE: text_requests(pack, most)}
    same: dict[str, Same] = {SCORE: same_scores, TOKENIZE: same_tokens}
    cells = [Cell(route, n, mode) for route in asked for n in arguments.callers for mode in MODES]
    callers = [await Caller.open(url) for _ in range(most)]
    order = np.random.default_rng(arguments.seed)
    task = progress.add_task("cells", total=len(cells) * arguments.rounds)
    with Client(url) as told:
        switch(told, is_on=False)
        alone = {route: [await callers[0].call(one) for one in requests] for route, requests in asked.items()}
        switch(told, is_on=True)
        for requests in asked.values():  # what is compiled or allocated at first is not to be timed
            await load(callers, requests, min(1.0, arguments.seconds))
        for _ in range(arguments.rounds):
            for at in order.permutation(len(cells)):
                cell = cells[at]
                before = switch(told, is_on=cell.mode != "alone")[cell.route]
                done = await load(callers[: cell.callers], asked[cell.route], arguments.seconds)
                after = told.get(PATH)["joining"][cell.route]
                cell.per_s.append(done.per_s)
                cell.latency_ms += done.latency_ms
                cell.calls += after["calls"] - before["calls"]
                cell.passes += after["passes"] - before["passes"]
                check(cell, done.bodies, alone[cell.route], same[cell.route])
                progress.advance(task)
    for caller in callers:
        await caller.close()
    return cells


def switch(told: Client, *, is_on: bool) -> Record:
    """Answer calls together, or alone, from now on; the server's counters."""
    found: Record = told.post(PATH, {"joining": {"is_on": is_on}})["joining"]
    return found


def check(cell: Cell, bodies: Sequence[tuple[int, bytes]], alone: Sequence[bytes], same: Same) -> None:
    """Count how the answers of one load compare with those of calls alone."""
    furthest = 0.0
    for number, body in bodies:
        is_equal, far = same(body, alone[number])
        cell.compared += 1
        cell.equal_bits += is_equal
        furthest = max(furthest, far)
    cell.largest = max(cell.largest, furthest)
    cell.void += furthest > 1


def same_scores(body: bytes, alone: bytes) -> tuple[bool, float]:
    """Logits of one state: the design lets them be 1e-5 of the largest apart."""
    a_N, b_N = np.frombuffer(body, "<f4"), np.frombuffer(alone, "<f4")
    if a_N.shape != b_N.shape:
        return False, np.inf
    bound = FAITHFUL * max(1.0, float(np.abs(b_N).max()))
    return body == alone, float(np.abs(a_N - b_N).max()) / bound


def same_tokens(body: bytes, alone: bytes) -> tuple[bool, float]:
    """Token ids are equal, or they are not."""
    is_equal = json.loads(body) == json.loads(alone)
    return is_equal, 0.0 if is_equal else np.inf


def score_requests(pack: LensPack, count: int, seed: int) -> list[bytes]:
    """A state each, drawn at random: what a lens costs does not depend on it."""
    states_CD = np.random.default_rng(seed).normal(size=(count, pack.config.host.hidden_size)).astype("<f4")
    return [request("/v1/lenses/score", one.tobytes(), kind=BINARY, accept=BINARY) for one in states_CD]


def text_requests(pack: LensPack, count: int) -> list[bytes]:
    """A text of the pack's names each."""
    words = " ".join(questions(pack, min(count, len(pack.hierarchy)))).split()
    texts = [" ".join((words * 3)[at % len(words) :][:TEXT_WORDS]) for at in range(count)]
    return [json_request("/v1/tokenize", {"prompt": text}) for text in texts]


def to_json(cell: Cell) -> Record:
    """The numbers of one cell."""
    return {
        "route": cell.route,
        "callers": cell.callers,
        "mode": cell.mode,
        "per_s": Summary.of(cell.per_s).to_json(),
        "latency_ms": Summary.of(cell.latency_ms).to_json(),
        "calls_a_pass": cell.calls / max(1, cell.passes),
        "void": cell.void,
        "compared": cell.compared,
        "equal_bits": cell.equal_bits,
        "largest": cell.largest,
    }


def ratios(cells: dict[tuple[str, int, str], Cell], route: str, callers: int, seed: int) -> Record:
    """Throughput joined to alone, and joined to joined again, round by round."""
    joined, alone, again = (cells[route, callers, mode] for mode in MODES)
    latency = [float(np.median(cell.latency_ms)) for cell in (joined, alone)]
    return {
        "joined_to_alone": median_ratio(joined.per_s, alone.per_s, seed=seed),
        "joined_to_again": median_ratio(joined.per_s, again.per_s, seed=seed),
        "latency": latency[0] / latency[1],
    }


def requirements(found: Record) -> list[Requirement]:
    """What was asked for."""
    wanted = [Requirement("void cells", sum(cell["void"] for cell in found["cells"]), "loads", most=0)]
    scores = [cell for cell in found["cells"] if cell["route"] == SCORE]
    equal = sum(cell["equal_bits"] for cell in scores) / sum(cell["compared"] for cell in scores)
    wanted.append(Requirement("scores equal to the bit", 100 * equal, "%", least=100))
    for one in found["ratios"]:
        what = f"{one['route']}, {one['callers']} callers: "
        if one["callers"] == 1:
            wanted.append(Requirement(what + "latency joined, of alone", one["latency"], most=LONE_LOSS))
        if one["callers"] == max(CALLERS):
            gain = one["joined_to_alone"].value
            wanted.append(Requirement(what + "throughput joined, of alone", gain, least=MOST_CALLERS_GAIN))
    return wanted


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "joined_to_alone": {
            f"{one['route']}, {one['callers']}": one["joined_to_alone"] for one in report["ratios"]
        },
        "void": sum(cell["void"] for cell in report["cells"]),
        "requirements": report["requirements"],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    options = Options(__doc__, "reports/coalescing", quick="few callers, short loads")
    add_options(options.parser)
    options.add("callers", CALLERS, QUICK_CALLERS, "at once")
    options.add("rounds", ROUNDS, QUICK_ROUNDS, "of all cells")
    options.add("seconds", SECONDS, QUICK_SECONDS, "of one load")
    return options.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/benchmark_coalescing.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
