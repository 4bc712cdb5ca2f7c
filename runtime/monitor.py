"""The monitor: a host's rows in, events out. What people hold in their hands.

It takes what the hook saw, keeps track of the sequences of the running batch (positions, phase, pool, end), makes
input states, has the engine score them, and emits one event a position. An event is complete once the token after its
row is known: for a row of the prompt at once, for the last row when the next forward begins or generation ends. So
the events of a word are there before the host begins to work on the next one.

Two settings let events come later. `read_every`: generated rows are left unread until there are so many, and then
scored together. `deferred`: an event is emitted without the families that are not in memory, and once more, at
revision 1, when they came (see `kept`). Neither changes what an event says in the end.

Rules (see `rules`) are looked at when a row has been scored. One that stops ends its sequence there: `generate` is
asked to, and takes one more token, which the row predicted. Functions are called when the events are out.

Knows nothing about module hooks (see `hook`), tiers, or how events are shown.

Shapes: B sequences of the running batch, T columns of this forward, D hidden size, R rows, P rows that are scored.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.errors import PackMismatch
from lenses.pack import LensPack
from runtime.blocks import blocks_of, check_fits, eos_ids_of, host_id, is_same_host, text_config
from runtime.clock import NO_CLOCK, Clock, Component
from runtime.config import MonitorConfig
from runtime.counts import CacheStats
from runtime.engine import Engine
from runtime.events import Event, EventQueue, Phase, Sink, State
from runtime.generate import Prompt, stream
from runtime.hook import Forward, Tap
from runtime.kept import KeptRows
from runtime.plan import GenerationPlan
from runtime.reading import Reader
from runtime.rows import Row, UnreadRows
from runtime.rows import Sequence as RowSequence
from runtime.rules import check_rules
from runtime.table import to_frame


@dataclass(slots=True)
class Counters:
    """What happened so far, counted where it happened."""

    positions: dict[State, int] = field(
        default_factory=lambda: {"ok": 0, "bos": 0, "non_finite": 0, "after_end": 0}
    )
    sequences: int = 0
    emitted: int = 0
    lens_ms: float = 0.0
    """Milliseconds spent on lenses: states, scoring, fetching."""


@dataclass(frozen=True, slots=True)
class MonitorStats:
    """A snapshot of a monitor's counters."""

    positions: dict[State, int]
    sequences: int
    emitted: int
    dropped: int
    """Events that fell out of the queue because it was full."""
    deferred: int
    """Positions whose walks had to wait for families (`deferred`), so that most of them have two events."""
    pending: int
    """Positions that wait now, or for one before them in their sequence."""
    blocked: int
    """How often one of them was waited for, because those kept were beyond their budget."""
    kept_peak_bytes: int
    """The most that positions which wait took from one step to the next."""
    lens_ms: float
    cache: CacheStats


class Monitor:
    """Watches a host with the lenses of one pack.

        monitor = Monitor(LensPack.from_pretrained("lens_packs/wordnet-mini"))
        with monitor.attach(model):
            model.generate(**inputs, max_new_tokens=40)
        for event in monitor.events:
            print(event.next_token, event.top(5))

    Settings are those of `MonitorConfig`, by name; a `clock` times what happens in each of the host's steps. Raises
    BudgetError where the budgets cannot hold the base, PackIntegrityError where a base family is damaged, and for rules
    ConceptNotFound, or ConfigError where a lens is not calibrated.
    """

    def __init__(
        self,
        pack: LensPack,
        config: MonitorConfig | None = None,
        *,
        clock: Clock = NO_CLOCK,
        **settings: Any,
    ) -> None:
        if config is not None and settings:
            raise TypeError("give a MonitorConfig or settings by name, not both")
        self.pack = pack
        self.config = config or MonitorConfig(**settings)
        self.clock = clock
        self.warnings = check_rules(self.config.rules, pack)
        """What there is to be warned of, a line each: rules on lenses that were not measured, or of grade F."""
        self.engine = Engine(pack, self.config, clock)
        self._reader = Reader(self.engine, clock)
        self._may_call = True
        self.events = EventQueue(self.config.queue_events)
        self._sinks: list[Sink] = []
        self._counters = Counters()
        self._batch: list[RowSequence] = []
        self._rows: list[Row] = []  # seen and not emitted yet, in order
        self._unread = UnreadRows()
        self._kept = KeptRows(self.engine, self.config.kept_budget_bytes)
        self._plan: GenerationPlan | None = None
        self._bos_token: int | None = None
        self._eos_tokens: frozenset[int] = frozenset()

    # What people call.

    def attach(self, model: torch.nn.Module, tokenizer: Any | None = None) -> Tap:
        """Watch a host: use the tap as a context manager, or `attach()` it now and `remove()` it later.

        Nothing but a notebook that shows `events` as words needs the tokenizer. Raises PackMismatch where the
        pack was made for another host, HostError where the host cannot be hooked.
        """
        check_host(self.pack, model)
        if tokenizer is not None:
            self.events.tokenizer = tokenizer
        self.know_ends(text_config(model).bos_token_id, eos_ids_of(model))
        may_stop = any(rule.action == "stop" for rule in self.config.rules)
        return Tap(model, self.pack.config.site, self, stops=self._stops if may_stop else None)

    def stream(
        self, model: torch.nn.Module, tokenizer: Any, prompt: Prompt, **generate: Any
    ) -> Generator[Event, None, None]:
        """Generate from a prompt and yield each event as it comes; see `runtime.generate.stream`."""
        self.events.tokenizer = tokenizer
        return stream(self, model, tokenizer, prompt, **generate)

    def to_pandas(self) -> Any:
        """The events in the queue as a tidy table, one row for each concept scored at each position.

        A `pandas.DataFrame`, see `runtime.frame` for its columns. Raises ExtraMissing without pandas.
        """
        return to_frame(self.events, self.pack)

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Have every event delivered to `sink` as it is emitted; returns the function that ends it."""
        self._sinks.append(sink)
        return lambda: self._sinks.remove(sink)

    def finish(self, index: int) -> None:
        """End sequence `index` of the running batch: its last events are emitted, later rows are `after_end`."""
        sequence = self._batch[index]
        self._close(sequence, None)
        sequence.ended = True
        with self._lens_time():
            self._read()
            self._kept.finish(sequence)
        self._emit_ready()

    def stats(self) -> MonitorStats:
        """The counters as they stand now."""
        counters = self._counters
        return MonitorStats(
            dict(counters.positions),
            counters.sequences,
            counters.emitted,
            self.events.dropped,
            self._kept.deferred,
            len(self._kept),
            self._kept.blocked,
            self._kept.peak_bytes,
            counters.lens_ms,
            self.engine.cache.stats(),
        )

    def close(self) -> None:
        """End the monitor's threads; idempotent. Events stay readable."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def know_ends(self, bos_token: int | None, eos_tokens: Iterable[int]) -> None:
        """Which tokens begin and end the host's sequences; `attach` asks the host, a recording says it."""
        self._bos_token = bos_token
        self._eos_tokens = frozenset(eos_tokens)

    # What the hook calls, in this order: expect, (tokens_fed, observe) once a forward, finish_run.

    def expect(self, plan: GenerationPlan | None) -> None:
        """`generate` begins with this plan, or (None) has ended."""
        self._plan = plan
        if plan is not None:
            self._eos_tokens = frozenset(plan.eos_ids)
            for sequence in self._batch:  # a run may go on from the cache of the one before
                sequence.ended = sequence.is_stopped = False

    def tokens_fed(self, token_BT: NDArray[np.int64], mask_BT: NDArray[np.bool_], begins: bool) -> None:
        """A forward begins: its first real token of a sequence is what followed that sequence's last row."""
        with self.clock.part(Component.HOOK):
            self._tokens_fed(token_BT, mask_BT, begins)
        self.clock.step("prompt" if begins else "generation")

    def _tokens_fed(self, token_BT: NDArray[np.int64], mask_BT: NDArray[np.bool_], begins: bool) -> None:
        if begins:
            self._finish_batch()
            return
        ended = False
        for sequence, tokens, mask in zip(self._batch, token_BT, mask_BT, strict=True):
            generated = self._plan is None or sequence.fed >= self._plan.prompt_length
            ended |= self._close(sequence, int(tokens[mask][0]) if mask.any() else None, generated=generated)
        if ended:
            with self._lens_time():
                self._read()
        self._emit_ready()

    def observe(self, forward: Forward) -> None:
        """The host has computed the site's rows of this forward: score them, emit what is complete."""
        with self._lens_time(), self.clock.part(Component.HOOK):
            if forward.begins:
                self._batch = [self._begin_sequence() for _ in forward.token_BT]
                self._may_call = True
            rows, at = self._see(forward)
            columns = self._unread.columns + forward.token_BT.shape[1]
            if columns < self.config.read_every and all(row.phase == "generation" for row in rows):
                # A copy, because the memory is the host's own; it stays on its device until it is read.
                self._unread.add(forward.rows_BTD.clone(), rows, at)
            else:
                self._unread.add(forward.rows_BTD, rows, at)
                self._read()
        self._emit_ready()

    def finish_run(self, sequences_BT: NDArray[np.int64] | None) -> None:
        """`generate` has ended with these full sequences (None after an exception): the last tokens are known."""
        if sequences_BT is not None and len(sequences_BT) == len(self._batch):
            for sequence, tokens in zip(self._batch, sequences_BT, strict=True):
                self._close(sequence, int(tokens[sequence.fed]) if sequence.fed < len(tokens) else None)
        self._finish_batch()
        self.clock.finish()

    # How rows become events.

    def _begin_sequence(self) -> RowSequence:
        number = self._counters.sequences
        self._counters.sequences += 1
        return self._reader.begin(number, self.config.rules, self.config.always)

    def _finish_batch(self) -> None:
        """Nothing more comes of this batch: emit whatever is left of it, complete."""
        for sequence in self._batch:
            self._close(sequence, None)
        with self._lens_time():
            self._read()
            self._kept.finish()
        self._emit_ready()
        self._rows.clear()  # what is left after an exception was never scored

    def _see(self, forward: Forward) -> tuple[list[Row], list[tuple[int, int]]]:
        """Make a row of every real token; each is followed by the next. Also their sequences and columns."""
        rows: list[Row] = []
        at: list[tuple[int, int]] = []
        prompt_phase = self._prompt_columns(forward)
        for b, (sequence, tokens, mask) in enumerate(
            zip(self._batch, forward.token_BT, forward.mask_BT, strict=True)
        ):
            in_prompt = prompt_phase(sequence.fed + np.arange(len(tokens) + 1))
            if self._plan is None:
                in_prompt[-1] = False  # the prompt is this forward, or is over
            sequence.fed += len(tokens)
            for t in np.flatnonzero(mask):
                token = int(tokens[t])
                phase: Phase = "prompt" if in_prompt[t] else "generation"
                row = Row(sequence, sequence.length, phase, token, self._state(sequence, token))
                row.predicts = not in_prompt[t + 1]
                sequence.length += 1
                self._close(sequence, token)
                sequence.last = row
                rows.append(row)
                at.append((b, int(t)))
        self._rows += rows
        return rows, at

    def _read(self) -> None:
        """Take walks on that waited, then score what was not read yet."""
        self._kept.go_on()
        if not self._unread.columns:
            return
        rows, rows_RD = self._unread.take()
        with_scores = self._reader.read(rows, rows_RD, spare=self._kept.awaited)
        for row in rows:
            self._counters.positions[row.state] += 1
        self._kept.keep([row for row in with_scores if row.walk is not None])

    def _prompt_columns(self, forward: Forward) -> Callable[[NDArray[np.int_]], NDArray[np.bool_]]:
        """Which columns of the batch are the prompt's: as the plan says, else those of the first forward."""
        if self._plan is not None:
            prompt_length = self._plan.prompt_length
            return lambda column: column < prompt_length
        return lambda column: np.full(len(column), forward.begins)

    def _state(self, sequence: RowSequence, token: int) -> State:
        """As far as it is known before the row is read."""
        if sequence.ended:
            return "after_end"
        return "bos" if sequence.length == 0 and token == self._bos_token else "ok"

    def _close(self, sequence: RowSequence, next_token: int | None, *, generated: bool = False) -> bool:
        """The token after the sequence's last row is known; returns whether it ends the sequence."""
        row, sequence.last = sequence.last, None
        if row is None:
            return False
        row.next_token, row.is_closed = next_token, True
        eos = generated and next_token in self._eos_tokens
        ends = not sequence.ended and (eos or sequence.is_stopped)
        sequence.ended |= ends
        return ends

    def _emit_ready(self) -> None:
        """Emit what has become complete, then what is read and closed, in order."""
        with self.clock.part(Component.EVENTS):
            for row in self._kept.take_complete():
                if row.is_emitted:  # else it is complete before its first event is due
                    self._emit(self._reader.event(row))
            ready = [row for row in self._rows if row.is_read and row.is_closed]
            self._rows = [row for row in self._rows if not (row.is_read and row.is_closed)]
            if self.config.prompt_events == "off":
                ready = [row for row in ready if row.phase == "generation"]
            events = [self._reader.event(row) for row in ready]
            for row, event in zip(ready, events, strict=True):
                row.is_emitted = True
                self._emit(event)
        self._call([event for event in events if event.met])

    def _call(self, events: Sequence[Event]) -> None:
        """Give these events to the functions of the rules that are met."""
        for event in events:
            for met in event.met:
                if met.rule.call is not None and self._may_call:
                    self._may_call = (
                        False  # should it raise, the events of what is left of the run are not for it
                    )
                    met.rule.call(event)
                    self._may_call = True

    def _stops(self) -> NDArray[np.bool_]:
        """[B] which sequences of the running batch a rule has ended."""
        return np.array([sequence.is_stopped for sequence in self._batch], np.bool_)

    @contextmanager
    def _lens_time(self) -> Iterator[None]:
        began_s = perf_counter()
        try:
            yield
        finally:
            self._counters.lens_ms += (perf_counter() - began_s) * 1e3

    def _emit(self, event: Event) -> None:
        self._counters.emitted += 1
        self.events.append(event)
        for sink in tuple(self._sinks):
            sink(event)


def check_host(pack: LensPack, model: torch.nn.Module) -> None:
    """Raise PackMismatch where the pack was made for another host, as `Monitor.attach` does."""
    made_for, found = pack.config.host, host_id(model)
    if found is not None and not is_same_host(found, made_for.id):
        raise PackMismatch(
            f"the pack {pack.name} was made for the host {made_for.id}, this is {found}; "
            "give the host that it was made for, or a pack made for this one"
        )
    check_fits(model, pack.config.site, made_for.hidden_size)
    if (blocks := len(blocks_of(model))) != made_for.blocks:
        raise PackMismatch(
            f"the pack {pack.name} was made for a host of {made_for.blocks} blocks, this one has "
            f"{blocks}; give the host that it was made for, or a pack made for this one"
        )
