"""Decodes over the network in three ways, and in this process in two: what it takes, and what goes over the wire.

    python scripts/benchmark_decode.py                                   the travelling pack and its host
    python scripts/benchmark_decode.py --model random:gemma-3-270m --out reports/decode-270m
    python scripts/benchmark_decode.py --delay-ms 10 --mbit 100 --out reports/decode-slow-link
    python scripts/benchmark_decode.py --quick --out /tmp/try            a try of seconds that proves nothing

    native     in this process: `Monitor.stream`, which has transformers' `generate` do it
    engine     in this process: the engine of `phoropter serve`, which needs no `generate`
    blind      the server recomputes the whole sequence for every token and sends logits of all positions, as fp32; the
               client draws
    partial    the server recomputes the whole sequence and sends logits of the last position; the client draws
    full       `phoropter serve`: a session keeps keys and values, the server draws, events go over the wire

All have an event of every generated token with five concepts; native, engine and full have events of the prompt too.
The ways take turns in an order drawn anew each round, native twice. Tokens and events of every run are held against
this process's; a run that differs is void and counted, its time is in no row. A client that drops the context is
planted, and must be seen to differ. A link with a delay and a width lies between client and servers where asked for.

The last line of standard output is one JSON document.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from experiments.requirements import Requirement
from measuring.samples import Summary
from pages.command import make_report
from pages.decode_report import markdown
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from rich.progress import Progress
from serving.answers import Agreement, Answer, agree
from serving.asking import Asking
from serving.client import Client
from serving.engine import EngineHere
from serving.native import Native
from serving.options import Options
from serving.pairs import mean, median_ratio_of_kept
from serving.remote import Remote
from serving.servers import running
from serving.servers import serving as command_line
from serving.subject import Subject, add_options, open_subject, prompts

from lenses.errors import ConfigError
from runtime.blocks import text_config
from runtime.config import MonitorConfig

Record = dict[str, Any]
Ask = Callable[[str], Answer]

PROMPT_TOKENS, NEW_TOKENS, RUNS = 72, 50, 30
QUICK_PROMPT_TOKENS, QUICK_NEW_TOKENS, QUICK_RUNS = 24, 4, 2
PROMPTS = 3
SHOW = 5
PAUSE_S = 0.05
AGAIN = "native (again)"
CAUSES = ("ids", "text", "logits", "states", "events", "framing", "total")


@dataclass(slots=True)
class Way:
    """The runs of one way, round by round; None where contents differed."""

    name: str
    ask: Ask
    runs: list[Answer | None] = field(default_factory=list)
    agreement: Agreement = field(default_factory=Agreement)


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Decode everything; returns the report."""
    if min(arguments.runs, arguments.new_tokens) < 2 or arguments.prompt_tokens < 2:
        raise ConfigError(
            f"{arguments.runs} runs of {arguments.prompt_tokens} + {arguments.new_tokens} tokens; give 2 or more of "
            "each"
        )
    begin = time.perf_counter()
    subject = open_subject(arguments, progress)
    with Native(subject.host, subject.pack, MonitorConfig(), SHOW) as native:
        texts = choose(subject, native, arguments)
        settings = {
            "subject": subject.to_json(),
            "prompts": texts,
            "prompt_tokens": arguments.prompt_tokens,
            "new_tokens": arguments.new_tokens,
            "runs": arguments.runs,
            "show": SHOW,
            "delay_ms": arguments.delay_ms,
            "mbit": arguments.mbit,
            "seed": arguments.seed,
        }
        run = RunRecord.begin(command, settings)
        with opened(subject, native, arguments, progress) as (ways, planted):
            take_turns(ways, texts, arguments, progress)
            control = next(
                iter(
                    agree(
                        planted(texts[0]), native.answer(texts[0], arguments.new_tokens), native.config
                    ).void
                ),
                None,
            )
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "control": control,
        "rows": [row(way, arguments.new_tokens, arguments.seed) for way in ways],
        **compared({way.name: way for way in ways}, arguments.seed),
    }
    found["requirements"] = [one.to_json() for one in requirements(found, subject)]
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def choose(subject: Subject, native: Native, arguments: argparse.Namespace) -> list[str]:
    """Texts of the right length after which the host writes as much as is wanted; raises ConfigError."""
    wanted = min(PROMPTS, arguments.runs)
    candidates = prompts(subject.host, subject.pack, arguments.prompt_tokens)
    long = (
        text
        for text in islice(candidates, 200)
        if len(native.answer(text, arguments.new_tokens).tokens) == arguments.new_tokens
    )
    found = list(islice(long, wanted))
    if len(found) < wanted:
        raise ConfigError(
            f"of 200 texts of {arguments.prompt_tokens} tokens {len(found)} let the host write "
            f"{arguments.new_tokens} more, {wanted} are wanted; ask for fewer new tokens"
        )
    return found


@contextmanager
def opened(
    subject: Subject, native: Native, arguments: argparse.Namespace, progress: Progress
) -> Iterator[tuple[list[Way], Ask]]:
    """All ways ready to run, and the one that is planted: a client that sends the last token alone."""
    task = progress.add_task("servers", total=2)
    tokens = arguments.new_tokens
    vocabulary = text_config(subject.host.model).vocab_size
    model = [] if subject.model is None else ["--model", subject.model]

    def ids(text: str) -> list[int]:
        found: list[int] = subject.host.tokenizer(text, verbose=False)["input_ids"]
        return found

    with ExitStack() as stack:

        def client(url: str) -> Client:
            if arguments.delay_ms or arguments.mbit:
                told = ["--to", url, "--delay-ms", str(arguments.delay_ms)]
                told += [] if arguments.mbit is None else ["--mbit", str(arguments.mbit)]
                url = stack.enter_context(running("serving.link", told, ready=None)).url
            return stack.enter_context(Client(url))

        product = stack.enter_context(running("serving.product", command_line(subject.where, subject.model)))
        progress.advance(task)
        baseline = stack.enter_context(
            running("baseline.server", ["--pack", subject.where, *model], ready="/")
        )
        progress.advance(task)
        context = arguments.prompt_tokens + arguments.new_tokens
        engine = stack.enter_context(EngineHere(subject.host, subject.pack, SHOW, context))
        asking, to_baseline = Asking(client(product.url), SHOW), client(baseline.url)
        blind, partial = (Remote(to_baseline, wanted, vocabulary) for wanted in ("all", "last"))
        yield (
            [
                Way("native", lambda text: native.answer(text, tokens)),
                Way("engine", lambda text: engine.answer(text, tokens)),
                Way("blind", lambda text: blind.answer(ids(text), tokens)),
                Way("partial", lambda text: partial.answer(ids(text), tokens)),
                Way("full", lambda text: asking.answer(text, tokens, in_session=True)),
                Way(AGAIN, lambda text: native.answer(text, tokens)),
            ],
            lambda text: partial.answer(ids(text), tokens, context=1),
        )


def take_turns(
    ways: Sequence[Way], texts: Sequence[str], arguments: argparse.Namespace, progress: Progress
) -> None:
    """Run every way once a round, after a warm-up of all texts; the blind one is warmed up by the partial one."""
    config = MonitorConfig()
    task = progress.add_task("warm-up", total=len(texts))
    references = {}
    for text in texts:
        for way in ways:
            if way.name == "native":
                references[text] = way.ask(text)
            elif way.name in ("engine", "partial", "full"):
                way.ask(text)
        progress.advance(task)
    order = np.random.default_rng(arguments.seed)
    task = progress.add_task("runs", total=arguments.runs)
    for round in range(arguments.runs):
        text = texts[round % len(texts)]
        for at in order.permutation(len(ways)):
            way = ways[at]
            answer = way.ask(text)
            agreement = agree(answer, references[text], config)
            way.agreement = way.agreement.and_also(agreement)
            way.runs.append(None if agreement.void else answer)
            time.sleep(PAUSE_S)
        progress.advance(task)


def row(way: Way, new_tokens: int, seed: int) -> Record:
    """The numbers of one way."""
    kept = [run for run in way.runs if run is not None]
    total_ms = [run.total_ms for run in kept]
    found: Record = {"name": way.name, "agreement": way.agreement.to_json(), "ms": None}
    if not kept:
        return found
    return found | {
        "ms": Summary.of(total_ms).to_json(),
        "mean_ms": mean(total_ms, seed=seed),
        "first_ms": Summary.of([run.first_ms for run in kept]).to_json(),
        "token_ms": float(np.mean(total_ms)) / new_tokens,
        "mb": {cause: float(np.mean([run.mb.get(cause, 0.0) for run in kept])) for cause in CAUSES},
    }


def compared(ways: dict[str, Way], seed: int) -> Record:
    """Ways held against each other, round by round, where neither is void."""

    def ratio(one: str, other: str) -> Any:
        return median_ratio_of_kept(ways[one].runs, ways[other].runs, lambda run: run.total_ms, seed=seed)

    return {
        "ratios": {
            "native (again) / native": ratio(AGAIN, "native"),
            "full / native": ratio("full", "native"),
            "full / engine": ratio("full", "engine"),
            "partial / full": ratio("partial", "full"),
            "blind / full": ratio("blind", "full"),
            "blind / partial": ratio("blind", "partial"),
        }
    }


def requirements(found: Record, subject: Subject) -> list[Requirement]:
    """What was asked for; a way without a run that counts has met nothing."""
    rows = {one["name"]: one for one in found["rows"]}
    void = sum(one["agreement"]["void"] for one in found["rows"])
    wanted = [Requirement("void runs", void, "runs", most=0)]
    wanted.append(Requirement("a dropped context is seen", float(found["control"] is not None), "", least=1))
    if any(one["ms"] is None for one in found["rows"]):
        return wanted
    saved = 100 * (1 - rows["full"]["mb"]["total"] / rows["blind"]["mb"]["total"])
    wanted.append(Requirement("bytes saved against blind", saved, "%", least=99.8))
    ratios = found["ratios"]
    if subject.is_random:
        return [
            *wanted,
            Requirement("full, of native", ratios["full / native"].value, most=1.2),
            Requirement("full, faster than blind", ratios["blind / full"].value, least=5),
        ]
    means = {name: one["mean_ms"] for name, one in rows.items()}
    return [
        *wanted,
        Requirement(
            "native's mean, lower end, of full's upper end", means["native"].low / means["full"].high, most=1
        ),
        Requirement(
            "engine's mean, lower end, of full's upper end", means["engine"].low / means["full"].high, most=1
        ),
        Requirement(
            "full's mean, upper end, of partial's lower end",
            means["full"].high / means["partial"].low,
            most=1,
        ),
        Requirement(
            "partial's mean, upper end, of blind's lower end",
            means["partial"].high / means["blind"].low,
            most=1,
        ),
    ]


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "mean_ms": {one["name"]: one["mean_ms"][0] for one in report["rows"] if one["ms"]},
        "mb": {one["name"]: one["mb"]["total"] for one in report["rows"] if one["ms"]},
        "void": sum(one["agreement"]["void"] for one in report["rows"]),
        "control_differs": report["control"] is not None,
        "requirements": report["requirements"],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    options = Options(__doc__, "reports/decode", quick="few tokens, few runs")
    add_options(options.parser)
    options.add("runs", RUNS, QUICK_RUNS, "of each way")
    options.add("prompt-tokens", PROMPT_TOKENS, QUICK_PROMPT_TOKENS)
    options.add("new-tokens", NEW_TOKENS, QUICK_NEW_TOKENS)
    add = options.parser.add_argument
    add("--delay-ms", type=float, default=0.0, help="of the link, each direction (default: no link)")
    add("--mbit", type=float, default=None, help="a second that the link carries, each direction")
    return options.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/benchmark_decode.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
