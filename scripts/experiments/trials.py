"""Replays that take turns, round by round, each compared with the reference of its kind.

A *kind* is what decides the contents: walk and prompt policy. Trials of one kind must see the same, bit for bit; the
baseline, which computes in another order, within 1e-5 of the largest logit. The reference of each kind is a replay with
everything at its plainest, made first and not timed. A replay whose rows are off by 1e-3 must be seen to differ.

Every timed run begins cold: a new monitor (or baseline), and the files that it reads dropped from the page cache.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from baseline.files import export_baseline, families_scored
from baseline.system import OneAtATime
from measuring.disk import cached_pages, evict
from measuring.floor import MemoryFloor
from measuring.rounds import Variant
from measuring.turns import turns
from profiling.runs import Differs
from rich.progress import Progress

from experiments.recording import Recording
from experiments.replay import Replayed, largest_difference, replay, replay_baseline, started_ms
from experiments.subject import Subject, pack_files
from lenses.pack import LensPack
from runtime.clock import Clock
from runtime.config import MonitorConfig
from runtime.monitor import Monitor

BASELINE_AGREES = 1e-5
"""Of the largest logit, or of 1."""
OFF_BY = 1e-3
"""What the negative control adds to every row."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A monitor of these settings."""

    name: str
    settings: Mapping[str, Any]
    everything_first: bool = False
    """Read the whole pack into the hot tier at the start."""
    reopens: bool = False
    """Open the pack anew for every run, so that its bytes are checked again, as a program that starts does."""

    @property
    def kind(self) -> tuple[object, ...]:
        """What decides the contents."""
        return _kind(self.settings)


@dataclass(frozen=True, slots=True)
class OneByOne:
    """The baseline, with the walk of these settings."""

    name: str
    settings: Mapping[str, Any]
    max_loaded_lenses: int | None
    prewarm: bool = False

    @property
    def kind(self) -> tuple[object, ...]:
        """What decides the contents."""
        return _kind(self.settings)


Trial = Watched | OneByOne


@dataclass(slots=True)
class Bench:
    """Where trials run: what they are about, the recordings, where the baseline's files are."""

    subject: Subject
    recordings: Sequence[Recording]
    files: Path
    """The baseline's directory of per-lens files."""
    references: dict[tuple[object, ...], Replayed] = field(default_factory=dict)
    pages_left: int = 0
    """The most pages that stayed in the page cache when files were dropped from it."""

    def prepare(self, trials: Sequence[Trial], progress: Progress) -> None:
        """Make the references, see that the control differs, and write the files that the baseline needs."""
        plain = [Watched("reference", _plain(trial.settings)) for trial in trials]
        kinds = {reference.kind: reference for reference in plain}
        task = progress.add_task("references", total=len(kinds) + 1)
        for kind, reference in kinds.items():
            self.references[kind] = self.run(reference)
            progress.advance(task)
        self._control(plain[0])
        progress.advance(task)
        for trial in trials:
            if isinstance(trial, OneByOne):
                self._export(trial)

    def measure(
        self,
        trials: Sequence[Trial],
        *,
        rounds: int,
        warm_up: int,
        seed: int,
        title: str,
        progress: Progress,
        floor: MemoryFloor,
        recordings: Callable[[], Sequence[Recording]] | None = None,
    ) -> dict[str, list[Replayed]]:
        """Run each trial once a round; returns the runs of each by name. Raises Differs.

        `recordings`, where given, says before each run what is replayed; contents are compared by the caller then.
        """
        runs: dict[str, list[Replayed]] = {trial.name: [] for trial in trials}

        def keep(trial: Trial, run: Replayed) -> None:
            if recordings is None:
                self.check(trial, run)
            runs[trial.name].append(replace(run, seen=()))

        variants = [
            Variant(
                trial.name,
                partial(self.run, trial, recordings),
                prepare=partial(self.forget, trial),
                check=partial(keep, trial),
            )
            for trial in trials
        ]
        turns(
            variants, rounds=rounds, warm_up=warm_up, seed=seed, title=title, progress=progress, floor=floor
        )
        return {name: found[-rounds:] for name, found in runs.items()}

    def run(self, trial: Trial, recordings: Callable[[], Sequence[Recording]] | None = None) -> Replayed:
        """One replay, from a cold start of the monitor or the baseline."""
        told = self.recordings if recordings is None else recordings()
        subject = self.subject
        begin_s = perf_counter()
        if isinstance(trial, OneByOne):
            config = MonitorConfig(**trial.settings)
            system = OneAtATime(subject.pack, self.files, config, max_loaded_lenses=trial.max_loaded_lenses)
            return replay_baseline(
                system,
                subject.pack,
                told,
                prompt=config.prompt_events == "full",
                prewarm=trial.prewarm,
                start_ms=started_ms(begin_s),
            )
        pack = LensPack.from_pretrained(subject.pack.path) if trial.reopens else subject.pack
        with Monitor(pack, MonitorConfig(**trial.settings), clock=Clock()) as monitor:
            if trial.everything_first:
                base = set(monitor.engine.bank.base_families)
                monitor.engine.cache.prefetch(
                    family.index for family in pack.hierarchy.families if family.index not in base
                )
            return replay(monitor, subject.host, told, start_ms=started_ms(begin_s))

    def check(self, trial: Trial, run: Replayed) -> None:
        """Raise Differs unless the run saw what the reference of its kind did."""
        reference = self.references[trial.kind]
        if run.digest is not None:
            if run.digest != reference.digest:
                raise Differs(f"{trial.name}: events of other contents than the reference's")
        elif not largest_difference(run.seen, reference.seen) <= BASELINE_AGREES:
            raise Differs(
                f"{trial.name}: logits differ by {largest_difference(run.seen, reference.seen):.3g} of the largest, "
                f"expected at most {BASELINE_AGREES}"
            )

    def forget(self, trial: Trial) -> None:
        """Drop what the trial reads from the page cache."""
        paths = self.files.glob("*.pt") if isinstance(trial, OneByOne) else pack_files(self.subject.pack)
        # Only what is in it: dropping a file waits for the disk to have all of it, thousands of times here.
        left = sum(evict(path).left for path in paths if cached_pages(path).any())
        self.pages_left = max(self.pages_left, left)

    def to_json(self) -> dict[str, object]:
        """What a report says of its checks."""
        return {
            "references": len(self.references),
            "control_differs": True,  # `prepare` raises where it does not
            "pages_left": self.pages_left,
        }

    def _control(self, trial: Watched) -> None:
        off = [replace(one, rows_TD=_off(one.rows_TD)) for one in self.recordings]
        if self.run(trial, lambda: off).digest == self.references[trial.kind].digest:
            raise Differs(f"rows that are off by {OFF_BY} give the same contents: nothing was compared")

    def _export(self, trial: OneByOne) -> None:
        """Write the files of the lenses that the trial will meet; those that are there already stay."""
        pack, config = self.subject.pack, MonitorConfig(**trial.settings)
        for recording in self.recordings:
            prompt_PD, generation_GD = recording.states(pack.config.input)
            met = [generation_GD]
            if trial.prewarm or config.prompt_events == "full":
                met.append(prompt_PD)
            for states_PD in met:
                export_baseline(pack, self.files, families=families_scored(pack, config, states_PD))


def _kind(settings: Mapping[str, Any]) -> tuple[object, ...]:
    names = ("base_levels", "top_k", "load_threshold", "max_level", "exhaustive", "prompt_events")
    return tuple(settings.get(name) for name in names)


def _off(rows_TD: torch.Tensor) -> torch.Tensor:
    """Every second number of every row a little larger: what is added to all alike, a norm may take away."""
    rows_TD = rows_TD.clone()
    rows_TD[:, ::2] += OFF_BY
    return rows_TD


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same walk without pre-warming."""
    return {**settings, "prewarm": False}
