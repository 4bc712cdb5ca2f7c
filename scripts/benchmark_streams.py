"""Streams of tokens and what lenses say of them: to fast and slow readers, with both policies; what telling costs.

    python scripts/benchmark_streams.py                                   the travelling pack and its host
    python scripts/benchmark_streams.py --quick --out /tmp/try            a try of seconds that proves nothing

What it does:
1. finds a text and a seed after which the host writes as many tokens as are wanted (drawn, not greedy: greedy it ends
   early, or repeats itself), and writes them in this process: the reference;
2. streams 50 and 1,000 tokens (or what the host's context has room for) from `phoropter serve`: five concepts an entry,
   or all logits beside them (`vectors`); to a reader that is as fast as it can be, and to one that takes pauses so that
   it reads at half that speed; with `block` and `drop-oldest`; in an order drawn anew each round;
3. measures what telling costs: the same stream with entries, with entries and vectors, and with the same lenses scored
   and nothing told. Entries that take a millisecond more to make are planted, and must be counted;
4. times one entry to bytes in this process: JSON, and msgpack where it is installed;
5. writes reports/NAME.json and .md, with the share of a stream's time held against 5 %, beyond which a binary stream
   would be thought of.

Every stream is held against the reference: text, tokens, entries, vectors; one that differs is void, counted, and in no
row. A stream of another seed is seen to differ. The last line of standard output is one JSON document.
"""

import argparse
import base64
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import attrgetter
from typing import Any

import numpy as np
import psutil
import torch
from experiments.requirements import Requirement
from measuring.samples import Summary
from pages.command import make_report
from pages.files import plain
from pages.report_files import page_alone
from pages.run_record import RunRecord
from pages.streams_report import markdown
from rich.progress import Progress
from serving.additions import PATH
from serving.answers import Agreement, Answer, Entry, agree
from serving.asking import COMPLETIONS
from serving.client import Client
from serving.encoding import measure as measure_encoding
from serving.native import Native
from serving.options import Options
from serving.pairs import median_ratio_of_kept
from serving.readers import Pace, Read, read_stream
from serving.servers import Running, running
from serving.servers import serving as command_line
from serving.showing import AS_IT_IS, NOTHING, PLANTED_MS, SLOWED
from serving.streams import check
from serving.subject import Subject, add_options, open_subject, prompts

from lenses.errors import ConfigError
from lenses.metrics import Estimate
from lenses.pack import LensPack
from runtime.blocks import text_config
from runtime.config import MonitorConfig
from runtime.generate import seeded
from runtime.serve.shown import vector

Record = dict[str, Any]

LENGTHS, QUICK_LENGTHS = (50, 1000), (6, 24)
SHARE_TOKENS, QUICK_SHARE_TOKENS = 80, 6
ROUNDS, QUICK_ROUNDS = 2, 1
SHARE_ROUNDS, QUICK_SHARE_ROUNDS = 10, 2
ENCODING_ROUNDS, QUICK_ENCODING_ROUNDS = 30, 2
PROMPT_TOKENS, QUICK_PROMPT_TOKENS = 24, 8
TRIES = 200
SHOW = 5
TEMPERATURE = 2.0
"""At which the travelling host hardly ever ends a text."""
SLOW = 0.5
"""Of a fast reader's speed."""
HALF_PRECISION = 2.0**-10
"""How far a logit may be from the reference's by being float16, of its size."""
LOGIT = 1e-3
SHARE = 0.05
"""Of a stream's time, beyond which a binary stream would be thought of."""
PAUSE_S = 0.05
EVENTS, VECTORS = "events", "events and vectors"
FAST, SLOWLY = "fast", "slow"
POLICIES = ("block", "drop-oldest")


@dataclass(frozen=True, slots=True)
class Text:
    """What is asked for, and what this process writes then."""

    prompt: str
    seed: int
    reference: Answer
    written: tuple[str, ...]
    """The text up to each token."""

    def first(self, tokens: int) -> "Text":
        """As if only so many tokens had been asked for: draws depend on what came before them alone."""
        generated = [event for event in self.reference.events if event.phase == "generation"]
        last = generated[0].position - 1 + tokens - 1 if generated else 0
        kept = replace(
            self.reference,
            tokens=self.reference.tokens[:tokens],
            entries=tuple(entry for entry in self.reference.entries if entry.position <= last),
            events=tuple(event for event in self.reference.events if event.position <= last),
        )
        return replace(self, reference=kept, written=self.written[:tokens])


@dataclass(frozen=True, slots=True)
class Measured:
    """One stream, and what it took."""

    total_ms: float
    gaps_ms: tuple[float, ...]
    cpu_ms: float
    """Of the server."""
    making_ms: float
    """Of it, making entries and messages."""
    entries: int
    bytes: Record
    """From the server, by cause."""
    dropped: int


@dataclass(slots=True)
class Cell:
    """Streams of one kind; None where contents differed."""

    tokens: int
    payload: str
    reader: str = FAST
    policy: str = "block"
    mode: str = AS_IT_IS
    name: str = ""
    runs: list[Measured | None] = field(default_factory=list)
    agreement: Agreement = field(default_factory=Agreement)

    @property
    def kept(self) -> list[Measured]:
        """Those that count."""
        return [run for run in self.runs if run is not None]


class Bench:
    """A server with its switch, and the process that it is."""

    def __init__(self, server: Running, told: Client, pack: LensPack, config: MonitorConfig) -> None:
        self._url, self._told, self._pack, self._config = server.url, told, pack, config
        self._process = psutil.Process(server.pid)
        self._paces: dict[tuple[int, str], Pace] = {}

    def warm_up(self, cell: Cell, text: Text) -> None:
        """Stream once to a fast reader: how fast that is, a slow reader is told by."""
        read = self._read(replace(cell, reader=FAST), text)
        self._paces[cell.tokens, cell.payload] = Pace.of(read.received, read.total_ms / 1e3, SLOW)

    def stream(self, cell: Cell, text: Text) -> None:
        """One stream, measured and held against the reference, into its cell."""
        self._told.post(PATH, {"showing": {"mode": cell.mode}})
        before, cpu_before_s = self._told.get(PATH), self._cpu_s()
        read = self._read(cell, text)
        cpu_s, after = self._cpu_s() - cpu_before_s, self._told.get(PATH)
        agreement = compared(read.messages, text.first(cell.tokens), cell, self._pack, self._config)
        cell.agreement = cell.agreement.and_also(agreement)
        if agreement.void:
            cell.runs.append(None)
            return
        named = {
            cause: after["bytes"][cause] - before["bytes"][cause]
            for cause in after["bytes"]
            if cause != "framing"
        }
        lenses = [choice.get("lenses", {}) for message in read.messages for choice in message["choices"]]
        cell.runs.append(
            Measured(
                read.total_ms,
                tuple(np.diff(read.arrived_ms[: cell.tokens]).tolist()),
                1e3 * cpu_s,
                after["showing"]["making_ms"] - before["showing"]["making_ms"],
                after["showing"]["entries"] - before["showing"]["entries"],
                named | {"framing": read.received - sum(named.values()), "total": read.received},
                sum(one.get("dropped", 0) for one in lenses),
            )
        )

    def _read(self, cell: Cell, text: Text) -> Read:
        body: Record = {
            "prompt": text.prompt,
            "max_tokens": cell.tokens,
            "temperature": TEMPERATURE,
            "seed": text.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            "lenses": {"show": SHOW, "policy": cell.policy, "vectors": cell.payload == VECTORS},
        }
        pace = self._paces[cell.tokens, cell.payload] if cell.reader == SLOWLY else None
        return read_stream(self._url, COMPLETIONS, body, pace)

    def _cpu_s(self) -> float:
        used = self._process.cpu_times()
        return float(used.user + used.system)


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Stream; returns the report."""
    if (
        min(arguments.rounds, arguments.share_rounds) < 1
        or min(*arguments.lengths, arguments.share_tokens) < 2
    ):
        raise ConfigError(
            f"{arguments.rounds} and {arguments.share_rounds} rounds of streams of "
            f"{min(*arguments.lengths, arguments.share_tokens)} tokens; give 1 round or more, of 2 tokens or more"
        )
    begin = time.perf_counter()
    subject = open_subject(arguments, progress)
    lengths = fitting(subject, arguments)
    with Native(subject.host, subject.pack, MonitorConfig(), SHOW) as native:
        text = choose(subject, native, max(*lengths, arguments.share_tokens), arguments, progress)
        settings = {
            "subject": subject.to_json(),
            "prompt": text.prompt,
            "text_seed": text.seed,
            "lengths": lengths,
            "lengths_asked_for": list(arguments.lengths),
            "temperature": TEMPERATURE,
            "slow": SLOW,
            "show": SHOW,
        } | {name: getattr(arguments, name) for name in ("rounds", "share_tokens", "share_rounds", "seed")}
        run = RunRecord.begin(command, settings)
        cells, sharing = streams_of(lengths), shares_of(arguments.share_tokens)
        task = progress.add_task("server", total=1)
        options = command_line(subject.where, subject.model, add=["showing"])
        with running("serving.product", options) as server, Client(server.url) as told:
            progress.advance(task)
            bench = Bench(server, told, subject.pack, native.config)
            control = seen_to_differ(bench, cells[0], text)
            take_turns(bench, cells, text, arguments.rounds, arguments.seed, progress)
            take_turns(bench, sharing, text, arguments.share_rounds, arguments.seed, progress)
        encoding = measure_encoding(
            subject.pack,
            text.first(arguments.share_tokens).reference,
            SHOW,
            QUICK_ENCODING_ROUNDS if arguments.quick else ENCODING_ROUNDS,
        )
    by_name = {cell.name: cell for cell in sharing}
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "control": control,
        "streams": [row(cell) for cell in cells],
        "sharing": [row(cell) for cell in sharing],
        "ratios": ratios(by_name, arguments.seed),
        "shares": [
            shares(by_name, payload, arguments.seed)
            for payload in (EVENTS, VECTORS)
            if all(by_name[name].kept for name in (payload, NOTHING, f"{payload}, {SLOWED}"))
        ],
        "encoding": encoding,
    }
    found["requirements"] = [one.to_json() for one in requirements(found)]
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


def fitting(subject: Subject, arguments: argparse.Namespace) -> list[int]:
    """The lengths that are asked for, or what the host's context has room for behind a prompt."""
    context = getattr(text_config(subject.host.model), "max_position_embeddings", None)
    room = max(arguments.lengths) if context is None else context - arguments.prompt_tokens
    return sorted({min(length, room) for length in arguments.lengths})


def choose(
    subject: Subject, native: Native, tokens: int, arguments: argparse.Namespace, progress: Progress
) -> Text:
    """A text and a seed after which the host writes so many tokens; raises ConfigError."""
    task = progress.add_task("a text that lasts", total=None)
    candidates = islice(prompts(subject.host, subject.pack, arguments.prompt_tokens), TRIES)
    for seed, prompt in enumerate(candidates, start=arguments.seed):
        progress.advance(task)
        if not lasts(subject, prompt, tokens, seed):
            continue
        reference = native.answer(prompt, tokens, temperature=TEMPERATURE, seed=seed)
        if len(reference.tokens) == tokens:
            return Text(prompt, seed, reference, written(subject, reference.tokens))
    raise ConfigError(f"none of {TRIES} texts lets the host write {tokens:,} tokens; ask for fewer")


def lasts(subject: Subject, prompt: str, tokens: int, seed: int) -> bool:
    """Whether the host, unwatched, writes so many tokens."""
    host = subject.host
    ids_1T = torch.tensor([host.tokenizer(prompt, verbose=False)["input_ids"]], device=host.model.device)
    with seeded(host.model, seed):
        found_1T = host.model.generate(
            input_ids=ids_1T,
            attention_mask=torch.ones_like(ids_1T),
            max_new_tokens=tokens,
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            top_p=1.0,
        )
    return bool(found_1T.shape[1] - ids_1T.shape[1] == tokens)


def written(subject: Subject, tokens: Sequence[int]) -> tuple[str, ...]:
    """The text up to each of these tokens."""
    return tuple(
        subject.host.tokenizer.decode(tokens[: at + 1], skip_special_tokens=True) for at in range(len(tokens))
    )


def streams_of(lengths: Sequence[int]) -> list[Cell]:
    """All kinds of streams."""
    return [
        Cell(tokens, payload, reader, policy)
        for tokens in lengths
        for payload in (EVENTS, VECTORS)
        for reader in (FAST, SLOWLY)
        for policy in POLICIES
    ]


def shares_of(tokens: int) -> list[Cell]:
    """What is held against each other to see what telling costs."""
    return [
        Cell(tokens, EVENTS, mode=NOTHING, name=NOTHING),
        Cell(tokens, EVENTS, name=EVENTS),
        Cell(tokens, EVENTS, name=f"{EVENTS} (again)"),
        Cell(tokens, EVENTS, mode=SLOWED, name=f"{EVENTS}, {SLOWED}"),
        Cell(tokens, VECTORS, name=VECTORS),
        Cell(tokens, VECTORS, mode=SLOWED, name=f"{VECTORS}, {SLOWED}"),
    ]


def seen_to_differ(bench: Bench, kind: Cell, text: Text) -> str | None:
    """Why a stream of another seed is not this text: what is planted, and must be seen."""
    other = replace(kind, runs=[])
    bench.stream(other, replace(text, seed=text.seed + 1))
    return next(iter(other.agreement.void), None)


def take_turns(
    bench: Bench, cells: Sequence[Cell], text: Text, rounds: int, seed: int, progress: Progress
) -> None:
    """Stream every cell once a round, after a warm-up of each kind."""
    kinds = {(cell.tokens, cell.payload): cell for cell in cells}
    task = progress.add_task("warm-up", total=len(kinds))
    for cell in kinds.values():
        bench.warm_up(cell, text)
        progress.advance(task)
    order = np.random.default_rng(seed)
    task = progress.add_task("streams", total=rounds * len(cells))
    for _ in range(rounds):
        for at in order.permutation(len(cells)):
            bench.stream(cells[at], text)
            progress.advance(task)
            time.sleep(PAUSE_S)


def compared(
    messages: Sequence[Record], text: Text, cell: Cell, pack: LensPack, config: MonitorConfig
) -> Agreement:
    """How a stream agrees with the reference; a token whose entry was dropped is known by the text alone."""
    reference = text.reference
    choices = [choice for message in messages for choice in message["choices"]]
    usage = messages[-1].get("usage") or {}
    if "".join(choice["text"] for choice in choices).strip() != text.written[-1].strip():
        return Agreement(1, ("the text is not the reference's",))
    if usage.get("completion_tokens") != cell.tokens:
        return Agreement(1, (f"{usage.get('completion_tokens')} tokens, not {cell.tokens}",))
    if cell.mode == NOTHING:
        told = any("lenses" in choice for choice in choices)
        return Agreement(1, ("entries were told",) if told else ())
    problem = check(messages, prompt=False)[0]
    if problem is not None:
        return Agreement(1, (problem,))
    content = [entry for choice in choices for entry in choice["lenses"]["content"]]
    tokens = tuple(
        known if entry is None else entry["token"]
        for entry, known in zip(content, reference.tokens, strict=True)
    )
    entries = [entry for entry in content if entry is not None]
    answer = Answer(tokens, tuple(map(Entry.of_json, entries)), 0.0, 0.0)
    found = agree(answer, reference, config)
    if found.void or cell.payload != VECTORS:
        return found
    events = {event.position: event for event in reference.events}
    for entry in entries:
        expected = vector(events[entry["position"]], len(pack.hierarchy))
        if not found.near_cuts and not same_vector(entry["vector"], expected):
            return Agreement(1, (f"position {entry['position']}: another vector than the reference's",))
    return found


def same_vector(one: str, other: str) -> bool:
    """Whether two score vectors are equal as far as float16 can say, the same lenses scored."""
    a_N, b_N = (np.frombuffer(base64.b64decode(text), "<f2").astype(np.float64) for text in (one, other))
    if a_N.shape != b_N.shape or (np.isnan(a_N) != np.isnan(b_N)).any():
        return False
    bound_N = LOGIT + HALF_PRECISION * np.abs(b_N)
    return not (np.abs(a_N - b_N) > bound_N).any()


def row(cell: Cell) -> Record:
    """The numbers of one kind of stream."""
    kept = cell.kept
    found: Record = {
        "name": cell.name,
        "tokens": cell.tokens,
        "payload": cell.payload,
        "reader": cell.reader,
        "policy": cell.policy,
        "n": len(kept),
        "agreement": cell.agreement.to_json(),
    }
    if not kept:
        return found
    causes = kept[0].bytes
    return found | {
        "per_s": Summary.of([1e3 * cell.tokens / run.total_ms for run in kept]).to_json(),
        "total_ms": Summary.of([run.total_ms for run in kept]).to_json(),
        "gap_ms": Summary.of([gap for run in kept for gap in run.gaps_ms]).to_json(),
        "cpu_ms": Summary.of([run.cpu_ms / cell.tokens for run in kept]).to_json(),
        "making_ms": Summary.of([run.making_ms / cell.tokens for run in kept]).to_json(),
        "bytes": {
            cause: float(np.mean([run.bytes[cause] for run in kept])) / cell.tokens for cause in causes
        },
        "dropped": float(np.mean([run.dropped for run in kept])),
    }


def paired(cells: dict[str, Cell], one: str, other: str, measure: str, seed: int) -> Estimate | None:
    """The ratio of two kinds of streams, round by round, where neither is void."""
    return median_ratio_of_kept(cells[one].runs, cells[other].runs, attrgetter(measure), seed=seed)


def ratios(cells: dict[str, Cell], seed: int) -> Record:
    """Times and the server's CPU, of streams held against each other."""
    pairs = [(f"{EVENTS} (again)", EVENTS)]
    for payload in (EVENTS, VECTORS):
        pairs += [(payload, NOTHING), (f"{payload}, {SLOWED}", payload)]
    return {
        f"{one} / {other}": {
            measure: paired(cells, one, other, measure, seed) for measure in ("total_ms", "cpu_ms")
        }
        for one, other in pairs
    }


def shares(cells: dict[str, Cell], payload: str, seed: int) -> Record:
    """What telling takes of a stream: by the clock, by the server's CPU, as counted where it is made; the verdict."""
    by_clock = paired(cells, payload, NOTHING, "total_ms", seed)
    by_cpu = paired(cells, payload, NOTHING, "cpu_ms", seed)
    planted = paired(cells, f"{payload}, {SLOWED}", payload, "total_ms", seed)
    again = paired(cells, f"{EVENTS} (again)", EVENTS, "total_ms", seed)
    assert by_clock is not None
    assert by_cpu is not None
    assert planted is not None
    told, untold, slowed = (cells[name].kept for name in (payload, NOTHING, f"{payload}, {SLOWED}"))
    making_ms, text_ms, more_ms = (
        float(np.mean([run.making_ms for run in kept])) for kept in (told, untold, slowed)
    )
    total_ms = float(np.mean([run.total_ms for run in told]))
    planted_ms = PLANTED_MS * float(np.mean([run.entries for run in slowed]))
    share = share_of(by_clock)
    return {
        "payload": payload,
        "by_clock": share,
        "by_cpu": share_of(by_cpu),
        "made": (making_ms - text_ms) / total_ms,
        "planted_counted": (more_ms - making_ms) / planted_ms,
        "planted_by_clock": (planted.value - 1) * total_ms / planted_ms,
        "verdict": verdict(share, again),
    }


def share_of(ratio: Estimate) -> Estimate:
    """What a part is of the whole, from the whole's ratio to the rest."""
    return Estimate(*(1 - 1 / one for one in (ratio.value, ratio.low, ratio.high)))


def verdict(share: Estimate, again: Estimate | None) -> str:
    """What the rule of 5 % says, where equal streams are not seen to differ: more only where it certainly is."""
    if again is None or not again.low <= 1 <= again.high:
        return "undecided: equal streams differ"
    if share.high < SHARE:
        return "below: JSON stays"
    return "above: a binary stream is worth a try" if share.low > SHARE else "undecided: JSON stays"


def requirements(found: Record) -> list[Requirement]:
    """What was asked for."""
    rows = [*found["streams"], *found["sharing"]]
    wanted = [
        Requirement("void streams", sum(one["agreement"]["void"] for one in rows), "streams", most=0),
        Requirement("a stream of another seed is seen", float(found["control"] is not None), "", least=1),
    ]
    longest = max(one["tokens"] for one in found["streams"])
    for one in found["streams"]:
        if not one["n"]:
            continue
        what = f"{one['tokens']} tokens, {one['payload']}, {one['reader']}, {one['policy']}: entries dropped"
        if one["policy"] == "block":
            wanted.append(Requirement(what, one["dropped"], "a stream", most=0))
        elif one["tokens"] == longest and one["reader"] == SLOWLY:
            wanted.append(Requirement(what, one["dropped"], "a stream", least=1))
    for one in found["shares"]:
        what = f"{one['payload']}, planted: a millisecond an entry, counted"
        wanted.append(Requirement(what, 100 * one["planted_counted"], "%", least=90))
    return wanted


def summary(report: Record) -> Record:
    """What the last line says."""
    return {
        "quick": report["quick"],
        "void": sum(one["agreement"]["void"] for one in (*report["streams"], *report["sharing"])),
        "control_differs": report["control"] is not None,
        "shares": report["shares"],
        "requirements": report["requirements"],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    options = Options(__doc__, "reports/streams", quick="short streams, few rounds")
    add_options(options.parser)
    options.add("lengths", LENGTHS, QUICK_LENGTHS, "in tokens")
    options.add("rounds", ROUNDS, QUICK_ROUNDS, "of all kinds of streams")
    options.add("share-tokens", SHARE_TOKENS, QUICK_SHARE_TOKENS, "of streams that show what telling costs")
    options.add("share-rounds", SHARE_ROUNDS, QUICK_SHARE_ROUNDS, "of these")
    options.fix("prompt_tokens", PROMPT_TOKENS, QUICK_PROMPT_TOKENS)
    return options.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report(
        "scripts/benchmark_streams.py",
        argv,
        parse(argv),
        build=build,
        write=page_alone(markdown),
        summary=summary,
    )


if __name__ == "__main__":
    sys.exit(main())
