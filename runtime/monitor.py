"""The monitor: a host's rows in, events out. What people hold in their hands.

It takes what the hook saw, keeps track of the sequences of the running batch (positions, phase, pool, end), makes
input states, has the engine score them, and emits one event a position. An event is complete once the token after its
row is known: for a row of the prompt at once, for the last row when the next forward begins or generation ends. So
the events of a word are there before the host begins to work on the next one.

Knows nothing about module hooks (see `hook`), tiers, or how events are shown.

Shapes: B sequences of the running batch, T rows of this forward, D hidden size, P rows that are scored.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lenses.errors import PackMismatch
from lenses.pack import LensPack
from lenses.state import Floats, Pool, normalise
from runtime.blocks import blocks_of, check_fits, eos_ids_of, host_id, is_same_host, text_config
from runtime.cache import CacheStats
from runtime.config import MonitorConfig
from runtime.engine import Engine, Scores
from runtime.events import Coverage, Event, EventQueue, Phase, Run, Sink, State
from runtime.generate import Prompt, stream
from runtime.hook import Forward, Tap
from runtime.plan import GenerationPlan
from runtime.table import to_frame

_NOT_SCORED = Coverage(expected=0, scored=0, pending=0, failed=0, cut=0)


@dataclass(slots=True)
class _Row:
    """One position between being seen and being emitted."""

    sequence: "_Sequence"
    position: int
    phase: Phase
    token: int
    state: State
    scores: Scores | None = None
    step_ms: float = 0.0
    next_token: int | None = None


@dataclass(slots=True)
class _Sequence:
    """One sequence of the running batch."""

    number: int
    pool: Pool
    length: int = 0
    fed: int = 0
    """Columns of the batch that have gone by, padding included."""
    ended: bool = False
    last: _Row | None = None
    """The row whose next token is not known yet."""


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
    lens_ms: float
    cache: CacheStats


class Monitor:
    """Watches a host with the lenses of one pack.

        monitor = Monitor(LensPack.from_pretrained("lens_packs/wordnet-mini"))
        with monitor.attach(model):
            model.generate(**inputs, max_new_tokens=40)
        for event in monitor.events:
            print(event.next_token, event.top(5))

    Settings are those of `MonitorConfig`, by name. Raises BudgetError where the budgets cannot hold the base, and
    PackIntegrityError where a base family is damaged.
    """

    def __init__(self, pack: LensPack, config: MonitorConfig | None = None, **settings: Any) -> None:
        if config is not None and settings:
            raise TypeError("give a MonitorConfig or settings by name, not both")
        self.pack = pack
        self.config = config or MonitorConfig(**settings)
        self.engine = Engine(pack, self.config)
        self.events = EventQueue(self.config.queue_events)
        self._sinks: list[Sink] = []
        self._counters = Counters()
        self._batch: list[_Sequence] = []
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
        config = text_config(model)
        self._bos_token = config.bos_token_id
        self._eos_tokens = frozenset(eos_ids_of(model))
        return Tap(model, self.pack.config.site, self)

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
        """End sequence `index` of the running batch: its last event is emitted, later rows are `after_end`."""
        sequence = self._batch[index]
        self._complete(sequence, None)
        sequence.ended = True

    def stats(self) -> MonitorStats:
        """The counters as they stand now."""
        counters = self._counters
        return MonitorStats(
            dict(counters.positions),
            counters.sequences,
            counters.emitted,
            self.events.dropped,
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

    # What the hook calls, in this order: expect, (tokens_fed, observe) once a forward, finish_run.

    def expect(self, plan: GenerationPlan | None) -> None:
        """`generate` begins with this plan, or (None) has ended."""
        self._plan = plan
        if plan is not None:
            self._eos_tokens = frozenset(plan.eos_ids)
            for sequence in self._batch:  # a run may go on from the cache of the one before
                sequence.ended = False

    def tokens_fed(self, token_BT: NDArray[np.int64], mask_BT: NDArray[np.bool_], begins: bool) -> None:
        """A forward begins: its first real token of a sequence is what followed that sequence's last row."""
        if begins:
            self._complete_batch()
            return
        for sequence, tokens, mask in zip(self._batch, token_BT, mask_BT, strict=True):
            generated = self._plan is None or sequence.fed >= self._plan.prompt_length
            self._complete(sequence, int(tokens[mask][0]) if mask.any() else None, generated=generated)

    def observe(self, forward: Forward) -> None:
        """The host has computed the site's rows of this forward: score them, emit what is complete."""
        started = perf_counter()
        if forward.begins:
            self._batch = [self._begin_sequence() for _ in forward.token_BT]
        rows_BTD = forward.rows_BTD.to(device="cpu", dtype=torch.float32).numpy()  # the device-to-host copy
        rows, states = self._take_in(forward, rows_BTD)
        self._score([row for row in rows if row.state == "ok"], states)
        step_ms = (perf_counter() - started) * 1e3
        self._counters.lens_ms += step_ms
        scored = sum(row.scores is not None for row in rows)
        for row in rows:
            row.step_ms = step_ms / scored if row.scores is not None else 0.0
            self._complete(row.sequence, row.token)
            row.sequence.last = row

    def finish_run(self, sequences_BT: NDArray[np.int64] | None) -> None:
        """`generate` has ended with these full sequences (None after an exception): the last tokens are known."""
        if sequences_BT is not None and len(sequences_BT) == len(self._batch):
            for sequence, tokens in zip(self._batch, sequences_BT, strict=True):
                self._complete(sequence, int(tokens[sequence.fed]) if sequence.fed < len(tokens) else None)
        self._complete_batch()

    # How rows become events.

    def _begin_sequence(self) -> _Sequence:
        number = self._counters.sequences
        self._counters.sequences += 1
        return _Sequence(number, Pool(self.pack.config.input))

    def _complete_batch(self) -> None:
        for sequence in self._batch:
            self._complete(sequence, None)

    def _take_in(self, forward: Forward, rows_BTD: Floats) -> tuple[list[_Row], Floats]:
        """Make a row of every real token, and input states `[P, D]` of those that are `ok`."""
        rows: list[_Row] = []
        states: list[Floats] = []
        prompt_phase = self._prompt_columns(forward)
        for sequence, tokens, mask, rows_TD in zip(
            self._batch, forward.token_BT, forward.mask_BT, rows_BTD, strict=True
        ):
            in_prompt = prompt_phase(sequence.fed + np.arange(len(tokens)))
            sequence.fed += len(tokens)
            finite = np.isfinite(rows_TD).all(axis=1)
            normalised = normalise(np.where(finite[:, None], rows_TD, np.float32(0)), self.pack.config.input)
            for t in np.flatnonzero(mask):
                token = int(tokens[t])
                state = self._state(sequence, token, bool(finite[t]))
                phase: Phase = "prompt" if in_prompt[t] else "generation"
                rows.append(_Row(sequence, sequence.length, phase, token, state))
                sequence.length += 1
                self._counters.positions[state] += 1
                if state == "ok":
                    states.append(sequence.pool.push(normalised[t]))
        return rows, np.stack(states) if states else np.empty((0, rows_BTD.shape[2]), np.float32)

    def _prompt_columns(self, forward: Forward) -> Callable[[NDArray[np.int_]], NDArray[np.bool_]]:
        """Which columns of the batch are the prompt's: as the plan says, else those of the first forward."""
        if self._plan is not None:
            prompt_length = self._plan.prompt_length
            return lambda column: column < prompt_length
        return lambda column: np.full(len(column), forward.begins)

    def _state(self, sequence: _Sequence, token: int, finite: bool) -> State:
        if sequence.ended:
            return "after_end"
        if sequence.length == 0 and token == self._bos_token:
            return "bos"
        return "ok" if finite else "non_finite"

    def _score(self, rows: Sequence[_Row], states_PD: Floats) -> None:
        """Score the rows that are `ok`, as the policy for prompts and for generation says."""
        prompt = [i for i, row in enumerate(rows) if row.phase == "prompt"]
        generation = [i for i, row in enumerate(rows) if row.phase == "generation"]
        if generation:
            self._keep(rows, generation, self.engine.score(states_PD[generation], "generation"))
        if not prompt:
            return
        prewarm, events = self.config.prewarm, self.config.prompt_events
        if prewarm or events == "full":
            self._keep(rows, prompt, self.engine.score(states_PD[prompt], "prompt", read_ahead=prewarm))
        if events == "base":
            self._keep(rows, prompt, self.engine.score_base(states_PD[prompt]))

    @staticmethod
    def _keep(rows: Sequence[_Row], at: list[int], scores: list[Scores]) -> None:
        for i, scored in zip(at, scores, strict=True):
            rows[i].scores = scored

    def _complete(self, sequence: _Sequence, next_token: int | None, *, generated: bool = False) -> None:
        """The token after the sequence's last row is known: emit that row's event."""
        row, sequence.last = sequence.last, None
        if row is None:
            return
        row.next_token = next_token
        if row.phase == "generation" or self.config.prompt_events != "off":
            self._emit(self._event(row))
        if generated and next_token in self._eos_tokens:
            sequence.ended = True

    def _event(self, row: _Row) -> Event:
        none = np.empty(0, np.int32), np.empty(0, np.float32)
        concepts, logits = none if row.scores is None else row.scores.ordered()
        coverage = _NOT_SCORED if row.scores is None else row.scores.coverage
        if row.state == "non_finite":
            base = self.engine.base_count
            coverage = Coverage(expected=base, scored=0, pending=0, failed=base, cut=0)
        origins = {"hot": 0, "warm": 0, "cold": 0} if row.scores is None else row.scores.origins
        failed = () if row.scores is None else tuple(self._parent_of(f) for f in sorted(row.scores.failed))
        return Event(
            sequence=row.sequence.number,
            position=row.position,
            phase=row.phase,
            token=row.token,
            next_token=row.next_token,
            state=row.state,
            scored=concepts,
            logits=logits,
            coverage=coverage,
            failed=failed,
            run=Run(origins["hot"], origins["warm"], origins["cold"], row.step_ms),
            pack=self.pack,
        )

    def _parent_of(self, family: int) -> str:
        parent = self.pack.hierarchy.families[family].parent
        return "" if parent is None else self.pack.hierarchy.concepts[parent].id

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
            f"the pack {pack.path.name} was made for the host {made_for.id}, this is {found}; "
            "give the host that it was made for, or a pack made for this one"
        )
    check_fits(model, pack.config.site, made_for.hidden_size)
    if (blocks := len(blocks_of(model))) != made_for.blocks:
        raise PackMismatch(
            f"the pack {pack.path.name} was made for a host of {made_for.blocks} blocks, this one has "
            f"{blocks}; give the host that it was made for, or a pack made for this one"
        )
