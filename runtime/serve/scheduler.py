"""The engine's thread: many requests, one host, a step at a time. Read this first.

    loop   wait until there is something to do
           let go      of who has left, is late, or reads too slowly
           admit       who waits, clients in turn, while there are slots
           prefill     a few prompts, or a piece of one                 ─┐ rows of both
           decode      one token of everything that is generated        ─┤
           read        all rows with the lenses, in one call            ◀┘
           draw        a token for each, tell their streams
           answer      calls for scores, in one call

Requests may join and leave at any step. Nothing is held back by a timer. What one request gets does not depend on the
others, but for the last bits of the host's numbers, which differ between batch shapes. An error in a step ends the
requests that took part in it; three steps in a row that end so are the end of the engine, and everybody is told.

Shapes: B sequences of a forward, T tokens of each, D hidden size, V tokens of the vocabulary.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Condition, Thread
from time import monotonic

import torch

from lenses.errors import BudgetError, ConfigError, PromptError, ServerFull
from lenses.lens import Floats
from lenses.pack import LensPack
from lenses.text import one_line
from runtime.alarms import Alarms
from runtime.blocks import eos_ids_of, text_config
from runtime.config import MonitorConfig
from runtime.counts import CacheStats
from runtime.engine import Engine
from runtime.events import Event
from runtime.hook import LastRows
from runtime.host import Host
from runtime.monitor import check_host
from runtime.reading import Reader
from runtime.rows import Row
from runtime.rules import check_rules
from runtime.serve.asked import Asked
from runtime.serve.config import ServeConfig
from runtime.serve.generation import Generation
from runtime.serve.joined import JoinedScores
from runtime.serve.request import Finish, Request
from runtime.serve.sessions import Session, Sessions
from runtime.serve.slots import Slots
from runtime.serve.stream import Stream

_FAILURES = 3
_LEAST_PIECE = 32
"""Tokens that a forward counts as at least: one of few tokens takes about as long."""
_IDLE_S = 0.25
"""How often deadlines and leases are looked at when nothing else happens."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How the engine stands."""

    waiting: int
    """Requests that have not begun."""
    running: int
    paused: int
    """Of these, whose readers are too slow."""
    sessions: int
    parked_bytes: int
    steps: int
    tokens: int
    """Drawn since the start."""
    positions: int
    """Scored since the start."""
    last_step_s: float
    """When the last step ended, by `time.monotonic`."""
    step_ms: float
    """What it took."""
    failure: str | None
    """Why the engine has ended, if it has."""
    cache: CacheStats

    @property
    def users(self) -> int:
        """Whom it is kept for: requests, and sessions between their turns."""
        return self.waiting + self.running + self.sessions


class Scheduler:
    """Serves one host with the lenses of one pack. `submit` and its like may be called from any thread."""

    def __init__(
        self,
        host: Host,
        pack: LensPack,
        config: ServeConfig | None = None,
        monitor: MonitorConfig | None = None,
    ) -> None:
        """Raises PackMismatch, BudgetError, HostError, and ConfigError for what cannot be served."""
        check_host(pack, host.model)
        self.host, self.pack, self.config = host, pack, config or ServeConfig()
        monitor = monitor or MonitorConfig()
        if monitor.missing != "strict" or monitor.read_every != 1 or monitor.rules or monitor.always:
            raise ConfigError(
                "a server scores every position at once, and rules are each request's own; leave out deferred, "
                "read_every, rules and always"
            )
        self._lens_bytes = monitor.hot_budget_bytes + monitor.warm_budget_bytes
        self._check_memory()
        context = getattr(text_config(host.model), "max_position_embeddings", None)
        if context is not None and self.config.max_context > context:
            raise ConfigError(
                f"a context of {self.config.max_context:,} tokens is asked for, the host has {context:,}; give at most "
                "that"
            )
        self._tap = LastRows(host.model, pack.config.site)
        # The prompt's events are each request's own choice: see `Row.is_wanted`.
        self._engine = Engine(pack, replace(monitor, prompt_events="full"))
        self._asked = Asked(pack)
        self._reader = Reader(self._engine, ask=self._asked)
        self._joined = JoinedScores(pack)
        self._slots = Slots(host.model, self.config.max_sequences, self.config.max_context)
        self._owners: list[Generation | Session | None] = [None] * self.config.max_sequences
        self._live = 0
        """The first slots, whose generations take steps together."""
        self._prefilling: deque[Generation] = deque()
        self._paused: list[Generation] = []
        self._sessions = Sessions(
            self.config.max_sessions, self.config.session_lease_s, self.config.session_bytes
        )
        self._waiting: OrderedDict[str, deque[Generation]] = OrderedDict()
        self._changed = Condition()
        self._closing = False
        self._failures = 0
        self.failure: str | None = None
        self._sequences = self._steps = self._tokens = self._positions = 0
        self._last_step_s, self._step_ms = monotonic(), 0.0
        self._bos_token: int | None = text_config(host.model).bos_token_id
        self._eos_tokens = frozenset(eos_ids_of(host.model))
        self._thread = Thread(target=self._work, name="phoropter-serve", daemon=True)

    # What anybody may call.

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """End: requests that run or wait are told so; idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def submit(self, request: Request) -> Stream:
        """A request's stream; for the event loop of who reads it.

        Raises PromptError, ConfigError, ConceptNotFound; ServerFull, SessionNotFound, SessionBusy.
        """
        self._check(request)
        wishes = request.lenses
        alarms = None
        if wishes is not None and wishes.alarm_budget is not None:
            alarms = Alarms(self.pack, wishes.alarm_budget)

        def is_loud(event: Event) -> bool:
            return bool(event.met) or (alarms is not None and bool(alarms.of(event)))

        stream = Stream("block" if wishes is None else wishes.policy, is_loud, self._wake)
        with self._changed:
            if self.failure is not None or self._closing:
                raise ServerFull(f"the engine has ended: {self.failure or 'the server closes'}", 10.0)
            waiting = sum(map(len, self._waiting.values()))
            if waiting >= self.config.max_waiting:
                raise ServerFull(
                    f"{waiting} requests wait already, as many as may; try again later",
                    self._patience_s(waiting),
                )
            session = None if request.session is None else self._sessions.take(request.session)
            try:
                generation = Generation(request, stream, self.host.tokenizer, self._eos_tokens, session)
                self._check_room(generation)
            except BaseException:
                if session is not None:
                    session.is_busy = False
                raise
            self._waiting.setdefault(request.client, deque()).append(generation)
            self._changed.notify_all()
        return stream

    def score(self, states_RD: Floats) -> "Future[Floats]":
        """Logits `[R, N]` of every lens for these states, each a sequence of its own; raises ConfigError."""
        future = self._joined.ask(states_RD)
        self._wake()
        return future

    def open_session(self) -> str:
        """The id of a new session; raises ServerFull."""
        with self._changed:
            return self._sessions.open().id

    def close_session(self, id: str) -> None:
        """End a session; raises SessionNotFound, SessionBusy."""
        with self._changed:
            session = self._sessions.take(id)
            self._sessions.drop(session)
            self._changed.notify_all()

    def session_tokens(self, id: str) -> tuple[int, ...]:
        """What a session is made of so far; raises SessionNotFound."""
        with self._changed:
            return tuple(self._sessions.get(id).token_ids)

    @property
    def most_bytes(self) -> int:
        """What the engine may take beside its host and pack: keys and values, parked sessions, lenses hot and warm."""
        config = self.config
        slots = Slots.bytes_for(self.host.model, config.max_sequences, config.max_context)
        lenses = sum(map(self.pack.family_bytes, range(len(self.pack.hierarchy.families))))
        return slots + config.session_bytes + min(lenses, self._lens_bytes)

    @property
    def progress(self) -> Progress:
        """How things stand."""
        with self._changed:
            return Progress(
                waiting=sum(map(len, self._waiting.values())) + self._joined.waiting,
                running=self._live + len(self._prefilling) + len(self._paused),
                paused=len(self._paused),
                sessions=len(self._sessions),
                parked_bytes=self._sessions.parked_bytes,
                steps=self._steps,
                tokens=self._tokens,
                positions=self._positions,
                last_step_s=self._last_step_s,
                step_ms=self._step_ms,
                failure=self.failure,
                cache=self._engine.cache.stats(),
            )

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _check_memory(self) -> None:
        config = self.config
        needed = Slots.bytes_for(self.host.model, config.max_sequences, config.max_context)
        if needed > config.kv_bytes:
            fits = config.kv_bytes // Slots.bytes_for(self.host.model, 1, config.max_context)
            raise BudgetError(
                f"{config.max_sequences} sequences of {config.max_context:,} tokens may take {needed / 2**30:.1f} GiB, "
                f"the budget for keys and values is {config.kv_bytes / 2**30:.1f} GiB; give {fits} sequences, less "
                "context, or a larger budget"
            )

    def _check(self, request: Request) -> None:
        if not request.token_ids:
            raise PromptError("the prompt has no tokens; give some text to go on from")
        if request.max_new_tokens < 1:
            raise ConfigError(f"{request.max_new_tokens} new tokens are asked for; give 1 or more")
        if request.lenses is not None:
            for concept in request.lenses.track:
                self.pack.hierarchy.index(concept)
            check_rules(request.lenses.rules, self.pack)

    def _check_room(self, generation: Generation) -> None:
        tokens = len(generation.todo) + (generation.session.length if generation.session else 0)
        if tokens + generation.request.max_new_tokens > self.config.max_context:
            room = self.config.max_context - tokens
            advice = f"ask for at most {room:,} new tokens" if room > 0 else "shorten the prompt"
            raise PromptError(
                f"{tokens:,} tokens of prompt and {generation.request.max_new_tokens:,} new ones are more than the "
                f"{self.config.max_context:,} of this server; {advice}"
            )

    def _patience_s(self, waiting: int) -> float:
        return max(1.0, min(60.0, waiting / self.config.max_sequences))

    # The thread.

    def _work(self) -> None:
        try:
            with self._tap, torch.inference_mode():
                while self._wait():
                    self._step()
        except BaseException as error:
            self.failure = one_line(error)
            _log.exception("the engine has ended")
        finally:
            self._end_all()
            self._joined.close()
            self._asked.close()
            self._engine.close()

    def _wait(self) -> bool:
        """Wait until there is work; False when the engine is to end."""
        with self._changed:
            while not self._closing and not self._has_work():
                self._changed.wait(_IDLE_S)
                if self._waiting or self._paused or self._sessions.expired():
                    break  # somebody may have left, or be late
            return not self._closing

    def _has_work(self) -> bool:
        return bool(
            self._live
            or self._prefilling
            or (self._waiting and self._free_slots())
            or self._joined.waiting
            or any(one.stream.cancelled or one.stream.has_room for one in self._paused)
        )

    def _step(self) -> None:
        began_s = monotonic()
        self._let_go()
        self._admit()
        taking_part: list[Generation] = []
        try:
            self._advance(taking_part)
            self._failures = 0
        except Exception as error:
            _log.exception("a step failed")
            self._failures += 1
            for generation in taking_part:
                self._finish(generation, "error", one_line(error))
            if self._failures >= _FAILURES:
                raise
        self._joined.answer()
        with self._changed:
            self._steps += 1
            self._last_step_s = monotonic()
            self._step_ms = (self._last_step_s - began_s) * 1e3

    def _advance(self, taking_part: list[Generation]) -> None:
        """Prefill, decode, read, draw."""
        ready: list[tuple[Generation, torch.Tensor]] = []
        rows: list[Row] = []
        states: list[torch.Tensor] = []
        prompts: list[tuple[Generation, list[Row]]] = []
        for generation, tokens in self._pieces():
            taking_part.append(generation)
            logits_BV, rows_BTD = self._forward(generation.slot, [generation.todo[:tokens]])
            self._slots.advance(generation.slot)
            if seen := generation.feed(tokens, self._bos_token):
                rows += seen
                states.append(rows_BTD[0])
                prompts.append((generation, seen))
            if not generation.todo:
                self._prefilling.remove(generation)
                ready.append((generation, logits_BV[0]))
        decoding = [owner for owner in self._owners[: self._live] if isinstance(owner, Generation)]
        if decoding:
            taking_part += decoding
            logits_BV, rows_BTD = self._forward(0, [generation.todo for generation in decoding])
            for at, generation in enumerate(decoding):
                self._slots.advance(generation.slot)
                if seen := generation.feed(1, self._bos_token):
                    rows += seen
                    states.append(rows_BTD[at])
            ready += zip(decoding, logits_BV, strict=True)
        if rows:
            rows_RD = torch.cat(states).to("cpu", torch.float32).numpy()
            self._positions += len(self._reader.read(rows, rows_RD))
        for generation, seen in prompts:
            generation.tell_prompt(seen, self._reader)
        for generation, logits_V in ready:
            self._draw(generation, logits_V)

    def _pieces(self) -> list[tuple[Generation, int]]:
        """Which prompts are read in this step, and how many tokens of each: those first that have waited longest."""
        pieces: list[tuple[Generation, int]] = []
        room = self.config.prefill_tokens
        while room > 0 and len(pieces) < len(self._prefilling):
            generation = self._prefilling[0]
            self._prefilling.rotate(-1)
            tokens = min(len(generation.todo), room)
            pieces.append((generation, tokens))
            room -= max(tokens, _LEAST_PIECE)
        return pieces

    def _forward(self, first: int, token_BT: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `[B, V]` after the last tokens, fp32 on the CPU, and the site's rows `[B, T, D]`."""
        tokens = torch.tensor(token_BT, device=self.host.model.device)
        position_BT, mask = self._slots.begin(first, *tokens.shape)
        output = self.host.model(
            input_ids=tokens,
            position_ids=position_BT,
            attention_mask=mask,
            past_key_values=self._slots,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].to("cpu", torch.float32), self._tap.take_BTD()

    def _draw(self, generation: Generation, logits_V: torch.Tensor) -> None:
        was_prompt = generation.is_prompt
        room = self.config.max_context - self._slots.lengths[generation.slot]
        chunk = generation.draw(logits_V, self._reader, room)
        self._tokens += 1
        if chunk.finish is not None:
            self._leave(generation)
        elif was_prompt:
            self._join(generation)
        generation.tell(chunk)  # last: who reads that it is over may begin the next turn at once

    # Who is where.

    def _let_go(self) -> None:
        """End who has left or is late; pause who reads too slowly, and let those go on who have caught up."""
        self._expire()
        here = [owner for owner in self._owners if isinstance(owner, Generation)]
        with self._changed:
            for waiting in self._waiting.values():
                here += waiting
        for generation in here:
            if generation.stream.cancelled:
                self._finish(generation, "cancelled")
            elif generation.is_due:
                self._finish(generation, "deadline")
        for generation in list(self._paused):
            if generation.stream.has_room:
                self._paused.remove(generation)
                self._join(generation)
        for generation in [o for o in self._owners[: self._live] if isinstance(o, Generation)]:
            if generation.stream.is_full:
                self._part(generation)
                self._paused.append(generation)

    def _expire(self) -> None:
        """Free the slots of sessions that are over."""
        with self._changed:
            for session in self._sessions.expired():
                self._sessions.drop(session)
            for slot, owner in enumerate(self._owners):
                if isinstance(owner, Session) and owner.is_over:
                    self._owners[slot] = None
                    self._slots.free(slot)

    def _admit(self) -> None:
        """Give slots to who waits, clients in turn."""
        while True:
            with self._changed:
                if not self._waiting:
                    return
                client, queue = next(iter(self._waiting.items()))
                generation = queue[0]
                session = generation.session
                slot = session.slot if session is not None and session.slot >= 0 else self._free_slot()
                if slot is None:
                    return
                queue.popleft()
                del self._waiting[client]
                if queue:
                    self._waiting[client] = queue  # behind the others
                self._seat(generation, slot)

    def _free_slots(self) -> bool:
        """Whether somebody who waits can be seated."""
        heads = (queue[0].session for queue in self._waiting.values())
        has_own = any(session is not None and session.slot >= 0 for session in heads)
        return has_own or None in self._owners or self._sessions.sleepiest() is not None

    def _free_slot(self) -> int | None:
        """A free slot; where there is none, of a session that is parked for it."""
        if None in self._owners:
            return self._owners.index(None)
        session = self._sessions.sleepiest()
        if session is None:
            return None
        slot = session.slot
        self._sessions.park(session, self._slots.park(slot))
        self._owners[slot] = None
        self._slots.free(slot)
        return slot

    def _seat(self, generation: Generation, slot: int) -> None:
        generation.slot, self._owners[slot] = slot, generation
        session, wishes = generation.session, generation.request.lenses
        if session is not None and session.parked is not None:
            self._slots.resume(slot, session.parked)
            session.parked, session.parked_bytes = None, 0
        if session is not None and session.slot < 0:
            session.slot = slot
        rules, track = ((), ()) if wishes is None else (wishes.rules, wishes.track)
        fresh = self._reader.begin(self._sequences, rules, track)
        if session is not None and session.sequence is not None:
            # Its pool and positions go on; what is looked for is this turn's own.
            known, generation.sequence = session.sequence, session.sequence
            known.runs, known.asked_A, known.rules_at = fresh.runs, fresh.asked_A, fresh.rules_at
            known.is_stopped = False
        elif session is not None or wishes is not None:
            generation.sequence = fresh
            self._sequences += 1
        self._prefilling.append(generation)

    def _join(self, generation: Generation) -> None:
        """Among those that take steps together."""
        self._swap(generation.slot, self._live)
        self._live += 1

    def _part(self, generation: Generation) -> None:
        """From those that take steps together."""
        self._swap(generation.slot, self._live - 1)
        self._live -= 1

    def _swap(self, a: int, b: int) -> None:
        if a == b:
            return
        self._slots.swap(a, b)
        self._owners[a], self._owners[b] = self._owners[b], self._owners[a]
        for slot in (a, b):
            owner = self._owners[slot]
            if owner is not None:
                owner.slot = slot
            if isinstance(owner, Generation) and owner.session is not None:
                owner.session.slot = slot

    def _finish(self, generation: Generation, finish: Finish, detail: str = "") -> None:
        """End a request before its time, wherever it is."""
        self._leave(generation, is_whole=finish != "error")
        generation.tell(generation.end(finish, detail))

    def _leave(self, generation: Generation, *, is_whole: bool = True) -> None:
        """The request is over: its slot is its session's, or free; a session that is not whole is over as well."""
        if generation.slot < 0:
            self._leave_queue(generation)
            return
        if generation in self._prefilling:
            self._prefilling.remove(generation)
            is_whole = False  # half a prompt is nothing to go on from
        elif generation in self._paused:
            self._paused.remove(generation)
        elif generation.slot < self._live:
            self._part(generation)
        slot, session = generation.slot, generation.session
        generation.slot = -1
        if session is not None and is_whole:
            self._keep(session, generation, slot)
            return
        self._owners[slot] = None
        self._slots.free(slot)
        if session is not None:
            with self._changed:
                session.is_busy, session.slot = False, -1
                self._sessions.drop(session)

    def _leave_queue(self, generation: Generation) -> None:
        with self._changed:
            queue = self._waiting.get(generation.request.client)
            if queue is not None and generation in queue:
                queue.remove(generation)
                if not queue:
                    del self._waiting[generation.request.client]
            if generation.session is not None:
                generation.session.is_busy = False

    def _keep(self, session: Session, generation: Generation, slot: int) -> None:
        """What the session is made of after a turn."""
        with self._changed:
            session.token_ids += [*generation.request.token_ids, *generation.drawn]
            if not generation.todo and generation.drawn:
                session.token_ids.pop()  # the end token, which the host has not read
            session.pending = list(generation.todo)
            session.sequence, session.slot = generation.sequence, slot
            session.is_busy, session.used_s = False, monotonic()
            self._owners[slot] = session

    def _end_all(self) -> None:
        detail = self.failure or "the server closes"
        left = [owner for owner in self._owners if isinstance(owner, Generation)]
        with self._changed:
            for waiting in self._waiting.values():
                left += waiting
            self._waiting.clear()
        for generation in left:
            generation.tell(generation.end("error", detail))
