"""Recordings of generations that no host made (`tests.fed`), for tests of what becomes of recordings."""

from collections.abc import Callable
from typing import Any

from lenses.pack import LensPack
from runtime.events import Event
from runtime.monitor import Monitor
from runtime.recording.about import About, Generation, RecordedHost, RecordedPack, recorded_config, versions
from runtime.recording.calls import Began, Log, sequences_of
from runtime.recording.recorder import Collected
from runtime.recording.recording import Recording
from runtime.recording.seen import Seen
from runtime.recording.words import words_of
from tests import hosts
from tests.fed import EOS, Fed, play


class Overheard:
    """A monitor whose calls are logged on their way to it."""

    def __init__(self, monitor: Monitor, log: Log) -> None:
        self._monitor, self._log = monitor, log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._monitor, name)

    def expect(self, generation: Any) -> None:
        self._log.expect(generation)
        self._monitor.expect(generation)

    def tokens_fed(self, *told: Any) -> None:
        self._log.tokens_fed(*told)
        self._monitor.tokens_fed(*told)

    def observe(self, forward: Any) -> None:
        self._log.observe(forward)
        self._monitor.observe(forward)

    def finish_run(self, sequences_BT: Any) -> None:
        self._log.finish_run(sequences_BT)
        self._monitor.finish_run(sequences_BT)


def recorded(
    monitor: Monitor, told: Fed, before_step: Callable[[int], object] = lambda step: None
) -> tuple[Recording, list[Event]]:
    """Play a script to a monitor; its recording, and the events that came."""
    log, collected = Log(), Collected()
    monitor.subscribe(collected)
    events = play(Overheard(monitor, log), told, before_step)  # type: ignore[arg-type]
    return _recording_of(monitor, log, collected), events


def _recording_of(monitor: Monitor, log: Log, collected: Collected) -> Recording:
    """What a recorder makes of these, for rows of fp32 of a host without a model."""
    made_for = monitor.pack.config.host
    plans = [call.plan for call in log.calls if isinstance(call, Began)]
    about = About(
        date="2026-07-24T12:00:00+00:00",
        ended=None,
        site=monitor.pack.config.site,
        host=RecordedHost(made_for.id, None, "float32", made_for.hidden_size, None, (EOS,)),
        pack=RecordedPack.of(monitor.pack),
        versions=versions(),
        config=recorded_config(monitor.config),
        stats=monitor.stats(),
        generations=tuple(
            Generation(plan.eos_ids, plan.pads, 2**64 - 1, {"do_sample": True, "temperature": 0.7})
            for plan in plans
        ),
    )
    words = words_of(hosts.tokenizer(), [sequence.tokens for sequence in sequences_of(log.calls)])
    return Recording(about, tuple(log.calls), Seen.of(monitor, collected.events, collected.at_ms), words)


def play_live(pack: LensPack, told: Fed, **settings: Any) -> list[Event]:
    """The events of a script as a monitor with these settings has them."""
    with Monitor(pack, **settings) as monitor:
        return play(monitor, told)
