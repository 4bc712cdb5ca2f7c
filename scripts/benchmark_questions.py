"""Asks 50 questions in this process and over the network: what a server adds, and where the time goes.

    python scripts/benchmark_questions.py                                  the travelling pack and its host
    python scripts/benchmark_questions.py --model random:gemma-3-270m --out reports/questions-270m
    python scripts/benchmark_questions.py --quick --out /tmp/try           a try of seconds that proves nothing

What it does:
1. starts `phoropter serve` in a process of its own, and a monitor with the same host and pack in this one;
2. has both answer every question once (nobody pays for first readings later), greedy, with events of all positions;
3. asks each question in this process, over the network and in this process again: three runs that follow each other;
4. compares tokens and events of every run with this process's first; a pair that differs is void, and counted;
5. writes reports/NAME.json and .md. Times of void pairs are in no row.

The last line of standard output is one JSON document.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from experiments.requirements import Requirement
from measuring.samples import Summary
from pages.command import make_report
from pages.files import plain
from pages.questions_report import markdown
from pages.report_files import page_alone
from pages.run_record import RunRecord
from rich.progress import Progress
from serving.answers import Agreement, Answer, agree
from serving.asking import Asking
from serving.client import Client
from serving.native import Native
from serving.options import Options
from serving.pairs import median_ratio
from serving.servers import running
from serving.servers import serving as command_line
from serving.subject import Subject, add_options, as_chat, open_subject, questions
from serving.timers import PARTS

from lenses.errors import ConfigError
from runtime.config import MonitorConfig
from runtime.generate import Prompt

Record = dict[str, Any]

QUESTIONS, QUICK_QUESTIONS = 50, 3
NEW_TOKENS, QUICK_NEW_TOKENS = 50, 6
SHOW = 5
PAUSE_S = 0.05
"""Between two runs: threads that wait for more work do so busily for a moment."""
MOST_TRAVELLING, MOST_RANDOM = 1.15, 1.05

Triple = tuple[Answer, Answer, Answer]
"""In this process, served, in this process again."""


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Ask everything; returns the report."""
    if arguments.questions < 1 or arguments.new_tokens < 2:
        raise ConfigError(
            f"{arguments.questions} questions of {arguments.new_tokens} tokens; give 1 question and 2 tokens or more"
        )
    begin = time.perf_counter()
    subject = open_subject(arguments, progress)
    asked = questions(subject.pack, arguments.questions)
    settings = {
        "subject": subject.to_json(),
        "questions": asked,
        "new_tokens": arguments.new_tokens,
        "show": SHOW,
        "seed": arguments.seed,
    }
    run = RunRecord.begin(command, settings)
    triples, agreements, control = ask_all(
        subject, [as_chat(subject.host, one) for one in asked], arguments.new_tokens, progress
    )
    kept = [
        triple
        for triple, (served, again) in zip(triples, agreements, strict=True)
        if not (served.void or again.void)
    ]
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "agreement": {
            "served": summed([served for served, _ in agreements]).to_json(),
            "again": summed([again for _, again in agreements]).to_json(),
        },
        "control": control,
        **numbers(kept, arguments.seed),
    }
    most = MOST_RANDOM if subject.is_random else MOST_TRAVELLING
    found["requirements"] = [
        Requirement(
            "median pair ratio served / in process, upper end of its 95 % interval",
            found["ratio"].high,
            most=most,
        ).to_json(),
        Requirement(
            "parts that are measured, share of the total in process",
            found["explained"]["in process"],
            most=1.05,
        ).to_json(),
        Requirement(
            "parts that are measured, share of the total served", found["explained"]["served"], most=1.05
        ).to_json(),
        Requirement("void pairs", len(triples) - len(kept), "pairs", most=0).to_json(),
    ]
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def ask_all(
    subject: Subject, asked: Sequence[Prompt], new_tokens: int, progress: Progress
) -> tuple[list[Triple], list[tuple[Agreement, Agreement]], str | None]:
    """All questions three times, how the second and the third agreed with the first, and what a planted run showed."""
    task = progress.add_task("server", total=1)
    config = MonitorConfig()
    options = command_line(subject.where, subject.model, add=["timers"])
    with (
        Native(subject.host, subject.pack, config, SHOW) as native,
        running("serving.product", options) as server,
        Client(server.url) as client,
    ):
        progress.advance(task)
        served = Asking(client, SHOW)
        task = progress.add_task("warm-up", total=len(asked))
        for question in asked:
            native.answer(question, new_tokens)
            served.answer(question, new_tokens)
            progress.advance(task)
        task = progress.add_task("questions", total=len(asked))
        triples: list[Triple] = []
        agreements = []
        for question in asked:
            first = native.answer(question, new_tokens)
            time.sleep(PAUSE_S)
            over_network = served.answer(question, new_tokens)
            time.sleep(PAUSE_S)
            again = native.answer(question, new_tokens)
            time.sleep(PAUSE_S)
            agreements.append((agree(over_network, first, config), agree(again, first, config)))
            triples.append((first, over_network, again))
            progress.advance(task)
        # Its context is another one: where that is not seen, nothing is compared.
        planted = served.answer(
            as_chat(subject.host, f"The dog. {questions(subject.pack, 1)[0]}"), new_tokens
        )
        control = next(iter(agree(planted, triples[0][0], config).void), None)
    return triples, agreements, control


def numbers(kept: Sequence[Triple], seed: int) -> Record:
    """Times of the pairs that count."""
    if not kept:
        raise ConfigError("every pair is void: tokens or events differed everywhere, and nothing can be said")
    first, served, again = (list(column) for column in zip(*kept, strict=True))
    total = [np.array([answer.total_ms for answer in column]) for column in (first, served, again)]
    ways = {"in process": first, "served": served, "in process (again)": again}
    return {
        "pairs": len(kept),
        # Of a run between two others, so that a machine that drifts evenly drifts out.
        "ratio": median_ratio(total[1], (total[0] + total[2]) / 2, seed=seed),
        "ratio_again": median_ratio(total[2], total[0], seed=seed),
        "first_ratio": median_ratio([a.first_ms for a in served], [a.first_ms for a in first], seed=seed),
        "ways": {name: way(answers) for name, answers in ways.items()},
        "explained": {
            name: sum(way(answers)["parts_ms"][part] for part in PARTS) / way(answers)["total_ms"]
            for name, answers in ways.items()
        },
        "mb_an_answer": float(np.mean([answer.mb["total"] for answer in served])),
    }


def way(answers: Sequence[Answer]) -> Record:
    """The numbers of one way of asking."""
    total_ms = sum(answer.total_ms for answer in answers)
    tokens = sum(len(answer.tokens) for answer in answers)
    parts = {part: sum(answer.parts_ms.get(part, 0.0) for answer in answers) for part in PARTS}
    return {
        "total_ms": total_ms,
        "tokens": tokens,
        "tokens_per_s": 1e3 * tokens / total_ms,
        "response_ms": Summary.of([answer.total_ms for answer in answers]).to_json(),
        "first_ms": Summary.of([answer.first_ms for answer in answers]).to_json(),
        "parts_ms": parts | {"remainder": total_ms - sum(parts.values())},
    }


def summed(agreements: Sequence[Agreement]) -> Agreement:
    """All of them as one."""
    found = Agreement()
    for one in agreements:
        found = found.and_also(one)
    return found


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "ratio": report["ratio"],
        "ratio_again": report["ratio_again"],
        "void": report["agreement"]["served"]["void"],
        "control_differs": report["control"] is not None,
        "requirements": report["requirements"],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    options = Options(__doc__, "reports/questions", quick="few questions, few tokens")
    add_options(options.parser)
    options.add("questions", QUESTIONS, QUICK_QUESTIONS, "how many")
    options.add("new-tokens", NEW_TOKENS, QUICK_NEW_TOKENS, "of an answer at the most")
    return options.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/benchmark_questions.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
