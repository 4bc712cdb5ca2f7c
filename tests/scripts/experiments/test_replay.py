"""A replay sees what the generation saw, counts what was read, and its parts are the whole."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from baseline.files import export_baseline
from baseline.system import OneAtATime
from experiments.recording import Recording
from experiments.replay import COLUMNS, largest_difference, replay, replay_baseline
from experiments.subject import (
    Subject,
    base_bytes,
    beyond,
    first_layer_bytes,
    fp32_lens_bytes,
    lens_bytes,
    smallest_hot_bytes,
)
from experiments.trials import Bench, OneByOne, Watched
from profiling.runs import Differs, Task, generate

from runtime.clock import Clock
from runtime.config import MonitorConfig
from runtime.monitor import Monitor

TASK = Task("the dog sits in the house", 9)


def watch(subject: Subject, recording: Recording, **settings: Any) -> Any:
    with Monitor(subject.pack, MonitorConfig(**settings), clock=Clock()) as monitor:
        return replay(monitor, subject.host, [recording])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prompt_events": "off"},
        {"prompt_events": "base", "prewarm": False},
        {"top_k": 1, "base_levels": (0,)},
    ],
)
def test_a_replay_has_the_contents_of_the_generation(
    subject: Subject, recording: Recording, settings: dict[str, Any]
) -> None:
    with Monitor(subject.pack, MonitorConfig(**settings)) as monitor:
        run = generate(subject.host, TASK, monitor)
    replayed = watch(subject, recording, **settings)
    assert replayed.digest == run.contents
    assert len(replayed.seen) == len(replayed.step_ms_G) == TASK.new_tokens - 1


def test_the_parts_of_a_token_are_the_whole(subject: Subject, recording: Recording) -> None:
    replayed = watch(subject, recording)
    assert tuple(replayed.parts_ms) == COLUMNS
    assert sum(replayed.parts_ms.values()) == pytest.approx(replayed.step_ms_G.mean())
    assert sum(replayed.prompt_parts_ms.values()) == pytest.approx(replayed.prompt_ms)
    total = replayed.start_ms + replayed.prompt_ms + replayed.step_ms_G.sum()
    assert replayed.total_ms == pytest.approx(total)


def test_what_is_read_is_counted_where_it_is_read(subject: Subject, recording: Recording) -> None:
    pack = subject.pack
    alone: dict[str, Any] = {"prompt_events": "off", "prewarm": False}
    least = {"hot_budget_bytes": smallest_hot_bytes(pack, pack.config.base_levels), "warm_budget_bytes": 0}
    none, cached, warmed = (
        watch(subject, recording, **settings)
        for settings in (alone | least, alone, {"load_threshold": 0.0, "top_k": 100})
    )
    assert none.children_scored == cached.children_scored
    assert none.children_loaded > cached.children_loaded > 0
    assert none.prompt_loaded == cached.prompt_loaded == 0
    # Everything is opened, so the prompt brings in all that there is.
    assert warmed.prompt_loaded == len(pack.hierarchy) - warmed.base_lenses
    assert warmed.children_loaded == 0
    assert warmed.hits == warmed.requests > 0
    assert cached.hits < cached.requests


def test_several_recordings_are_one_session(subject: Subject, recording: Recording) -> None:
    once = watch(subject, recording)
    with Monitor(subject.pack, clock=Clock()) as monitor:
        twice = replay(monitor, subject.host, [recording, recording.until(4)])
    assert len(twice.seen) == len(once.seen) + 3
    assert largest_difference(twice.seen[: len(once.seen)], once.seen) == 0
    assert twice.prompt_loaded == once.prompt_loaded, "the second text finds what the first has read"


@pytest.mark.parametrize("modules", [0, 500])
@pytest.mark.parametrize("prompt", [False, True])
def test_the_baseline_sees_the_same(
    subject: Subject, recording: Recording, tmp_path: Path, modules: int, prompt: bool
) -> None:
    export_baseline(subject.pack, tmp_path)
    system = OneAtATime(subject.pack, tmp_path, MonitorConfig(), max_loaded_lenses=modules)
    found = replay_baseline(system, subject.pack, [recording], prompt=prompt)
    ours = watch(subject, recording)
    assert largest_difference(found.seen, ours.seen) <= 1e-5
    assert found.children_scored == ours.children_scored
    assert found.base_lenses == ours.base_lenses
    assert (found.prompt_ms > 0) == prompt
    assert found.hits + found.children_loaded == found.requests


def test_differences_are_seen(subject: Subject, recording: Recording) -> None:
    seen = watch(subject, recording).seen
    concepts, logits, cut = seen[0]
    assert largest_difference(seen, seen) == 0
    for other in [(concepts[:-1], logits[:-1], cut), (concepts, logits, cut + 1)]:
        assert largest_difference([other, *seen[1:]], seen) == np.inf
    assert largest_difference(seen[1:], seen) == np.inf
    off = [(concepts, logits + np.float32(1e-3), cut), *seen[1:]]
    assert 0 < largest_difference(off, seen) <= 1e-3


def test_a_trial_of_other_contents_is_refused(subject: Subject, recording: Recording, tmp_path: Path) -> None:
    export_baseline(subject.pack, tmp_path)
    wide, narrow = Watched("wide", {"top_k": 10}), Watched("narrow", {"top_k": 1, "load_threshold": 0.0})
    slow = OneByOne("slow", narrow.settings, 0)
    bench = Bench(subject, [recording], tmp_path)
    bench.references = {trial.kind: bench.run(trial) for trial in (wide, narrow)}
    for trial in (wide, narrow, slow):
        bench.check(trial, bench.run(trial))
    with pytest.raises(Differs, match="wide: events of other contents"):
        bench.check(wide, bench.run(narrow))
    with pytest.raises(Differs, match="slow: logits differ by"):
        bench.check(slow, replace(bench.run(slow), seen=bench.run(wide).seen))


def test_bytes_of_a_lens_are_those_of_its_weights(subject: Subject) -> None:
    pack, lens = subject.pack, subject.pack.config.lens
    h1, h2, hidden = *lens.widths, pack.config.host.hidden_size
    later = h1 + h2 * h1 + h2 + h2 + 1
    assert first_layer_bytes(pack) == 2 * h1 * hidden
    assert lens_bytes(pack) == 2 * h1 * hidden + 4 * later
    assert fp32_lens_bytes(pack) == 4 * (h1 * hidden + later)
    rest = sum(map(pack.family_bytes, beyond(pack, pack.config.base_levels)))
    assert base_bytes(pack, pack.config.base_levels) + rest == len(pack.hierarchy) * first_layer_bytes(pack)
