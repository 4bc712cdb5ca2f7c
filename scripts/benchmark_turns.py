"""A chat of ten turns over the network: what a new token costs in each of them, with a session and without.

    python scripts/benchmark_turns.py                                   the travelling pack and its host
    python scripts/benchmark_turns.py --model random:gemma-3-270m --out reports/turns-270m
    python scripts/benchmark_turns.py --quick --out /tmp/try            a try of seconds that proves nothing

    session    a session of `phoropter serve`: each turn sends what is new, keys and values and lenses' state are kept
    whole      the same turns without one: each sends all that was said, which the server reads again

A turn sends a dozen tokens of names and has as many generated, greedy; what is sent is chosen in this process so that
the host does not end its answer early. Both ways send token ids, so that both are of the same text to the token. They
take turns chat by chat, in an order drawn anew each repeat, the session twice.

Tokens and events of every turn are held against this process's run of the same whole text; a chat that differs in one
turn is void and counted, its times are in no row. Cost against the turn's number is a line through all repeats, each
one a cluster; the interval is of repeats drawn anew. Two things are planted: the whole text sent again, whose cost must
be seen to grow, and a turn without its context, which must be seen to differ.

The last line of standard output is one JSON document.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np
from experiments.requirements import Requirement
from measuring.samples import Summary
from pages.command import make_report
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from pages.turns_report import markdown
from rich.progress import Progress
from serving.answers import Agreement, Answer, agree
from serving.asking import Asking
from serving.client import Client
from serving.native import Native
from serving.options import Options
from serving.pairs import median_ratio_of_kept
from serving.servers import running
from serving.servers import serving as command_line
from serving.subject import Subject, add_options, open_subject, prompts
from serving.trends import trend

from lenses.errors import ConfigError
from runtime.blocks import eos_ids_of
from runtime.config import MonitorConfig

Record = dict[str, Any]

TURNS, SENT, NEW_TOKENS, REPEATS = 10, 12, 12, 30
QUICK_TURNS, QUICK_SENT, QUICK_NEW_TOKENS, QUICK_REPEATS = 4, 3, 3, 2
CHATS = 3
TRIES = 400
"""Turns that are tried in this process at most, for all chats."""
SHOW = 5
MOST_GROWTH = 0.1
"""Of a new token's cost, from the first turn to the last."""
PAUSE_S = 0.05
SESSION, WHOLE, AGAIN = "session", "whole", "session (again)"


@dataclass(slots=True)
class Chat:
    """What is sent in each turn, and what this process answers to all that was said up to there."""

    sent: list[list[int]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def said(self, turn: int) -> list[int]:
        """All token ids up to where this turn's answer begins."""
        before = [
            one
            for sent, answer in zip(self.sent[:turn], self.answers, strict=False)
            for one in (*sent, *answer.tokens)
        ]
        return [*before, *self.sent[turn]]


@dataclass(frozen=True, slots=True)
class Played:
    """One chat, played to its end."""

    answers: tuple[Answer, ...]
    kept: tuple[int, ...]
    """Tokens that the server had read before each turn, as it says."""
    around_ms: float
    """Opening and closing the session."""

    @property
    def total_ms(self) -> float:
        """All of it."""
        return self.around_ms + sum(answer.total_ms for answer in self.answers)


Play = Callable[[Chat], Played]


@dataclass(slots=True)
class Way:
    """The chats of one way, repeat by repeat; None where contents differed."""

    name: str
    play: Play
    runs: list[Played | None] = field(default_factory=list)
    agreement: Agreement = field(default_factory=Agreement)

    @property
    def kept(self) -> list[Played]:
        """Those that count."""
        return [run for run in self.runs if run is not None]


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Chat; returns the report."""
    if min(arguments.turns, arguments.repeats, arguments.sent, arguments.new_tokens) < 2:
        raise ConfigError(
            f"{arguments.repeats} repeats of {arguments.turns} turns of {arguments.sent} + {arguments.new_tokens} "
            "tokens; give 2 or more of each"
        )
    begin = time.perf_counter()
    subject = open_subject(arguments, progress)
    with Native(subject.host, subject.pack, MonitorConfig(), SHOW) as native:
        chats = choose(subject, native, arguments, progress)
        settings = {
            "subject": subject.to_json(),
            "sent": [chat.sent for chat in chats],
            "show": SHOW,
        } | {name: getattr(arguments, name) for name in ("turns", "repeats", "new_tokens", "seed")}
        run = RunRecord.begin(command, settings)
        task = progress.add_task("server", total=1)
        with running("serving.product", command_line(subject.where, subject.model)) as server:
            progress.advance(task)
            with Client(server.url) as client:
                asking = Asking(client, SHOW)
                ways = [
                    Way(SESSION, lambda chat: in_session(asking, chat, arguments.new_tokens)),
                    Way(WHOLE, lambda chat: sent_whole(asking, chat, arguments.new_tokens)),
                    Way(AGAIN, lambda chat: in_session(asking, chat, arguments.new_tokens)),
                ]
                take_turns(ways, chats, arguments, native.config, progress)
                without = asking.turn(chats[0].sent[-1], arguments.new_tokens)[0]
        control = next(iter(agree(without, chats[0].answers[-1], native.config).void), None)
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "control": control,
        "before": [len(chats[0].said(turn)) - len(chats[0].sent[turn]) for turn in range(arguments.turns)],
        "rows": [row(way, arguments) for way in ways],
        "ratios": ratios({way.name: way for way in ways}, arguments.seed),
    }
    found["requirements"] = [one.to_json() for one in requirements(found)]
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def choose(subject: Subject, native: Native, arguments: argparse.Namespace, progress: Progress) -> list[Chat]:
    """Chats in which the host writes as much as is wanted in every turn; raises ConfigError."""
    count = min(CHATS, arguments.repeats)
    task = progress.add_task("chats", total=count * arguments.turns)
    ends = frozenset(eos_ids_of(subject.host.model))
    # Over and over: what ends one answer early need not end another one.
    some = islice(cycle(pieces(subject, arguments.sent)), TRIES)
    chats = []
    for _ in range(count):
        chat = Chat()
        for piece in some:
            chat.sent.append(piece if not chat.sent else piece[-arguments.sent :])
            answer = native.answer_to_ids(chat.said(len(chat.sent) - 1), arguments.new_tokens)
            if len(answer.tokens) < arguments.new_tokens or ends & set(answer.tokens):
                chat.sent.pop()
                continue
            chat.answers.append(answer)
            progress.advance(task)
            if len(chat.answers) == arguments.turns:
                break
        else:
            raise ConfigError(
                f"of {TRIES} turns too few let the host write {arguments.new_tokens} tokens; ask for fewer"
            )
        chats.append(chat)
    return chats


def pieces(subject: Subject, tokens: int) -> Iterator[list[int]]:
    """Token ids of names: so many of their own, with the token that begins a text where the host has one."""
    tokenizer = subject.host.tokenizer
    is_begun = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    for text in prompts(subject.host, subject.pack, tokens + is_begun):
        # Not counted by `prompts` in the same way by all tokenizers: what is wanted is the text's own.
        own = tokenizer(text, verbose=False, add_special_tokens=False)["input_ids"][:tokens]
        if len(own) == tokens:
            yield [*([tokenizer.bos_token_id] if is_begun else []), *own]


def in_session(asking: Asking, chat: Chat, new_tokens: int) -> Played:
    """Play a chat in a session of its own: each turn sends what is new."""
    began_s = time.perf_counter()
    session = asking.open_session()
    opened_s = time.perf_counter()
    played = [asking.turn(sent, new_tokens, session=session) for sent in chat.sent]
    ended_s = time.perf_counter()
    asking.close_session(session)
    around_s = opened_s - began_s + time.perf_counter() - ended_s
    return Played(tuple(answer for answer, _ in played), tuple(kept for _, kept in played), 1e3 * around_s)


def sent_whole(asking: Asking, chat: Chat, new_tokens: int) -> Played:
    """Play it without one: each turn sends all that was said, by this client's own answers."""
    said: list[int] = []
    played = []
    for sent in chat.sent:
        said += sent
        played.append(asking.turn(said, new_tokens))
        said += played[-1][0].tokens
    return Played(tuple(answer for answer, _ in played), tuple(kept for _, kept in played), 0.0)


def take_turns(
    ways: Sequence[Way],
    chats: Sequence[Chat],
    arguments: argparse.Namespace,
    config: MonitorConfig,
    progress: Progress,
) -> None:
    """Play a chat in every way once a repeat, after a warm-up with all chats."""
    task = progress.add_task("warm-up", total=len(chats))
    for chat in chats:
        for way in ways[:2]:
            way.play(chat)
        progress.advance(task)
    order = np.random.default_rng(arguments.seed)
    task = progress.add_task("repeats", total=arguments.repeats)
    for repeat in range(arguments.repeats):
        chat = chats[repeat % len(chats)]
        for at in order.permutation(len(ways)):
            way = ways[at]
            played = way.play(chat)
            agreement = compared(played, chat, config)
            way.agreement = way.agreement.and_also(agreement)
            way.runs.append(None if agreement.void else played)
            time.sleep(PAUSE_S)
        progress.advance(task)


def compared(played: Played, chat: Chat, config: MonitorConfig) -> Agreement:
    """How all turns of a chat agree with this process's."""
    found = Agreement()
    for answer, reference in zip(played.answers, chat.answers, strict=True):
        found = found.and_also(agree(answer, reference, config))
    return found


def row(way: Way, arguments: argparse.Namespace) -> Record:
    """The numbers of one way: by turn, and the lines through them."""
    found: Record = {"name": way.name, "agreement": way.agreement.to_json(), "repeats": len(way.kept)}
    if not way.kept:
        return found
    token_RT = [[one.total_ms / len(one.tokens) for one in run.answers] for run in way.kept]
    first_RT = [[one.first_ms for one in run.answers] for run in way.kept]
    return found | {
        "kept": way.kept[0].kept,
        "total_ms": Summary.of([run.total_ms for run in way.kept]).to_json(),
        "around_ms": Summary.of([run.around_ms for run in way.kept]).to_json(),
        "token_ms": [Summary.of(one).to_json() for one in zip(*token_RT, strict=True)],
        "first_ms": [Summary.of(one).to_json() for one in zip(*first_RT, strict=True)],
        "token_trend": trend(token_RT, seed=arguments.seed).to_json(),
        "first_trend": trend(first_RT, seed=arguments.seed).to_json(),
    }


def ratios(ways: dict[str, Way], seed: int) -> Record:
    """Whole chats held against each other, repeat by repeat, where neither is void."""

    def ratio(one: str, other: str) -> Any:
        return median_ratio_of_kept(ways[one].runs, ways[other].runs, lambda run: run.total_ms, seed=seed)

    return {
        f"{AGAIN} / {SESSION}": ratio(AGAIN, SESSION),
        f"{WHOLE} / {SESSION}": ratio(WHOLE, SESSION),
    }


def requirements(found: Record) -> list[Requirement]:
    """What was asked for; a way without a chat that counts has met nothing."""
    rows = {one["name"]: one for one in found["rows"]}
    wanted = [
        Requirement("void turns", sum(one["agreement"]["void"] for one in found["rows"]), "turns", most=0),
        Requirement("a turn without its context is seen", float(found["control"] is not None), "", least=1),
    ]
    if not all(one["repeats"] for one in found["rows"]):
        return wanted
    session, whole = (rows[name]["token_trend"]["change"] for name in (SESSION, WHOLE))
    return [
        *wanted,
        Requirement("session: tokens kept in the last turn", rows[SESSION]["kept"][-1], "tokens", least=1),
        Requirement("whole: tokens kept in the last turn", rows[WHOLE]["kept"][-1], "tokens", most=0),
        Requirement(
            "session: a new token's cost, last turn beyond the first, upper end",
            100 * session.high,
            "%",
            most=100 * MOST_GROWTH,
        ),
        Requirement("whole, planted: the same, lower end", 100 * whole.low, "%", least=100 * MOST_GROWTH),
    ]


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "change": {one["name"]: one["token_trend"]["change"] for one in report["rows"] if one["repeats"]},
        "void": sum(one["agreement"]["void"] for one in report["rows"]),
        "control_differs": report["control"] is not None,
        "ratios": report["ratios"],
        "requirements": report["requirements"],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    options = Options(__doc__, "reports/turns", quick="few turns, few repeats")
    add_options(options.parser)
    options.add("repeats", REPEATS, QUICK_REPEATS, "chats of each way")
    options.add("turns", TURNS, QUICK_TURNS, "of a chat")
    options.add("sent", SENT, QUICK_SENT, "tokens that a turn sends")
    options.add("new-tokens", NEW_TOKENS, QUICK_NEW_TOKENS, "that a turn generates")
    return options.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/benchmark_turns.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
