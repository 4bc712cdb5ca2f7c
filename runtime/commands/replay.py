"""`phoropter replay`: show a recording again, or have lenses score its rows again."""

import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lenses.errors import ConfigError, PackError, RecordingError
from lenses.text import one_line, quoted
from runtime.commands.options import BaseLevels, LoadThreshold, MaxLevel, TopK, check, lens_device
from runtime.commands.showing import AlarmBudget, Html, Jsonl, Show, Track, show_run, trends

if TYPE_CHECKING:
    from lenses.pack import LensPack
    from runtime.commands.showing import Source
    from runtime.events import Event
    from runtime.monitor import Monitor
    from runtime.plan import Setting
    from runtime.recording.recording import Recording
    from runtime.recording.replay import Replay
    from runtime.rules import Rule
    from runtime.session import Pace, Session


def replay(
    file: Annotated[
        str, typer.Argument(help="A recording, as phoropter record and watch --record write it.")
    ],
    pack: Annotated[
        str | None,
        typer.Option(
            help="Have the lenses of this pack score the rows. Default: what was seen, of the pack that scored it."
        ),
    ] = None,
    sequence: Annotated[int, typer.Option(help="Which sequence of a batch is shown, from 0.")] = 0,
    speed: Annotated[
        float,
        typer.Option(
            help="Of the live view, of what was seen: 1 as fast as it was, 2 twice that, 0 at once."
        ),
    ] = 1.0,
    base_levels: BaseLevels = None,
    top_k: TopK = None,
    load_threshold: LoadThreshold = None,
    max_level: MaxLevel = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Score the rows again with every lens.")
    ] = False,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="CONCEPT > BOUND for POSITIONS -> mark: see phoropter watch --help; may be given again.",
        ),
    ] = None,
    hot_budget: Annotated[str | None, typer.Option(help="Memory for lenses ready to score.")] = None,
    warm_budget: Annotated[str | None, typer.Option(help="Memory for lenses kept beside them.")] = None,
    device: Annotated[str | None, typer.Option(help="Where lenses score: cpu, cuda and so on.")] = None,
    show: Show = 8,
    track: Track = None,
    alarm_budget: AlarmBudget = None,
    jsonl: Jsonl = None,
    html: Html = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Score the rows again, and write that as a recording of its own."),
    ] = None,
) -> None:
    """Show a recording again as watch shows a run, without the model.

    With another pack, or with settings of how lenses are chosen, the recorded rows are scored again: what you see then
    is what a monitor with these would have said of the same run. Nothing is generated.

    \b
    Examples:
      phoropter replay dog.safetensors
      phoropter replay dog.safetensors --html dog.html --track animal.n.01
      phoropter replay dog.safetensors --pack lens_packs/mine --out mine.safetensors
      phoropter replay dog.safetensors --exhaustive --rule "animal.n.01 > 0.9 for 3 -> mark"
    """
    check("sequence", sequence, 0)
    check("speed", speed, 0)
    check("show", show, 1)
    changes = _changes(base_levels, top_k, load_threshold, max_level, exhaustive, rule)
    changes |= _means(hot_budget, warm_budget, device)

    from lenses.pack import LensPack
    from runtime.recording.recording import Recording
    from runtime.recording.replay import Replay
    from runtime.session import Pace

    recording = Recording.load(file)
    if sequence >= len(recording.sequences):
        raise ConfigError(f"sequence {sequence} is not in {one_line(file)}: {recording}, counted from 0")
    opened = LensPack.from_pretrained(_where(recording, pack))
    told = _Told(recording, sequence, show, track, alarm_budget)
    ended = recording.about.ended
    if ended is not None:
        print(f"the run ended before it was over, by {one_line(ended)}", file=sys.stderr)
    if len(recording.sequences) > 1:
        print(f"this is sequence {sequence} of {len(recording.sequences)}; see --sequence", file=sys.stderr)
    if changes or out is not None or opened.identity != recording.about.pack.identity:
        with _scorer(recording, opened, changes) as monitor:
            _score(told, monitor, jsonl, html, out)
        return
    source = Replay(recording, opened)
    session = told.session(source, Pace(source.clock_s))
    events = told.events(_paced(source, speed if sys.stdout.isatty() else 0.0))
    show_run(source, session, events, jsonl=jsonl, html=html, facts=told.facts())


@dataclass(frozen=True, slots=True)
class _Told:
    """What is shown of a recording."""

    recording: "Recording"
    sequence: int
    show: int
    track: list[str] | None
    alarm_budget: float | None

    def session(self, source: "Source", pace: "Pace") -> "Session":
        """The session of the sequence, which nothing was added to."""
        from runtime.alarms import Alarms
        from runtime.session import Session
        from runtime.transcript import Transcript

        about, of = self.recording.about, self.recording.sequences[self.sequence]
        transcript = Transcript(self.recording.tokenizer, of.read[: of.prompt])
        limit = self._settings.get("max_new_tokens")
        return Session(
            transcript,
            source.stats,
            f"{about.host.id} · lenses {source.pack.name} · recorded {about.date[:10]}",
            limit if isinstance(limit, int) else len(of.tokens) - of.prompt,
            self.show,
            trends(source.pack.hierarchy, self.track),
            pace,
            None if self.alarm_budget is None else Alarms(source.pack, self.alarm_budget),
            source.config.rules,
        )

    def events(self, events: "Generator[Event, None, None]") -> "Generator[Event, None, None]":
        """Those of the sequence."""
        with closing(events):
            yield from (event for event in events if event.sequence == self.sequence)

    def facts(self) -> list[tuple[str, str]]:
        """How the run came about, as the page says it."""
        about, settings = self.recording.about, self._settings
        temperature = settings.get("temperature", 1.0) if settings.get("do_sample") else 0.0
        seed = "unknown" if about.seed is None else about.seed
        return [
            ("phoropter", about.versions.get("phoropter", "unknown")),
            ("recorded", about.date),
            ("sampling", f"temperature {temperature:g}, seed {seed}"),
        ]

    @property
    def _settings(self) -> "Mapping[str, Setting]":
        generations = self.recording.about.generations
        return generations[0].settings if generations else {}


def _score(told: _Told, monitor: "Monitor", jsonl: str | None, html: str | None, out: str | None) -> None:
    """Score the rows again, show that, and write it where that is wanted."""
    from runtime.recording.recorder import Collected
    from runtime.recording.replay import rerecorded, rescored
    from runtime.session import Pace

    collected = Collected()
    if out is not None:
        monitor.subscribe(collected)
    # By the clock of the lenses: there is no host that takes time.
    session = told.session(monitor, Pace(lambda: monitor.stats().lens_ms / 1e3))
    facts = [*told.facts(), ("scored again", f"from what {told.recording.about.pack.name} had seen")]
    events = told.events(rescored(told.recording, monitor))
    show_run(monitor, session, events, jsonl=jsonl, html=html, facts=facts)
    if out is not None:
        made = rerecorded(told.recording, monitor, collected)
        made.save(out)
        print(f"recorded {one_line(out)}: {made}", file=sys.stderr)


@contextmanager
def _scorer(recording: "Recording", pack: "LensPack", changes: dict[str, Any]) -> "Iterator[Monitor]":
    """A monitor that is to score the rows; raises PackMismatch where its lenses are not for them."""
    from runtime.monitor import Monitor
    from runtime.recording.replay import check_fits, config_for

    check_fits(recording, pack)
    with Monitor(pack, config_for(recording, pack, **changes)) as monitor:
        for warning in monitor.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        yield monitor


def _paced(source: "Replay", speed: float) -> "Generator[Event, None, None]":
    """The events of a run, each as long after the first as it was then, `speed` times as fast."""
    began_s = time.perf_counter()
    for event in source.events():
        if speed:
            time.sleep(max(0.0, source.clock_s() / speed - (time.perf_counter() - began_s)))
        yield event


def _where(recording: "Recording", pack: str | None) -> str:
    """The pack to open: the one that was asked for, or of those that are here the one that scored the run."""
    from runtime.packs import find_packs, read_config, resolve_pack

    if pack is not None:
        return resolve_pack(pack)
    wanted = recording.about.pack
    for path in find_packs():
        try:
            if read_config(path).identity == wanted.identity:
                return str(path)
        except PackError:  # a damaged pack is not the one
            continue
    where = f"--pack {wanted.source}" if wanted.source is not None else "--pack PATH"
    raise RecordingError(
        f"the pack {one_line(wanted.name)} of identity {wanted.identity[:12]}, which scored the run, is not in "
        f"lens_packs; give it with {where}, or another for {recording.about.site} of "
        f"{one_line(recording.about.host.id)}"
    )


def _changes(
    base_levels: str | None,
    top_k: int | None,
    load_threshold: float | None,
    max_level: int | None,
    exhaustive: bool,
    rule: list[str] | None,
) -> dict[str, Any]:
    """Settings of what is scored that the user gave."""
    from runtime.config import parse_levels

    given = {
        "base_levels": None if base_levels is None else parse_levels(base_levels),
        "top_k": top_k,
        "load_threshold": load_threshold,
        "max_level": max_level,
        "exhaustive": exhaustive or None,
        "rules": None if not rule else tuple(map(_marking, rule)),
    }
    return {name: value for name, value in given.items() if value is not None}


def _marking(text: str) -> "Rule":
    from runtime.rules import Rule

    rule = Rule.parse(text)
    if rule.action == "stop":
        raise ConfigError(
            f"the rule {quoted(text)} stops, and a replay generates nothing that could be stopped; give it mark"
        )
    return rule


def _means(hot_budget: str | None, warm_budget: str | None, device: str | None) -> dict[str, Any]:
    """Settings of what scoring may take that the user gave."""
    from runtime.config import parse_bytes

    budgets = {"hot_budget_bytes": hot_budget, "warm_budget_bytes": warm_budget}
    given: dict[str, Any] = {name: parse_bytes(text) for name, text in budgets.items() if text is not None}
    return given if device is None else given | {"device": lens_device(device)}
