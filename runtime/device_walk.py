"""The whole walk down the hierarchy in one step on a device, without returning to the host between its levels.

    states ──▶ base ──▶ best top_k ──▶ slots of their lenses ──▶ score ──▶ best top_k ──▶ ... ──▶ ring of results
                ▲                            ▲                                                         │
                └──────── arena ◀── copy stream ◀── pinned warm pages ◀── read ◀── bring ◀── absent ───┘

What it computes is what `engine` computes with `bank` and `expansion`. A family that a position wants and that is not
hot is reported, and what lies below it is not: bring it and take the step again. Knows nothing about tokens or events.

- *Arena*: one allocation of slots that never moves, a slot for the first layer of one lens, the base in the first
  ones. So no slot is part empty and any free slots will do for a family, which pages of 4 or 8 lenses or a slot for
  the largest family cannot say (`reports/gpu.md` counts the waste). `slot_N` on the device says where each lens is.
- *Step* (`Step`): all shapes are known when it is made, and nothing is decided in Python by what is on the device, so
  it can be compiled into one graph and recorded. Lenses are gathered as `(arena[slots] * states).sum(-1)`: a compiler
  makes that one kernel that reads each weight where it lies, widened to fp32 on its way into an fp32 sum (seen in what
  inductor writes for a CPU); a matrix product would need the gathered bytes written out and read again. Uncompiled, it
  is the slow, obvious version: gather and product are in memory. Lanes without a lens all read slot 0, so they cost a
  GPU's L2 and not its memory. Scalars are `masked_fill`ed: `where` may copy one to the device, which no graph records.
- *Order*: steps, changes of `slot_N` and copies of results are on the caller's stream, families are copied on one of
  their own. A copy begins after the last step, which may still read the slots it overwrites; the next step begins
  after the copy. Both waits are the device's: the host waits only in `read`, and while a graph is recorded.

Shapes: P positions, C columns of a first layer (what lenses read of a state), S slots, N concepts, F families, H and
G the widths of the hidden layers, K families that a position opens at a level, L lanes (lenses a level), W words.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from lenses.calibration import threshold_log_odds
from lenses.errors import BudgetError, PackIntegrityError
from lenses.lens import Floats
from runtime.expansion import Expansion
from runtime.tiers import Tier

SCORED, ABSENT, FAILED, OVER_BUDGET = 0, -1, -2, -3
"""What became of a family that a position opened. `slot_N` holds ABSENT and FAILED in the place of a slot."""

_LEAST = torch.iinfo(torch.int64).min


@dataclass(frozen=True, slots=True)
class Walked:
    """What one position got; of an unfinished walk what is certain, down to the first level that lacks a family."""

    concepts: NDArray[np.int32]
    """The base, then the lenses of families in the order that they were opened."""
    logits: Floats
    opened: tuple[tuple[int, ...], ...]
    """Families opened by level, most wanted first: scored, or in one of the three below."""
    absent: tuple[int, ...]
    """Families of the last level that are not hot: `bring` them and take the step again."""
    over_budget: tuple[int, ...]
    """Families of the last level beyond `lens_budget`: the engine has to walk this position itself."""
    failed: tuple[int, ...]
    """Families that could not be read."""
    cut: int
    """Families that qualified but were beyond `top_k`."""

    @property
    def complete(self) -> bool:
        """Whether this is all that there is to score."""
        return not self.absent and not self.over_budget


@dataclass(frozen=True, slots=True)
class Finished:
    """What a strict call got: positions as complete as their families fit, and where those came from."""

    walked: list[Walked]
    origin: dict[int, Tier]
    """Where families were that were not hot when they were first wanted."""


class Step:
    """Input states `[P, D]` fp32 to packed results `[P, W]` int32, by constants, the slot table and the arena.

    Packed: base logits; then for each level the concepts of its lanes (-1 for none), their logits, the families opened
    (-1 for none), what became of each, how many were cut. Logits are fp32 seen as int32, so that one copy takes all.
    """

    def __init__(
        self, expansion: Expansion, base: Sequence[int], arena_SHC: torch.Tensor, lens_budget: int | None
    ) -> None:
        hierarchy, families = expansion.hierarchy, expansion.hierarchy.families

        def constant(values: ArrayLike) -> torch.Tensor:
            return torch.tensor(np.asarray(values), device=arena_SHC.device)

        ids = np.concatenate([np.arange(f.first, f.first + f.rows) for f in (families[b] for b in base)])
        base_level = int(hierarchy.levels[ids].max())
        frontier = np.flatnonzero(hierarchy.levels[ids] == base_level)
        self.levels: list[tuple[int, int]] = []
        """By level of the walk K and L: the most that a position opens and scores there."""
        candidates = len(frontier)
        for level in range(base_level + 1, min(expansion.max_level, hierarchy.depth - 1) + 1):
            rows = sorted((f.rows for f in families if f.level == level), reverse=True)
            opened = min(expansion.top_k, len(rows), candidates)
            candidates = min(sum(rows[:opened]), lens_budget or len(hierarchy))
            self.levels.append((opened, candidates))
        self.base_ids, self._frontier = constant(ids), constant(frontier)
        self._opens_N = constant(hierarchy.opens.astype(np.int64))
        self._order_N = constant(len(hierarchy) - 1 - hierarchy.id_rank.astype(np.int64))
        self._first_F, self._rows_F = (
            constant([f.first for f in families]),
            constant([f.rows for f in families]),
        )
        self.slot_N = constant(np.full(len(hierarchy), ABSENT))
        self._threshold = float(threshold_log_odds(expansion.load_threshold))
        self._arena_SHC = arena_SHC
        self._heads = {name: constant(array) for name, array in expansion.heads.tensors().items()}

    def __call__(self, states_PD: torch.Tensor) -> torch.Tensor:
        """Packed results of input states on the arena's device."""
        projection_CD = self._heads.get("projection")
        states_PC = states_PD if projection_CD is None else states_PD @ projection_CD.T
        # Positions innermost, so that neighbours in the grid of a compiled kernel read the same weights.
        base_NHP = (self._arena_SHC[: len(self.base_ids), :, None].float() * states_PC).sum(-1)
        logits, odds = self._finish(base_NHP.permute(2, 0, 1), self.base_ids)
        packed = [logits.view(torch.int32)]
        ids, odds = self.base_ids[self._frontier].expand(len(states_PC), -1), odds[:, self._frontier]
        for opened, lanes in self.levels:
            family_PK, taken_PK, cut_P = self._choose(ids, odds, opened)
            status_PK, rows_PK = self._find(family_PK, taken_PK, lanes)
            ids = self._lanes(family_PK, rows_PK, lanes)
            scored, safe = ids >= 0, ids.clamp(min=0)
            slot_PL = self.slot_N[safe].masked_fill(~scored, 0)
            hidden_PLH = (self._arena_SHC[slot_PL].float() * states_PC[:, None, None, :]).sum(-1)
            logits, odds = self._finish(hidden_PLH, safe)
            family_PK = family_PK.masked_fill(~taken_PK, -1)
            parts = [ids, logits.view(torch.int32), family_PK, status_PK, cut_P[:, None]]
            packed += [part.to(torch.int32) for part in parts]
        return torch.cat(packed, dim=1)

    def _finish(self, hidden: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and log-odds `[P, L]` of lenses `ids` (`[L]` or `[P, L]`), whose first layers gave `[P, L, H]`."""
        heads = self._heads
        if "scale1" in heads:
            hidden = hidden * heads["scale1"][ids]
        hidden = hidden + heads["bias1"][ids]
        if "weight2" in heads:
            hidden = (heads["weight2"][ids] * torch.relu(hidden)[:, :, None, :]).sum(-1) + heads["bias2"][ids]
            logits = (torch.relu(hidden) * heads["weight3"][ids]).sum(-1) + heads["bias3"][ids]
        else:
            logits = hidden[:, :, 0]
        return logits, logits * heads["platt_slope"][ids] + heads["platt_offset"][ids]

    def _choose(
        self, ids: torch.Tensor, odds: torch.Tensor, opened: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The families `[P, K]` of the best candidates, which of them are taken, and how many `[P]` were cut.

        `topk` says nothing about ties, so it is given whole numbers that have none: the bits of the log-odds, turned so
        that they order as the numbers do, and below them the place of the concept's id.
        """
        safe = ids.clamp(min=0)
        qualified = (ids >= 0) & (self._opens_N[safe] >= 0) & (odds >= self._threshold)
        bits = odds.masked_fill(odds == 0, 0.0).view(torch.int32)  # -0.0 ties with 0.0
        ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        key = (ordered.to(torch.int64) << 32) + self._order_N[safe]
        best = key.masked_fill(~qualified, _LEAST).topk(opened, dim=1)
        family_PK = self._opens_N[safe.gather(1, best.indices)].clamp(min=0)
        return family_PK, best.values > _LEAST, (qualified.sum(1) - opened).clamp(min=0)

    def _find(
        self, family_PK: torch.Tensor, taken_PK: torch.Tensor, lanes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What becomes of each family, and how many lenses `[P, K]` are scored for it: all of them or none."""
        slot_PK = self.slot_N[self._first_F[family_PK]]
        rows_PK = self._rows_F[family_PK].masked_fill(~taken_PK | (slot_PK < 0), 0)
        over = (rows_PK.cumsum(1) > lanes) & (rows_PK > 0)
        return slot_PK.clamp(max=0).masked_fill(over, OVER_BUDGET), rows_PK.masked_fill(over, 0)

    def _lanes(self, family_PK: torch.Tensor, rows_PK: torch.Tensor, lanes: int) -> torch.Tensor:
        """Concepts `[P, L]` of the families' lenses side by side, -1 in lanes that are left."""
        end_PK = rows_PK.cumsum(1)
        lane_L = torch.arange(lanes, device=rows_PK.device)
        which_PL = (end_PK[:, None, :] <= lane_L[:, None]).sum(-1)
        within = which_PL.clamp(max=rows_PK.shape[1] - 1)
        begin_PK = self._first_F[family_PK] - (end_PK - rows_PK)
        return (begin_PK.gather(1, within) + lane_L).masked_fill(which_PL > within, -1)


class Pages:
    """Families in one allocation `[S, H, C]`, a slot a lens, wherever slots are free; knows which were used last."""

    def __init__(self, lenses_SHC: torch.Tensor, taken: int = 0) -> None:
        self._lenses_SHC = lenses_SHC
        self._free = list(range(len(lenses_SHC) - 1, taken - 1, -1))
        self._slots: dict[int, list[int]] = {}

    def __contains__(self, family: int) -> bool:
        return family in self._slots

    def use(self, family: int) -> list[torch.Tensor]:
        """The lenses `[H, C]` of a family that is here, now the most recently used."""
        slots = self._slots[family] = self._slots.pop(family)
        return [self._lenses_SHC[slot] for slot in slots]

    def make_room(self, rows: int, spare: Container[int]) -> list[int] | None:
        """Drop the families used longest ago, none of `spare`, until `rows` slots are free; None if it cannot be."""
        victims, free = [], len(self._free)
        for family, slots in self._slots.items():
            if free >= rows:
                break
            if family not in spare:
                victims.append(family)
                free += len(slots)
        if free < rows:
            return None
        for family in victims:
            self._free += self._slots.pop(family)
        return victims

    def put(self, family: int, lenses: Sequence[torch.Tensor]) -> list[int]:
        """Copy a family's lenses into slots that `make_room` has freed; it is here once all copies have begun."""
        slots = self._free[-len(lenses) :]
        for slot, lens_HC in zip(slots, lenses, strict=True):
            self._lenses_SHC[slot].copy_(lens_HC, non_blocking=True)
        del self._free[-len(lenses) :]
        self._slots[family] = slots
        return slots


class DeviceWalk:
    """The step, its arena and its results; for one thread, whose current stream stays the same.

    `read(family)` gives a first layer `[rows * H, C]` of `dtype` in host memory, or raises PackIntegrityError or
    OSError. The arena holds the base and `hot_lenses` more, pinned memory `warm_lenses`. A step takes up to `positions`
    states; a level of a position scores up to `lens_budget` lenses (None: as many as `top_k` families can have).
    `results` steps may wait to be read. Raises BudgetError where the largest family would never fit.
    """

    def __init__(
        self,
        read: Callable[[int], torch.Tensor],
        expansion: Expansion,
        base: Sequence[int],
        *,
        columns: int,
        dtype: torch.dtype,
        device: torch.device | str,
        hot_lenses: int,
        warm_lenses: int,
        positions: int = 1,
        lens_budget: int | None = None,
        results: int = 8,
    ) -> None:
        self._families, heads = expansion.hierarchy.families, expansion.heads.tensors()
        largest = max((f.rows for f in self._families if f.index not in base), default=0)
        if min(hot_lenses, largest if lens_budget is None else lens_budget) < largest:
            raise BudgetError(
                f"room for {hot_lenses} hot lenses, and {'all' if lens_budget is None else lens_budget} a level: "
                f"expected at least {largest}, as the largest family has; give more"
            )
        self._read = read
        self._streams = _Streams(torch.device(device))
        pinned, shape = self._streams.pins_memory, (heads["bias1"].shape[1], columns)
        base_rows = sum(self._families[family].rows for family in base)
        # Zeros, not empty: lanes without a lens read a slot too.
        arena_SHC = torch.zeros((base_rows + hot_lenses, *shape), dtype=dtype, device=device)
        warm_SHC = torch.zeros((warm_lenses, *shape), dtype=dtype, pin_memory=pinned)
        self._hot, self._warm = Pages(arena_SHC, base_rows), Pages(warm_SHC)
        start = 0
        for family in base:
            stop = start + self._families[family].rows
            arena_SHC[start:stop] = read(family).view(-1, *shape)
            start = stop
        self.step = Step(expansion, base, arena_SHC, lens_budget)
        self._base_ids = self.step.base_ids.cpu().numpy().astype(np.int32)
        words = base_rows + sum(2 * opened + 2 * lanes + 1 for opened, lanes in self.step.levels)
        hidden_size = heads["projection"].shape[1] if "projection" in heads else columns
        self.states_PD = torch.zeros((positions, hidden_size), device=device)
        """What a step reads; at the same address for ever."""
        self.packed_PW = torch.zeros((positions, words), dtype=torch.int32, device=device)
        """What a step writes; at the same address for ever."""
        # A place in the ring is used again only after its result was read; so the table beside it is free then too.
        self._ring = torch.zeros((results, positions, words), dtype=torch.int32, pin_memory=pinned)
        self._tables = torch.zeros((results, len(self.step.slot_N)), dtype=torch.int64, pin_memory=pinned)
        self._waiting: dict[int, tuple[_Event, int]] = {}
        self._begun = 0
        self._slot_N = np.full(len(self.step.slot_N), ABSENT)
        self._slots_changed = False
        self.quarantined: dict[int, str] = {}
        """Families that could not be read, with the reason."""
        self.counts: Counter[str] = Counter()
        """`steps`, each with one copy to the host; of families `reads`, `promotions` to hot, `evictions` from it."""
        self._leaving: list[tuple[_Event, int]] = []
        self._copied: _Event = None
        self._run: Callable[[], None] = lambda: self._step_with(self.step)
        self._last = self._streams.mark()

    def capture(self, *, compiled: bool = True) -> None:
        """From now on replay the step as one CUDA graph, of compiled kernels unless told otherwise.

        A CPU has no such graphs: steps go on through the same buffers as before.
        """
        if self._streams.pins_memory:
            step = torch.compile(self.step, fullgraph=True, dynamic=False) if compiled else self.step
            self._run = self._streams.capture(lambda: self._step_with(step))
            self._last = self._streams.mark()

    def submit(self, states_PD: torch.Tensor) -> int:
        """Begin a step for states `[up to P, D]`; returns the number by which `read` gives what came out."""
        place = self._begun % len(self._ring)
        if self._begun - len(self._ring) in self._waiting:
            raise RuntimeError(f"all {len(self._ring)} results wait to be read: read the first of them")
        if self._slots_changed:
            self._tables[place] = torch.from_numpy(self._slot_N)
            self._streams.follow(self._copied)
            self.step.slot_N.copy_(self._tables[place], non_blocking=True)
            self._slots_changed = False
        self.states_PD[: len(states_PD)].copy_(states_PD, non_blocking=True)
        self._run()
        self._ring[place].copy_(self.packed_PW, non_blocking=True)  # the device-to-host copy: one a step
        self._last = self._streams.mark()
        self._waiting[self._begun] = self._last, len(states_PD)
        self._begun += 1
        self.counts["steps"] += 1
        return self._begun - 1

    def ready(self, step: int) -> bool:
        """Whether `read(step)` would not wait."""
        return self._streams.passed(self._waiting[step][0])

    def read(self, step: int) -> list[Walked]:
        """What each position of a step got, given once; waits for the step where it must."""
        event, positions = self._waiting.pop(step)
        self._streams.wait(event)
        walked = [self._unpack(row_W) for row_W in self._ring[step % len(self._ring), :positions].numpy()]
        for family in chain.from_iterable(chain.from_iterable(one.opened for one in walked)):
            for pages in (self._hot, self._warm):
                if family in pages:
                    pages.use(family)
        return walked

    def bring(self, families: Iterable[int], *, spare: Iterable[int] = ()) -> dict[int, Tier]:
        """Make families hot for the next step, most wanted first; returns where each was that was not hot.

        Ends at the first that has no room beside the others and those of `spare`. One that cannot be read is
        quarantined, for good. Waits for reading and for no copy.
        """
        wanted, found = list(dict.fromkeys(families)), dict[int, Tier]()
        spared = {*wanted, *spare}
        self._leaving = [one for one in self._leaving if not self._streams.passed(one[0])]
        for family in wanted:
            if family in self._hot or family in self.quarantined:
                continue
            victims = self._hot.make_room(self._families[family].rows, spared)
            if victims is None:
                break
            for victim in victims:
                self._place(victim, ABSENT)
            self.counts["evictions"] += len(victims)
            tier: Tier = "warm" if family in self._warm else "cold"
            try:
                lenses = self._host(family)
            except (PackIntegrityError, OSError) as error:
                self.quarantined[family] = str(error)
                self._place(family, FAILED)
                continue
            with self._streams.copying(after=self._last):
                self._place(family, self._hot.put(family, lenses))
                self._copied = self._streams.mark()
            self._leaving.append((self._copied, family))
            self.counts["promotions"] += 1
            found[family] = tier
        return found

    def score(self, states_PD: torch.Tensor) -> Finished:
        """Walk every position to its end: step, bring what is absent, step again.

        A position stays incomplete where `lens_budget` is too small for it, or the arena for all positions together.
        """
        origin: dict[int, Tier] = {}
        while True:
            walked = self.read(self.submit(states_PD))
            absent = dict.fromkeys(chain.from_iterable(one.absent for one in walked))
            opened = chain.from_iterable(chain.from_iterable(one.opened for one in walked))
            found = self.bring(absent, spare=opened)
            origin |= found
            if not found and not absent.keys() & self.quarantined.keys():
                return Finished(walked, origin)

    def _step_with(self, step: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.packed_PW.copy_(step(self.states_PD))

    def _place(self, family: int, where: int | list[int]) -> None:
        """Say where a family's lenses are; the device learns it with the next step, all at once."""
        one = self._families[family]
        self._slot_N[one.first : one.first + one.rows] = where
        self._slots_changed = True

    def _host(self, family: int) -> Sequence[torch.Tensor]:
        """A family's lenses `[H, C]` in pinned memory; where that has no room, as they were read."""
        if family not in self._warm:
            lenses = self._read(family).chunk(self._families[family].rows)
            self.counts["reads"] += 1
            leaving = {index for _, index in self._leaving}  # copies under way still read their pages
            if self._warm.make_room(len(lenses), leaving) is None:
                return lenses
            self._warm.put(family, lenses)
        return self._warm.use(family)

    def _unpack(self, row_W: NDArray[np.int32]) -> Walked:
        at = len(self._base_ids)
        concepts, logits = [self._base_ids], [row_W[:at].view(np.float32)]
        opened: list[tuple[int, ...]] = []
        became: dict[int, list[int]] = {SCORED: [], ABSENT: [], FAILED: [], OVER_BUDGET: []}
        cut = 0
        for most, lanes in self.step.levels:
            ids, scores = row_W[at : at + lanes], row_W[at + lanes : (at := at + 2 * lanes)]
            families, status = row_W[at : at + most], row_W[at + most : (at := at + 2 * most)]
            cut, at = cut + int(row_W[at]), at + 1
            concepts.append(ids[ids >= 0])
            logits.append(scores.view(np.float32)[ids >= 0])
            taken = families[families >= 0].tolist()
            if not taken:
                break
            opened.append(tuple(taken))
            for family, state in zip(taken, status.tolist(), strict=False):
                became[state].append(family)
            if became[ABSENT] or became[OVER_BUDGET]:
                break  # which families come next depends on these
        return Walked(
            np.concatenate(concepts),
            np.concatenate(logits),
            tuple(opened),
            absent=tuple(became[ABSENT]),
            over_budget=tuple(became[OVER_BUDGET]),
            failed=tuple(became[FAILED]),
            cut=cut,
        )


_Event = torch.cuda.Event | None
"""None on a CPU, where a call returns when its work is done."""


class _Streams:
    """Every call that only CUDA has; on a CPU there is never anything to wait for."""

    def __init__(self, device: torch.device) -> None:
        self.pins_memory = device.type == "cuda"
        self._device = device
        self._copies = torch.cuda.Stream(device) if self.pins_memory else None  # type: ignore[no-untyped-call]

    def mark(self) -> _Event:
        """An event that passes when the current stream has come this far."""
        return torch.cuda.current_stream(self._device).record_event() if self.pins_memory else None

    def passed(self, event: _Event) -> bool:
        return event is None or bool(event.query())  # type: ignore[no-untyped-call]

    def wait(self, event: _Event) -> None:
        """The host waits."""
        if event is not None:
            event.synchronize()

    def follow(self, event: _Event) -> None:
        """The current stream waits, the host does not."""
        if event is not None:
            torch.cuda.current_stream(self._device).wait_event(event)

    @contextmanager
    def copying(self, *, after: _Event) -> Iterator[None]:
        """Work on the stream of copies, after an event of another."""
        if self._copies is None:
            yield
        else:
            with torch.cuda.stream(self._copies):
                self.follow(after)
                yield

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """The step as a graph to replay; compiled and warm before it is recorded."""
        aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(3):
                step()
        torch.cuda.current_stream(self._device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay
