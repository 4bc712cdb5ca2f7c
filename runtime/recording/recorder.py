"""Making a recording while a host is watched: a tap of its own at the monitor's site, and a sink for its events.

    with Recorder(monitor, model, tokenizer, "dog.safetensors"), monitor.attach(model):
        model.generate(**inputs, max_new_tokens=40)

The file is written when the block ends, by an exception or Ctrl-C too, which it then says; a run of which nothing was
seen leaves none. Until then the run is in host memory: a token takes D numbers of the host's dtype, and eight bytes for
every concept scored.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import torch

from lenses.files import AtomicFile, PathLike, local_path
from lenses.text import one_line
from runtime.blocks import eos_ids_of, text_config
from runtime.events import Event
from runtime.hook import Forward, Mask, Tap
from runtime.monitor import Monitor
from runtime.plan import GenerationPlan, Ids
from runtime.recording.about import (
    About,
    Generation,
    RecordedHost,
    RecordedPack,
    recorded_config,
    versions,
)
from runtime.recording.calls import Call, Fed, Log, sequences_of
from runtime.recording.recording import Recording
from runtime.recording.seen import Seen
from runtime.recording.words import words_of


class Collected:
    """A `Sink` that keeps every event and when it was emitted, from its making on."""

    def __init__(self) -> None:
        self._began_s = perf_counter()
        self.events: list[Event] = []
        self.at_ms: list[float] = []

    def __call__(self, event: Event) -> None:
        """Keep one."""
        self.events.append(event)
        self.at_ms.append((perf_counter() - self._began_s) * 1e3)


class Recorder:
    """Records what `monitor` sees of `model` while a `with` lasts, to `path`.

    The tokenizer is asked about the run's own tokens. Raises WriteError from entering, where the file could not be
    written, and from leaving; HostError where the host cannot be watched.
    """

    def __init__(self, monitor: Monitor, model: Any, tokenizer: Any, path: PathLike) -> None:
        self.path = local_path(path)
        self.made: Recording | None = None
        """What was written; None until it is."""
        self._monitor, self._model, self._tokenizer = monitor, model, tokenizer
        self._file = AtomicFile(self.path)
        self._tap = Tap(model, monitor.pack.config.site, self)

    def __enter__(self) -> Self:
        self._file.__enter__()
        try:
            self._tap.attach()
        except BaseException:
            self._drop()
            raise
        self.made = None
        self._date = datetime.now(UTC)
        self._log, self._collected = Log(), Collected()
        self._generations: list[Generation] = []
        self._unsubscribe = self._monitor.subscribe(self._collected)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unsubscribe()
        self._tap.remove()
        try:
            recording = self._recording(_why(error))
            self._file.write(recording.to_bytes())
        except BaseException:
            self._drop()
            raise
        if not recording.sequences:
            self._drop()
            return
        self._file.__exit__(None, None, None)  # of a run that raised, too: what came before is what is wanted
        self.made = recording

    def _drop(self) -> None:
        self._file.__exit__(BaseException, None, None)

    # What the tap calls: see `Log`.

    def expect(self, generation: GenerationPlan | None) -> None:
        """Note the seed, which is known now: nothing was drawn yet."""
        if generation is not None:
            self._generations.append(
                Generation(
                    generation.eos_ids, generation.pads, _seed(self._model.device), generation.settings
                )
            )
        self._log.expect(generation)

    def tokens_fed(self, token_BT: Ids, mask_BT: Mask, begins: bool) -> None:
        """Note what goes in."""
        self._log.tokens_fed(token_BT, mask_BT, begins)

    def observe(self, forward: Forward) -> None:
        """Note what came out."""
        self._log.observe(forward)

    def finish_run(self, sequences_BT: Ids | None) -> None:
        """Note how it ended."""
        self._log.finish_run(sequences_BT)

    def _recording(self, ended: str | None) -> Recording:
        monitor, model, calls = self._monitor, self._model, tuple(self._log.calls)
        made_for = monitor.pack.config.host
        about = About(
            date=self._date.isoformat(timespec="seconds"),
            ended=ended,
            site=monitor.pack.config.site,
            host=RecordedHost(
                made_for.id,
                getattr(model.config, "_commit_hash", None),
                _dtype(calls, model),
                made_for.hidden_size,
                text_config(model).bos_token_id,
                tuple(sorted(eos_ids_of(model))),
            ),
            pack=RecordedPack.of(monitor.pack),
            versions=versions(),
            config=recorded_config(monitor.config),
            stats=monitor.stats(),
            generations=tuple(self._generations),
        )
        seen = Seen.of(monitor, self._collected.events, self._collected.at_ms)
        words = words_of(self._tokenizer, [sequence.tokens for sequence in sequences_of(calls)])
        return Recording(about, calls, seen, words)


def _why(error: BaseException | None) -> str | None:
    """What a recording says of how its run ended."""
    if error is None:
        return None
    if isinstance(error, KeyboardInterrupt):
        return "Ctrl-C"
    return one_line(f"{type(error).__name__}: {error}")


def _dtype(calls: Sequence[Call], model: Any) -> str:
    rows = [call.rows_RD for call in calls if isinstance(call, Fed) and call.rows_RD is not None]
    return str(rows[0].dtype if rows else model.dtype).removeprefix("torch.")


def _seed(device: torch.device) -> int | None:
    """The seed of the generator that `generate` draws from on this device; None where it was drawn from since."""
    if device.type == "cpu":
        generator = torch.default_generator
    elif device.type == "cuda":
        generator = torch.cuda.default_generators[device.index or 0]
    else:
        return None
    seed = generator.initial_seed()
    fresh = torch.Generator(device).manual_seed(seed)
    return seed if torch.equal(fresh.get_state(), generator.get_state()) else None
