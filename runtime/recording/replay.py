"""Events out of a recording: as they were seen, or of the same rows scored again.

To score again, a monitor is told what its tap told the one that was recorded, call by call: tokens, masks and rows of
every forward, beginnings and ends. So there is one way of scoring. Where the recorded monitor had ended a sequence (by
a rule that stopped, or `Monitor.finish`) this one ends it at the same place, whatever its own rules say.

Knows nothing about how events are shown.
"""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lenses.errors import PackMismatch, RecordingError
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.events import Event, Sink
from runtime.monitor import Monitor, MonitorStats
from runtime.recording.about import RecordedPack, recorded_config, versions
from runtime.recording.calls import Began, Fed, TokenSequence
from runtime.recording.recorder import Collected
from runtime.recording.recording import Recording
from runtime.recording.seen import NO_TOKEN, STATES, Seen

_AFTER_END = STATES.index("after_end")


class Replay:
    """A run as it was, with the pack that scored it: to a view what a monitor is. Raises RecordingError for another."""

    def __init__(self, recording: Recording, pack: LensPack) -> None:
        scored_by = recording.about.pack
        if pack.identity != scored_by.identity:
            raise RecordingError(
                f"the run was scored by the pack {scored_by.name} of identity {scored_by.identity[:12]}, this is "
                f"{pack.name} of {pack.identity[:12]}; give that one, or have this one score the rows again"
            )
        self.pack = pack
        self.config = recording.about.config
        self._recording = recording
        self._sinks: list[Sink] = []
        self._at_ms = 0.0

    def stats(self) -> MonitorStats:
        """What the monitor had counted when the run was over."""
        return self._recording.about.stats

    def clock_s(self) -> float:
        """Seconds from the beginning of the run to the event that comes out now, as they were."""
        return self._at_ms / 1e3

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Have every event delivered to `sink` as it comes out of `events`; returns the function that ends it."""
        self._sinks.append(sink)
        return lambda: self._sinks.remove(sink)

    def events(self) -> Generator[Event, None, None]:
        """The events in the order in which they were emitted, of a position that had to wait for families both."""
        seen = self._recording.seen
        for event, at_ms in zip(seen.made(self.pack, self.config.rules), seen.at_ms_E.tolist(), strict=True):
            self._at_ms = at_ms
            for sink in tuple(self._sinks):
                sink(event)
            yield event


def config_for(recording: Recording, pack: LensPack, **changes: Any) -> MonitorConfig:
    """The recorded configuration, changed as given, for scoring again with this pack on this machine's CPU.

    Rules and what else is always scored are of the concepts of one pack: another pack's monitor is told none of them.
    """
    config = replace(recording.about.config, device="cpu")
    if pack.identity != recording.about.pack.identity:
        config = replace(config, rules=(), always=())
    return replace(config, **changes)


def rescored(recording: Recording, monitor: Monitor) -> Generator[Event, None, None]:
    """Have a new monitor score the recorded rows, and yield its events as they come.

    Raises PackMismatch where its pack is for another host, site or hidden size, and as a live run does.
    """
    check_fits(recording, monitor.pack)
    monitor.know_ends(recording.about.host.bos_token, recording.about.host.eos_tokens)
    out: deque[Event] = deque()
    unsubscribe = monitor.subscribe(out.append)
    try:
        for _ in _told(recording, monitor):
            while out:
                yield out.popleft()
        while out:
            yield out.popleft()
    finally:
        unsubscribe()


def check_fits(recording: Recording, pack: LensPack) -> None:
    """Raises PackMismatch unless this pack's lenses are for the rows of the recording."""
    host, wanted = recording.about.host, pack.config.host
    for what, recorded, needed in (
        ("hidden size", host.hidden_size, wanted.hidden_size),
        ("host", host.id, wanted.id),
        ("site", recording.about.site, pack.config.site),
    ):
        if recorded != needed:
            raise PackMismatch(
                f"the pack {pack.name} is for {what} {needed}, the rows of the recording are of {what} {recorded}; "
                "give a pack for these, or record the run again"
            )


def rerecorded(recording: Recording, monitor: Monitor, collected: Collected) -> Recording:
    """The recording of what this monitor said of the rows, once it has."""
    about = replace(
        recording.about,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        pack=RecordedPack.of(monitor.pack),
        versions=versions(),
        config=recorded_config(monitor.config),
        stats=monitor.stats(),
    )
    return replace(recording, about=about, seen=Seen.of(monitor, collected.events, collected.at_ms))


def _told(recording: Recording, monitor: Monitor) -> Iterator[None]:
    """Make the recorded calls to a monitor, one a step."""
    ends = _Ends(recording)
    is_running = False
    for call in recording.calls:
        if isinstance(call, Fed):
            before, behind = ends.at(call)
            for b in before:
                monitor.finish(b)
            call.tell_tokens(monitor)
            for b in behind:
                monitor.finish(b)
            call.tell_rows(monitor)
            is_running = True
        else:
            call.tell(monitor)
            is_running = isinstance(call, Began)
        yield
    if is_running:  # forwards without `generate`, or a file that was written in its midst
        monitor.finish_run(None)
        yield


class _Ends:
    """Where the recorded monitor had ended sequences, though their rows went on.

    Its events `after_end` say where. What ended a sequence before its next token was known (`Monitor.finish`) left the
    event before them without one.
    """

    def __init__(self, recording: Recording) -> None:
        events, newest = recording.seen.events, recording.seen.newest()
        is_over = {place: events["state"][number] == _AFTER_END for place, number in newest.items()}
        self._next_token = {place: int(events["next_token"][number]) for place, number in newest.items()}
        self._begins = {
            (sequence, position)
            for (sequence, position), over in is_over.items()
            if over and not is_over.get((sequence, position - 1), False)
        }
        self._batch: list[TokenSequence] = []
        self._sequences = iter(recording.sequences)
        self._length: Counter[int] = Counter()

    def at(self, call: Fed) -> tuple[list[int], list[int]]:
        """The sequences of the batch to be ended before this forward's tokens are known, and those behind that."""
        if call.rows_RD is None:
            return [], []
        if call.begins:
            self._batch = [next(self._sequences) for _ in call.token_BT]
        before: list[int] = []
        behind: list[int] = []
        for b, sequence in enumerate(self._batch):
            length = self._length[sequence.number]
            if (sequence.number, length) in self._begins:
                next_token = self._next_token.get((sequence.number, length - 1), NO_TOKEN)
                (before if next_token == NO_TOKEN else behind).append(b)
            self._length[sequence.number] += int(call.mask_BT[b].sum())
        return before, behind
