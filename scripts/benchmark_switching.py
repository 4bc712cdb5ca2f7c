"""Switches between models that one server has: with room for all of them, and with room for all but one.

    python scripts/benchmark_switching.py
    python scripts/benchmark_switching.py --quick --out /tmp/try         a try of seconds that proves nothing

What it does:
1. makes three hosts of random weights with a pack each (*hosts*), and three packs for one host (*packs*), once;
2. starts `phoropter serve` for each of the two, twice with memory for everything, and once with a budget that is one
   byte too small for that: whoever was not wanted longest gives way and is loaded again;
3. asks the models in turns, as many requests as were asked for, the servers in an order drawn anew each round; and once
   a round as many requests of one model, which never switch;
4. holds every answer against the model's first one: text and events; a run that differs is void and counted;
5. reads from the servers how often something was loaded, and what was in memory;
6. writes reports/NAME.json and .md.

The last line of standard output is one JSON document.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import make_synthetic_pack
import numpy as np
from experiments.requirements import Requirement
from experiments.subject import pack_json
from measuring.samples import Summary
from pages.command import make_report
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from pages.switching_report import markdown
from rich.progress import Progress
from serving.asking import COMPLETIONS
from serving.client import Client
from serving.options import Options
from serving.pairs import median_ratio_of_kept
from serving.residence import Residence, residence
from serving.servers import running
from serving.servers import serving as command_line

from lenses.errors import ConfigError
from lenses.pack import LensPack

Record = dict[str, Any]

HOSTS = ("random:gemma-3-270m:4", "random:gemma-3-270m:5", "random:gemma-3-270m:6")
QUICK_HOSTS = ("random:gemma-3-tiny:2", "random:gemma-3-tiny:3", "random:gemma-3-tiny:4")
LEVELS, QUICK_LEVELS = "5,23,241,400", "3,6"
REQUESTS, QUICK_REQUESTS = 12, 4
ROUNDS, QUICK_ROUNDS = 5, 1
NEW_TOKENS = 8
WORK = Path("runs/serving")
WITH, AGAIN, WITHOUT, ALONE = "room for all", "room for all (again)", "room for all but one", "one model"
OF_HOSTS, OF_PACKS = "hosts", "packs"


@dataclass(slots=True)
class Way:
    """One server's requests, in turns or of one model."""

    kind: str
    mode: str
    client: Client
    names: Sequence[str]
    """Of its models, as they are asked."""
    seconds: list[float | None] = field(default_factory=list)
    """Of all requests of a round; None where contents differed."""
    request_ms: list[float] = field(default_factory=list)
    loads: int = 0
    evictions: int = 0
    void: int = 0


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Switch; returns the report."""
    if min(arguments.rounds, arguments.requests) < 1:
        raise ConfigError(
            f"{arguments.rounds} rounds of {arguments.requests} requests are asked for; give 1 or more"
        )
    begin = time.perf_counter()
    packs = {kind: made(kind, arguments, progress) for kind in (OF_HOSTS, OF_PACKS)}
    settings = {
        "subjects": [
            pack_json(LensPack.from_pretrained(path)) | {"host": host}
            for kind in packs
            for path, host in packs[kind]
        ],
        "requests": arguments.requests,
        "rounds": arguments.rounds,
        "new_tokens": NEW_TOKENS,
        "seed": arguments.seed,
    }
    run = RunRecord.begin(command, settings)
    with ExitStack() as stack:
        ways: list[Way] = []
        memory: dict[str, list[Residence]] = {}
        for kind, models in packs.items():
            opened, memory[kind] = stack.enter_context(servers(kind, [path for path, _ in models], progress))
            ways += opened
        take_turns(ways, arguments, progress)
    by_mode = {(way.kind, way.mode): way for way in ways}
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "rows": [to_json(way, arguments.requests) for way in ways],
        "memory": {kind: [one.to_json() for one in all_here] for kind, all_here in memory.items()},
        "ratios": [
            {"kind": kind, "of": mode}
            | {
                "ratio": median_ratio_of_kept(
                    by_mode[kind, mode].seconds, by_mode[kind, WITH].seconds, float, seed=arguments.seed
                )
            }
            for kind in packs
            for mode in (WITHOUT, AGAIN, ALONE)
        ],
    }
    found["requirements"] = [one.to_json() for one in requirements(ways)]
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def made(kind: str, arguments: argparse.Namespace, progress: Progress) -> list[tuple[Path, str]]:
    """Three packs with the hosts that they are for, made if they are not there."""
    hosts = arguments.hosts if kind == OF_HOSTS else arguments.hosts[:1] * 3
    found = []
    for seed, host in enumerate(hosts):
        name = f"{host}-{arguments.levels}-{seed}".replace("random:", "").replace(":", "-").replace(",", "-")
        path = arguments.work / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            told = ["--host", host, "--levels", arguments.levels, "--seed", str(seed), "--out", str(path)]
            make_synthetic_pack.build(make_synthetic_pack.parse(told), progress)
        found.append((path, host))
    return found


@contextmanager
def servers(
    kind: str, packs: Sequence[Path], progress: Progress
) -> Iterator[tuple[list[Way], list[Residence]]]:
    """The ways of a kind ready to run, everything in memory that fits; and what is in memory when all is there."""
    task = progress.add_task(f"servers: {kind}", total=3)
    options = ["--max-sequences", "2", "--max-context", "256", "--session-memory", "0B"]
    for path in packs[1:]:
        options += ["--also", str(path)]

    with ExitStack() as stack:

        def client(*more: str) -> Client:
            told = command_line(str(packs[0]), None, *options, *more)
            found = Client(stack.enter_context(running("serving.product", told)).url)
            progress.advance(task)
            return stack.enter_context(found)

        roomy, again = client(), client()
        names = [one["id"] for one in roomy.get("/v1/models")["data"]]
        for name in names:
            ask(roomy, name)
            ask(again, name)
        here = residence(roomy.text("/metrics"))
        total = sum(one.size_bytes for one in here.all)
        narrow = client("--memory", f"{total - 1}B")
        ask(narrow, names[1])
        yield (
            [
                Way(kind, WITH, roomy, names),
                Way(kind, WITHOUT, narrow, names),
                Way(kind, AGAIN, again, names),
                Way(kind, ALONE, roomy, names[:1]),
            ],
            here.all,
        )


def take_turns(ways: Sequence[Way], arguments: argparse.Namespace, progress: Progress) -> None:
    """Every way once a round, in an order drawn anew."""
    order = np.random.default_rng(arguments.seed)
    task = progress.add_task("rounds", total=arguments.rounds * len(ways))
    first: dict[tuple[str, str], Record] = {}
    for _ in range(arguments.rounds):
        for at in order.permutation(len(ways)):
            way = ways[at]
            before = residence(way.client.text("/metrics"))
            answers, took_ms = [], []
            for turn in range(arguments.requests):
                name = way.names[(turn + 1) % len(way.names)]
                began_s = time.perf_counter()
                answer = ask(way.client, name)
                took_ms.append(1e3 * (time.perf_counter() - began_s))
                answers.append(answer == first.setdefault((way.kind, name), answer))
            after = residence(way.client.text("/metrics"))
            way.loads += after.loads - before.loads
            way.evictions += after.evictions - before.evictions
            way.seconds.append(sum(took_ms) / 1e3 if all(answers) else None)
            way.void += not all(answers)
            way.request_ms += took_ms if all(answers) else []
            progress.advance(task)


def ask(client: Client, name: str) -> Record:
    """Text and events of a short generation by this model."""
    body: Record = {"model": name, "prompt": "What is it?", "max_tokens": NEW_TOKENS, "temperature": 0}
    (choice,) = client.post(COMPLETIONS, body | {"lenses": {"show": 5}})["choices"]
    return {"text": choice["text"], "events": choice["lenses"]["content"]}


def to_json(way: Way, requests: int) -> Record:
    """The numbers of one way."""
    kept = [seconds for seconds in way.seconds if seconds is not None]
    return {
        "kind": way.kind,
        "mode": way.mode,
        "requests": requests,
        "switches": requests if len(way.names) > 1 else 0,
        "seconds": Summary.of(kept).to_json() if kept else None,
        "request_ms": Summary.of(way.request_ms).to_json() if kept else None,
        "loads": way.loads / len(way.seconds),
        "evictions": way.evictions / len(way.seconds),
        "void": way.void,
    }


def requirements(ways: Sequence[Way]) -> list[Requirement]:
    """What must hold for the rows to mean something."""
    wanted = [Requirement("void rounds", sum(way.void for way in ways), "rounds", most=0)]
    for way in ways:
        what = f"{way.kind}, {way.mode}: loads"
        if way.mode == WITHOUT:
            wanted.append(Requirement(what, way.loads, "", least=1))
        else:
            wanted.append(Requirement(what, way.loads, "", most=0))
    return wanted


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "ratios": {f"{one['kind']}, {one['of']}": one["ratio"] for one in report["ratios"]},
        "void": sum(row["void"] for row in report["rows"]),
        "requirements": report["requirements"],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    options = Options(__doc__, "reports/switching", quick="tiny hosts, few requests")
    options.parser.add_argument("--work", type=Path, default=WORK, help="where packs are kept")
    options.add("requests", REQUESTS, QUICK_REQUESTS, "a round and server")
    options.add("rounds", ROUNDS, QUICK_ROUNDS)
    options.fix("hosts", HOSTS, QUICK_HOSTS)
    options.fix("levels", LEVELS, QUICK_LEVELS)
    return options.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/benchmark_switching.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
