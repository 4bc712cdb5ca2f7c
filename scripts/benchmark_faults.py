"""Requests that a server's engine breaks, with and without a client that tries again: what succeeds, and what it takes.

    python scripts/benchmark_faults.py                                   the travelling pack and its host
    python scripts/benchmark_faults.py --quick --out /tmp/try            a try of seconds that proves nothing

What it does:
1. starts `phoropter serve` with a hook that the product does not have: each request breaks its own forward with a
   probability, drawn with a seed (`serving.faults`); the client draws the same, and knows how many must have broken;
2. has some callers ask a list of short completions at each rate, without retries and with them (5xx and connections
   that end, waits that grow and are jittered, at most 5 attempts), in an order drawn anew each round; no faults and no
   retries twice;
3. counts on both sides: requests that were to break, that broke, that broke because another one in the same step did
   (collateral), and attempts that clients saw fail;
4. holds every answer against this process's: one that differs is void, and counted;
5. asks for what is wrong (400) with retries: it must be tried once;
6. writes reports/NAME.json and .md. What arithmetic expects stands beside what was measured: with a rate p, 1 - p
   succeed at once, 1 - p^5 within five attempts; and the same with the rate at which attempts failed, collateral and
   all.

The last line of standard output is one JSON document.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from experiments.requirements import Requirement
from measuring.samples import Summary
from pages.command import make_report
from pages.faults_report import markdown
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from rich.progress import Progress
from serving.additions import PATH
from serving.answers import Agreement, Answer, agree
from serving.asking import COMPLETIONS
from serving.calls import Caller, Refused, json_request
from serving.client import Client
from serving.faults import drawn
from serving.native import Native
from serving.options import Options
from serving.pairs import median_ratio, median_ratio_of_kept
from serving.retrying import ATTEMPTS, Tried, may_pass, mean_attempts, persist, succeed, unlogged
from serving.servers import running
from serving.servers import serving as command_line
from serving.subject import add_options, open_subject, questions

from lenses.errors import ConfigError
from runtime.config import MonitorConfig

Record = dict[str, Any]

RATES, QUICK_RATES = (0.0, 1.0, 5.0, 10.0, 20.0), (0.0, 20.0)
REQUESTS, QUICK_REQUESTS = 60, 10
ROUNDS, QUICK_ROUNDS = 5, 1
CALLERS = 3
NEW_TOKENS = (4, 12)
"""At least and at most: callers whose answers are of one length would all begin in the same steps."""
TEXTS = 20
SHOW = 5
LEAST_SUCCESS = 99.0
AGAIN = "again"


@dataclass(slots=True)
class Call:
    """One call, and what came of it."""

    attempts: int
    ms: float
    body: bytes | None
    """None: it failed for good."""


@dataclass(slots=True)
class Cell:
    """One rate, with or without retries."""

    percent: float
    retries: bool
    name: str = ""
    calls: list[Call] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    """Calls that succeeded a second, round by round."""
    mean_ms: list[float | None] = field(default_factory=list)
    """Of those, round by round."""
    told: int = 0
    """Requests that were to break, by the client's own draws."""
    broken: int = 0
    spared: int = 0
    """That were to break and were over before: a third broken step in a row would have ended the engine."""
    collateral: int = 0
    seen: int = 0
    """Attempts that failed at the client."""
    agreement: Agreement = field(default_factory=Agreement)

    @property
    def attempts(self) -> int:
        """That a call may take."""
        return ATTEMPTS if self.retries else 1


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Call; returns the report."""
    if min(arguments.rounds, arguments.requests) < 1 or not all(0 <= rate < 100 for rate in arguments.rates):
        raise ConfigError(
            f"{arguments.rounds} rounds of {arguments.requests} requests at {arguments.rates} %; give 1 or more of "
            "each, and rates of 0 up to 100 %"
        )
    begin = time.perf_counter()
    subject = open_subject(arguments, progress)
    texts = questions(subject.pack, min(TEXTS, len(subject.pack.hierarchy)))
    least, most = NEW_TOKENS
    lengths = np.random.default_rng(arguments.seed).integers(least, most + 1, len(texts)).tolist()
    settings = {
        "subject": subject.to_json(),
        "texts": texts,
        "new_tokens": NEW_TOKENS,
        "callers": CALLERS,
        "attempts": ATTEMPTS,
        "show": SHOW,
    } | {name: getattr(arguments, name) for name in ("rates", "requests", "rounds", "seed")}
    run = RunRecord.begin(command, settings)
    with Native(subject.host, subject.pack, MonitorConfig(), SHOW) as native:
        references = [native.answer(text, tokens) for text, tokens in zip(texts, lengths, strict=True)]
        twice = native.answer(f"{texts[0]} {texts[0]}", lengths[0])
        config = native.config
    cells = [Cell(0.0, retries=False, name=AGAIN)]
    cells += [Cell(rate, retries) for rate in arguments.rates for retries in (False, True)]
    task = progress.add_task("server", total=1)
    with (
        running("serving.product", command_line(subject.where, subject.model, add=["faults"])) as server,
        unlogged(),
    ):
        progress.advance(task)
        bench = Bench(server.url, list(map(request, texts, lengths)), references, config)
        wrong = asyncio.run(bench.wrong())
        asyncio.run(bench.take_turns(cells, arguments, progress))
    control = next(iter(agree(twice, references[0], config).void), None)
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "control": control,
        "wrong": {"status": wrong[0], "attempts": wrong[1]},
        "rows": [row(cell) for cell in cells],
        "ratios": ratios(cells, arguments.seed),
    }
    found["requirements"] = [one.to_json() for one in requirements(found)]
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def request(text: str, new_tokens: int) -> bytes:
    """A short completion, greedy, with entries."""
    body: Record = {
        "prompt": text,
        "max_tokens": new_tokens,
        "temperature": 0,
        "lenses": {"show": SHOW, "prompt": True},
    }
    return json_request(COMPLETIONS, body)


class Bench:
    """Callers of one server."""

    def __init__(
        self, url: str, requests: Sequence[bytes], references: Sequence[Answer], config: MonitorConfig
    ) -> None:
        self._url, self._requests, self._references, self._config = url, requests, references, config

    async def take_turns(
        self, cells: Sequence[Cell], arguments: argparse.Namespace, progress: Progress
    ) -> None:
        """Ask the list in every cell once a round, after a warm-up without faults."""
        order = np.random.default_rng(arguments.seed)
        task = progress.add_task("cells", total=arguments.rounds * len(cells))
        with Client(self._url) as told:
            await self._ask(Cell(0.0, retries=False), 0, len(self._requests), told)
            for round in range(arguments.rounds):
                for at in order.permutation(len(cells)):
                    seed = arguments.seed + round * len(cells) + int(at)
                    await self._ask(cells[at], seed, arguments.requests, told)
                    progress.advance(task)

    async def _ask(self, cell: Cell, seed: int, requests: int, told: Client) -> None:
        rate = cell.percent / 100
        told.post(PATH, {"faults": {"rate": rate, "seed": seed}})
        numbers = iter(range(requests))
        calls: list[tuple[int, Call]] = []
        before = cell.seen
        began_s = time.perf_counter()
        await asyncio.gather(*(self._caller(cell, numbers, calls) for _ in range(CALLERS)))
        took_s = time.perf_counter() - began_s
        found = told.get(PATH)["faults"]
        cell.told += drawn(rate, seed, sum(call.attempts for _, call in calls))
        cell.broken += found["requests_broken"]
        cell.spared += found["spared"]
        cell.collateral += found["collateral"]
        cell.calls += [call for _, call in calls]
        whole = [call.ms for _, call in calls if call.body is not None]
        cell.per_s.append(len(whole) / took_s)
        cell.mean_ms.append(float(np.mean(whole)) if whole else None)
        for number, call in calls:
            if call.body is not None:
                cell.agreement = cell.agreement.and_also(self._agree(number, call.body))
        assert cell.seen - before == sum(call.attempts - (call.body is not None) for _, call in calls), (
            "every attempt but a call's last failed, and that too where the call did"
        )

    async def _caller(self, cell: Cell, numbers: Any, calls: list[tuple[int, Call]]) -> None:
        """One caller: takes the next call of the list as soon as it is done with one."""
        line = Line(self._url)
        for number in numbers:  # shared: who is free takes the next
            tried = Tried()
            asked_s = time.perf_counter()
            body = await line.ask(self._requests[number % len(self._requests)], tried, cell.attempts)
            calls.append((number, Call(tried.attempts, 1e3 * (time.perf_counter() - asked_s), body)))
        cell.seen += line.failures
        await line.close()

    def _agree(self, number: int, body: bytes) -> Agreement:
        return agree(Answer.of_body(body), self._references[number % len(self._references)], self._config)

    async def wrong(self) -> tuple[int, int]:
        """The status of a request that is wrong, and how often it was tried by who tries again."""
        line, tried = Line(self._url), Tried()
        raw = json_request(COMPLETIONS, {"prompt": "What is it?", "max_tokens": 0})
        try:
            await line.ask(raw, tried, ATTEMPTS)
        except Refused as refused:
            return refused.status, tried.attempts
        finally:
            await line.close()
        return 200, tried.attempts


class Line:
    """A caller that connects anew where its connection has ended, and counts what it sees fail."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._caller: Caller | None = None
        self.failures = 0

    async def ask(self, raw: bytes, tried: Tried, attempts: int) -> bytes | None:
        """The answer, None where the last attempt failed as well; raises Refused for what is the client's own fault."""
        try:
            return await persist(lambda: self._call(raw), tried, attempts=attempts)
        except (Refused, OSError, EOFError) as error:
            if not may_pass(error):
                raise
            return None

    async def _call(self, raw: bytes) -> bytes:
        try:
            if self._caller is None:
                self._caller = await Caller.open(self._url)
            return await self._caller.call(raw)
        except Refused:
            self.failures += 1
            raise
        except (OSError, EOFError):
            self.failures += 1
            await self.close()
            raise

    async def close(self) -> None:
        """End the connection."""
        if self._caller is not None:
            caller, self._caller = self._caller, None
            await caller.close()


def row(cell: Cell) -> Record:
    """The numbers of one cell."""
    whole = [call.ms for call in cell.calls if call.body is not None]
    attempts = [call.attempts for call in cell.calls]
    rate = cell.percent / 100
    return {
        "name": cell.name,
        "percent": cell.percent,
        "retries": cell.retries,
        "calls": len(cell.calls),
        "succeeded": 100 * len(whole) / len(cell.calls),
        "expected": 100 * succeed(rate, cell.attempts),
        "expected_with_collateral": 100 * succeed(cell.seen / sum(attempts), cell.attempts),
        "attempts": float(np.mean(attempts)),
        "attempts_expected": mean_attempts(rate, cell.attempts),
        "attempts_most": max(attempts),
        "ms": Summary.of(whole).to_json() if whole else None,
        "per_s": Summary.of(cell.per_s).to_json(),
        "told": cell.told,
        "planted": cell.broken,
        "spared": cell.spared,
        "collateral": cell.collateral,
        "seen": cell.seen,
        "agreement": cell.agreement.to_json(),
    }


def ratios(cells: Sequence[Cell], seed: int) -> list[Record]:
    """Each cell held against the one without faults and retries, round by round."""
    plain_cell = next(
        (cell for cell in cells if not cell.percent and not cell.retries and not cell.name), None
    )
    if plain_cell is None:
        return []
    found = []
    for cell in cells:
        if cell is plain_cell:
            continue
        found.append(
            {
                "name": cell.name,
                "percent": cell.percent,
                "retries": cell.retries,
                "ms": median_ratio_of_kept(cell.mean_ms, plain_cell.mean_ms, float, seed=seed),
                "per_s": median_ratio(cell.per_s, plain_cell.per_s, seed=seed),
            }
        )
    return found


def requirements(found: Record) -> list[Requirement]:
    """What was asked for."""
    rows = found["rows"]
    unbroken = sum(abs(one["told"] - one["planted"] - one["spared"]) for one in rows)
    unseen = sum(abs(one["planted"] + one["collateral"] - one["seen"]) for one in rows)
    planted = min((one["planted"] for one in rows if one["percent"] >= 5), default=0)
    wanted = [
        Requirement("void answers", sum(one["agreement"]["void"] for one in rows), "answers", most=0),
        Requirement(
            "another text's answer, planted, is seen", float(found["control"] is not None), "", least=1
        ),
        Requirement("requests told to break that are not accounted for", unbroken, "requests", most=0),
        Requirement("faults and collateral that clients did not see", unseen, "attempts", most=0),
        Requirement("faults planted in each row of 5 % or more, at least", planted, "requests", least=1),
        Requirement(
            f"a request that is wrong ({found['wrong']['status']}), tried",
            found["wrong"]["attempts"],
            "times",
            most=1,
        ),
    ]
    wanted += [
        Requirement(
            f"{one['percent']:g} %, with retries: succeeded", one["succeeded"], "%", least=LEAST_SUCCESS
        )
        for one in rows
        if one["retries"] and one["percent"]
    ]
    return wanted


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "succeeded": {
            f"{one['percent']:g} %{', retries' if one['retries'] else ''}": one["succeeded"]
            for one in report["rows"]
            if not one["name"]
        },
        "void": sum(one["agreement"]["void"] for one in report["rows"]),
        "control_differs": report["control"] is not None,
        "requirements": report["requirements"],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    options = Options(__doc__, "reports/faults", quick="few requests, two rates")
    add_options(options.parser)
    options.add("rates", RATES, QUICK_RATES, "in per cent")
    options.add("requests", REQUESTS, QUICK_REQUESTS, "of a cell in a round")
    options.add("rounds", ROUNDS, QUICK_ROUNDS, "of all cells")
    return options.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/benchmark_faults.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
