"""A mixed load: half of the calls generate, a quarter is for tokens, a quarter for scores; joined and one at a time.

    python scripts/benchmark_mixed.py                                   the travelling pack and its host
    python scripts/benchmark_mixed.py --quick --out /tmp/try            a try of seconds that proves nothing

What it does:
1. starts `phoropter serve` with a switch that the product does not have: whether calls for scores and tokens that wait
   are answered together;
2. has 1, 8 and 32 callers work off one fixed list of calls, each taking the next one as soon as it is answered:
   16 tokens with their entries from /v1/completions, a text to /v1/tokenize, a state to /v1/lenses/score; joined,
   alone and joined again, in an order drawn anew each round;
3. takes the total time of the list, and each call's latency by kind; callers' seconds by kind, with what is left over,
   add up to callers times total;
4. holds every answer against the same call alone in this process (generations) or on the quiet server (the others):
   a run of the list with one that differs is void, counted, and in no row. Another text's answers are seen to differ;
5. counts passes over the lenses and the tokenizer in the server: the switch is seen to work;
6. writes reports/NAME.json and .md.

The last line of standard output is one JSON document.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from benchmark_coalescing import (
    MODES,
    SCORE,
    TOKENIZE,
    same_scores,
    same_tokens,
    score_requests,
    switch,
    text_requests,
)
from experiments.requirements import Requirement
from measuring.samples import Summary
from pages.command import make_report
from pages.files import plain
from pages.mixed_report import markdown
from pages.report_files import page_alone
from pages.run_record import RunRecord
from rich.progress import Progress
from serving.additions import PATH
from serving.answers import Agreement, Answer, agree
from serving.asking import COMPLETIONS
from serving.calls import Caller, json_request
from serving.client import Client
from serving.native import Native
from serving.options import Options
from serving.pairs import median_ratio_of_kept
from serving.servers import running
from serving.servers import serving as command_line
from serving.subject import Subject, add_options, open_subject, prompts

from lenses.errors import ConfigError
from runtime.config import MonitorConfig

Record = dict[str, Any]

GENERATE = "generate"
KINDS = (GENERATE, TOKENIZE, SCORE)
CALLERS, QUICK_CALLERS = (1, 8, 32), (1, 4)
CALLS, QUICK_CALLS = 96, 12
"""Of one list: half of them generate."""
ROUNDS, QUICK_ROUNDS = 6, 2
NEW_TOKENS, QUICK_NEW_TOKENS = 16, 4
TEXTS = 12
"""Of each kind; the list goes through them again and again."""
PROMPT_TOKENS = 24
"""Of what is gone on from."""
TRIES = 200
SHOW = 5
REMAINDER = 5.0
"""Of callers' time, in per cent, that may be nobody's."""
LONE_LOSS = 1.1


@dataclass(frozen=True, slots=True)
class Kind:
    """The calls of one kind, and what each is to be answered."""

    requests: list[bytes]
    expected: list[Any]


@dataclass(frozen=True, slots=True)
class Done:
    """One run of the list."""

    total_ms: float
    latency_ms: dict[str, list[float]]
    busy_ms: float
    """Of all callers, from beginning to end, times their number."""

    @property
    def parts_ms(self) -> dict[str, float]:
        """Callers' time by kind, and what is nobody's."""
        parts = {kind: float(sum(ms)) for kind, ms in self.latency_ms.items()}
        return parts | {"remainder": self.busy_ms - sum(parts.values())}


@dataclass(slots=True)
class Cell:
    """So many callers in one mode; None where an answer differed."""

    callers: int
    mode: str
    runs: list[Done | None] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=lambda: dict.fromkeys((SCORE, TOKENIZE), 0))
    passes: dict[str, int] = field(default_factory=lambda: dict.fromkeys((SCORE, TOKENIZE), 0))
    agreement: Agreement = field(default_factory=Agreement)

    @property
    def kept(self) -> list[Done]:
        """Those that count."""
        return [run for run in self.runs if run is not None]


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Call; returns the report."""
    if arguments.rounds < 1 or arguments.calls < 4 or min(arguments.callers) < 1:
        raise ConfigError(
            f"{arguments.rounds} rounds of {arguments.calls} calls by {min(arguments.callers)} callers; give 1 round "
            "and caller or more, and 4 calls or more"
        )
    begin = time.perf_counter()
    subject = open_subject(arguments, progress)
    listed = calls_of(arguments.calls, arguments.seed)
    settings = {
        "subject": subject.to_json(),
        "kinds": {kind: sum(one == kind for one, _ in listed) for kind in KINDS},
        "prompt_tokens": PROMPT_TOKENS,
        "show": SHOW,
    } | {name: getattr(arguments, name) for name in ("callers", "calls", "rounds", "new_tokens", "seed")}
    run = RunRecord.begin(command, settings)
    with Native(subject.host, subject.pack, MonitorConfig(), SHOW) as native:
        generate = generations(subject, native, arguments.new_tokens)
        config = native.config
    with running("serving.product", command_line(subject.where, subject.model, add=["joining"])) as server:
        bench = Bench(server.url, listed, config)
        cells = [Cell(callers, mode) for callers in arguments.callers for mode in MODES]
        others = {
            SCORE: score_requests(subject.pack, TEXTS, arguments.seed),
            TOKENIZE: text_requests(subject.pack, TEXTS),
        }
        control = asyncio.run(bench.measure(cells, generate, others, arguments, progress))
    by_key = {(cell.callers, cell.mode): cell for cell in cells}
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "control": control,
        "cells": [to_json(cell) for cell in cells],
        "ratios": [
            {"callers": callers} | ratios(by_key, callers, arguments.seed) for callers in arguments.callers
        ],
    }
    found["requirements"] = [one.to_json() for one in requirements(found)]
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def calls_of(calls: int, seed: int) -> list[tuple[str, int]]:
    """The list: kinds in an order drawn once, and which of each kind's requests."""
    half, quarter = calls // 2, calls // 4
    kinds = [GENERATE] * half + [TOKENIZE] * quarter + [SCORE] * (calls - half - quarter)
    numbers = dict.fromkeys(KINDS, 0)
    found = []
    for at in np.random.default_rng(seed).permutation(calls):
        kind = kinds[at]
        found.append((kind, numbers[kind] % TEXTS))
        numbers[kind] += 1
    return found


def generations(subject: Subject, native: Native, new_tokens: int) -> Kind:
    """Completions with entries, of texts after which the host writes as much as is wanted, and this process's answers.

    Raises ConfigError where there are too few.
    """
    body: Record = {"max_tokens": new_tokens, "temperature": 0, "lenses": {"show": SHOW, "prompt": True}}
    found = Kind([], [])
    for text in islice(prompts(subject.host, subject.pack, PROMPT_TOKENS), TRIES):
        answer = native.answer(text, new_tokens)
        if len(answer.tokens) == new_tokens:
            found.requests.append(json_request(COMPLETIONS, {"prompt": text} | body))
            found.expected.append(answer)
        if len(found.requests) == TEXTS:
            return found
    raise ConfigError(
        f"of {TRIES} texts {len(found.requests)} let the host write {new_tokens} tokens, {TEXTS} are wanted"
    )


class Bench:
    """Callers of one server with one list."""

    def __init__(self, url: str, listed: Sequence[tuple[str, int]], config: MonitorConfig) -> None:
        self._url, self._listed, self._config = url, listed, config
        self._kinds: dict[str, Kind] = {}

    async def measure(
        self,
        cells: Sequence[Cell],
        generate: Kind,
        others: dict[str, list[bytes]],
        arguments: argparse.Namespace,
        progress: Progress,
    ) -> dict[str, bool]:
        """All cells in turns, after what is quiet is known; whether other requests' answers are seen to differ."""
        task = progress.add_task("lists", total=len(cells) * arguments.rounds)
        with Client(self._url) as told:
            switch(told, is_on=False)
            lone = await Caller.open(self._url)
            self._kinds = {GENERATE: generate} | {
                kind: Kind(requests, [await lone.call(one) for one in requests])
                for kind, requests in others.items()
            }
            await lone.close()
            switch(told, is_on=True)
            # What is compiled or allocated at first is not timed.
            _, bodies = await self._work_off(max(arguments.callers))
            control = self._control(bodies)
            order = np.random.default_rng(arguments.seed)
            for _ in range(arguments.rounds):
                for at in order.permutation(len(cells)):
                    cell = cells[at]
                    before = switch(told, is_on=cell.mode != "alone")
                    done, bodies = await self._work_off(cell.callers)
                    after = told.get(PATH)["joining"]
                    for kind in (SCORE, TOKENIZE):
                        cell.calls[kind] += after[kind]["calls"] - before[kind]["calls"]
                        cell.passes[kind] += after[kind]["passes"] - before[kind]["passes"]
                    void = next(self._differences(bodies), None)
                    cell.agreement = cell.agreement.and_also(Agreement(1, () if void is None else (void,)))
                    cell.runs.append(done if void is None else None)
                    progress.advance(task)
        return control

    async def _work_off(self, count: int) -> tuple[Done, list[bytes]]:
        """The whole list, once, by so many callers; its answers in order."""
        # Connected anew each time: a server ends a connection that is idle while other cells are measured.
        callers = [await Caller.open(self._url) for _ in range(count)]
        latency_ms: dict[str, list[float]] = {kind: [] for kind in KINDS}
        bodies = [b""] * len(self._listed)
        left = iter(enumerate(self._listed))

        async def work(caller: Caller) -> float:
            for at, (kind, number) in left:  # shared: who is free takes the next
                asked_s = time.perf_counter()
                bodies[at] = await caller.call(self._kinds[kind].requests[number])
                latency_ms[kind].append(1e3 * (time.perf_counter() - asked_s))
            return time.perf_counter()

        began_s = time.perf_counter()
        ended_s = await asyncio.gather(*map(work, callers))
        # Who finds the list empty has ended: waiting for the others is no caller's time.
        busy_ms = 1e3 * (sum(ended_s) - count * began_s)
        for caller in callers:
            await caller.close()
        return Done(1e3 * (max(ended_s) - began_s), latency_ms, busy_ms), bodies

    def _differences(self, bodies: Sequence[bytes]) -> Iterator[str]:
        """Why answers are not what they are to be."""
        for (kind, number), body in zip(self._listed, bodies, strict=True):
            if (why := self._difference(kind, body, number)) is not None:
                yield why

    def _difference(self, kind: str, body: bytes, number: int) -> str | None:
        expected = self._kinds[kind].expected[number]
        if kind == GENERATE:
            return next(iter(agree(Answer.of_body(body), expected, self._config).void), None)
        far = (same_scores if kind == SCORE else same_tokens)(body, expected)[1]
        return f"{kind}: another answer than alone" if far > 1 else None

    def _control(self, bodies: Sequence[bytes]) -> dict[str, bool]:
        """Of each kind: whether an answer, held against all other requests' of its kind, is seen to differ."""
        first = {kind: at for at, (kind, _) in reversed(list(enumerate(self._listed)))}
        return {
            kind: any(
                self._difference(kind, bodies[at], other) is not None for other in range(TEXTS) if other
            )
            for kind, at in first.items()
        }


def to_json(cell: Cell) -> Record:
    """The numbers of one cell."""
    found: Record = {
        "callers": cell.callers,
        "mode": cell.mode,
        "n": len(cell.kept),
        "agreement": cell.agreement.to_json(),
        "calls_a_pass": {kind: cell.calls[kind] / max(1, cell.passes[kind]) for kind in cell.calls},
    }
    if not cell.kept:
        return found
    parts = [run.parts_ms for run in cell.kept]
    calls = sum(map(len, cell.kept[0].latency_ms.values()))
    return found | {
        "total_ms": Summary.of([run.total_ms for run in cell.kept]).to_json(),
        "per_s": Summary.of([1e3 * calls / run.total_ms for run in cell.kept]).to_json(),
        "latency_ms": {
            kind: Summary.of([ms for run in cell.kept for ms in run.latency_ms[kind]]).to_json()
            for kind in KINDS
        },
        "busy_ms": float(np.mean([run.busy_ms for run in cell.kept])),
        "parts_ms": {part: float(np.mean([one[part] for one in parts])) for part in parts[0]},
    }


def ratios(cells: dict[tuple[int, str], Cell], callers: int, seed: int) -> Record:
    """The list's total time, joined to alone and to joined again, round by round, where neither is void."""
    joined, *others = (cells[callers, mode] for mode in MODES)

    def ratio(other: Cell) -> Any:
        return median_ratio_of_kept(joined.runs, other.runs, lambda run: run.total_ms, seed=seed)

    return dict(zip(("joined_to_alone", "joined_to_again"), map(ratio, others), strict=True))


def requirements(found: Record) -> list[Requirement]:
    """What was asked for."""
    cells = found["cells"]
    wanted = [Requirement("void lists", sum(one["agreement"]["void"] for one in cells), "lists", most=0)]
    wanted += [
        Requirement(f"{kind}: another request's answer is seen", float(is_seen), "", least=1)
        for kind, is_seen in found["control"].items()
    ]
    remainders = [abs(one["parts_ms"]["remainder"]) / one["busy_ms"] for one in cells if one["n"]]
    if remainders:
        wanted.append(
            Requirement("callers' time that is nobody's, at most", 100 * max(remainders), "%", most=REMAINDER)
        )
    for one in found["ratios"]:
        if one["callers"] == 1 and one["joined_to_alone"] is not None:
            lone = one["joined_to_alone"].value
            wanted.append(Requirement("1 caller: time joined, of alone", lone, most=LONE_LOSS))
    most = max(cell["callers"] for cell in cells)
    for cell in cells:
        if cell["callers"] == most:
            calls = cell["calls_a_pass"][TOKENIZE]
            what = f"{most} callers, {cell['mode']}: calls for tokens a pass"
            is_alone = cell["mode"] == "alone"
            wanted.append(
                Requirement(what, calls, "", most=1) if is_alone else Requirement(what, calls, "", least=1)
            )
    return wanted


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "joined_to_alone": {str(one["callers"]): one["joined_to_alone"] for one in report["ratios"]},
        "void": sum(one["agreement"]["void"] for one in report["cells"]),
        "control_differs": all(report["control"].values()),
        "requirements": report["requirements"],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    options = Options(__doc__, "reports/mixed", quick="few calls, few callers")
    add_options(options.parser)
    options.add("callers", CALLERS, QUICK_CALLERS, "at once")
    options.add("calls", CALLS, QUICK_CALLS, "of the list")
    options.add("rounds", ROUNDS, QUICK_ROUNDS, "of all cells")
    options.fix("new_tokens", NEW_TOKENS, QUICK_NEW_TOKENS)
    return options.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/benchmark_mixed.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
