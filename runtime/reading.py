"""From rows to what is said of them: input states, scores, rules, events. Whoever knows which row is whose uses this.

    rows_RD ──▶ normalise ──▶ pool of the row's sequence ──▶ engine ──▶ rules of the sequence ──▶ event

Rows of one sequence come in order; rows of many may come together, and are scored in one call. Knows nothing about
how rows are caught, or when an event is due.

Shapes: R rows, P rows that are scored, D hidden size, A concepts that a sequence asks for.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np

from lenses.lens import Floats
from lenses.state import Pool, normalise
from runtime.clock import NO_CLOCK, Clock, Component
from runtime.engine import Engine
from runtime.events import Coverage, Event, Phase, Run, scores_of
from runtime.rows import Row
from runtime.rows import Sequence as RowSequence
from runtime.rules import Met, Rule, Runs

_NOT_SCORED = Coverage(expected=0, scored=0, pending=0, failed=0, cut=0)


class Reader:
    """Reads rows with an engine.

    `ask(rows, states_PD)` scores what sequences ask for themselves, into `Scores.asked_A`; without it they are the
    engine's own `asked`, which are there.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock = NO_CLOCK,
        ask: Callable[[Sequence[Row], Floats], None] | None = None,
    ) -> None:
        self._engine, self._clock, self._ask = engine, clock, ask
        self._pack, self._config = engine.pack, engine.config

    def begin(self, number: int, rules: Sequence[Rule] = (), track: Sequence[str] = ()) -> RowSequence:
        """A sequence that has read nothing yet, with its rules and the concepts that are scored at every row of it."""
        asked = list(dict.fromkeys([*track, *(rule.concept for rule in rules)]))
        index = self._pack.hierarchy.index
        return RowSequence(
            number,
            Pool(self._pack.config.input),
            Runs(rules),
            asked_A=np.array([index(concept) for concept in asked], np.int32),
            rules_at=[asked.index(rule.concept) for rule in rules],
        )

    def read(self, rows: Sequence[Row], rows_RD: Floats, spare: Collection[int] = ()) -> list[Row]:
        """Score rows `[R, D]` (fp32) and apply their sequences' rules; returns those that have scores.

        Families in `spare` are not pushed out of memory by reads that nobody waits for.
        """
        began_s = perf_counter()
        with self._clock.part(Component.STATES):
            scored, states_PD = self._input_states(rows, rows_RD)
        self._score(scored, states_PD, spare)
        if self._ask is not None:
            self._ask(scored, states_PD)
        self._apply_rules(rows)
        step_ms = (perf_counter() - began_s) * 1e3
        with_scores = [row for row in rows if row.scores is not None]
        for row in with_scores:
            row.step_ms = step_ms / len(with_scores)
        for row in rows:
            row.is_read = True
        return with_scores

    def _input_states(self, rows: Sequence[Row], rows_RD: Floats) -> tuple[list[Row], Floats]:
        """The rows that are to be scored and their input states `[P, D]`; a row that is not finite is in no pool."""
        finite_R = np.asarray(np.isfinite(rows_RD).all(axis=1))
        normalised_RD = normalise(
            np.where(finite_R[:, None], rows_RD, np.float32(0)), self._pack.config.input
        )
        scored: list[Row] = []
        states: list[Floats] = []
        for row, is_finite, normalised_D in zip(rows, finite_R, normalised_RD, strict=True):
            if row.state == "ok" and not is_finite:
                row.state = "non_finite"
            if row.state == "ok":
                state_D = row.sequence.pool.push(normalised_D)
                if row.is_wanted:
                    scored.append(row)
                    states.append(state_D)
        return scored, np.stack(states) if states else np.empty((0, rows_RD.shape[1]), np.float32)

    def _score(self, rows: Sequence[Row], states_PD: Floats, spare: Collection[int]) -> None:
        """Score the rows that are `ok`, as the policy for prompts and for generation says."""
        prompt = [i for i, row in enumerate(rows) if row.phase == "prompt"]
        generation = [i for i, row in enumerate(rows) if row.phase == "generation"]
        if generation:
            self._walk([rows[i] for i in generation], states_PD[generation], "generation", spare)
        if not prompt:
            return
        prewarm, events = self._config.prewarm, self._config.prompt_events
        prompt_rows = [rows[i] for i in prompt]
        if prewarm or events == "full":
            self._walk(prompt_rows, states_PD[prompt], "prompt", spare, read_ahead=prewarm)
        if events != "full":  # that walk was for the tiers alone
            scores = self._engine.score_base(states_PD[prompt]) if events == "base" else [None] * len(prompt)
            for row, scored in zip(prompt_rows, scores, strict=True):
                row.scores, row.walk = scored, None

    def _apply_rules(self, rows: Sequence[Row]) -> None:
        """Say at each of these rows what was asked of it and which rules are met, sequence by sequence in order."""
        for row in rows:
            if not len(row.sequence.asked_A):
                continue
            runs = row.sequence.runs
            if row.state == "non_finite":
                runs.end()
            if row.scores is None:
                continue
            row.asked = scores_of(self._pack, row.sequence.asked_A, row.scores.asked_A)
            row.met = runs.push([row.asked[at].probability for at in row.sequence.rules_at])
            if row.predicts and not row.sequence.is_stopped:
                row.met = tuple(_stopping(met) for met in row.met)
                row.sequence.is_stopped = any(met.stops for met in row.met)

    def _walk(
        self,
        rows: Sequence[Row],
        states_PD: Floats,
        phase: Phase,
        spare: Collection[int],
        *,
        read_ahead: bool = False,
    ) -> None:
        """Score rows of one phase as far as they come without waiting, where waiting is not wanted."""
        walks = self._engine.begin(states_PD, phase)
        self._engine.go_on(
            walks,
            wait=self._config.missing == "strict",
            read_ahead=read_ahead,
            spare=spare,
        )
        for row, walk in zip(rows, walks, strict=True):
            row.scores, row.walk = walk.scores, None if walk.is_complete else walk

    def event(self, row: Row) -> Event:
        """What was seen at a row that was read, as far as it is known."""
        none = np.empty(0, np.int32), np.empty(0, np.float32)
        concepts, logits = none if row.scores is None else row.scores.ordered()
        coverage = _NOT_SCORED if row.scores is None else row.scores.coverage
        if row.state == "non_finite":
            base = self._engine.base_count
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
            run=Run(
                origins["hot"], origins["warm"], origins["cold"], row.step_ms, revision=int(row.is_emitted)
            ),
            pack=self._pack,
            asked=row.asked,
            met=row.met,
        )

    def _parent_of(self, family: int) -> str:
        parent = self._pack.hierarchy.families[family].parent
        return "" if parent is None else self._pack.hierarchy.concepts[parent].id


def _stopping(met: Met) -> Met:
    return replace(met, stops=met.rule.action == "stop")
