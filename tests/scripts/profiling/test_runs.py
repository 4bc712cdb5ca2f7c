"""A run is timed token by token, and runs that must agree are compared."""

from dataclasses import replace

import pytest
from profiling.runs import Differs, Run, Task, check_same, generate

from lenses.pack import LensPack
from runtime.clock import Clock
from runtime.host import Host, load_host
from runtime.monitor import Monitor
from tests import hosts
from tests.packs import make_pack

TASK = Task("the dog runs", 7)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return load_host(hosts.save(hosts.gemma3(host_id="tiny"), tmp_path_factory.mktemp("host")))


@pytest.fixture(scope="module")
def pack(host: Host, tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    config = host.model.config
    return make_pack(
        tmp_path_factory.mktemp("pack"),
        host="tiny",
        hidden_size=config.hidden_size,
        blocks=config.num_hidden_layers,
        site="resid_post.1",
        base_levels=(0,),
    )


def test_every_token_is_timed_and_the_clock_agrees(host: Host, pack: LensPack) -> None:
    with Monitor(pack, clock=Clock()) as monitor:
        run = generate(host, TASK, monitor)
    assert len(run.token_ids) == len(run.token_ms) == TASK.new_tokens
    assert [step.name for step in run.steps] == ["prompt"] + ["generation"] * (TASK.new_tokens - 1)
    for step in run.steps:
        assert sum(step.parts_ms.values()) == pytest.approx(step.total_ms)
    assert sum(step.total_ms for step in run.steps) < run.total_ms
    assert run.events > TASK.new_tokens, "those of the prompt too"


def test_a_run_agrees_with_itself_watched_or_not_and_again(host: Host, pack: LensPack) -> None:
    bare = generate(host, TASK)
    with Monitor(pack) as monitor:
        first, second = generate(host, TASK, monitor), generate(host, TASK, monitor)
    assert bare.contents is None
    assert first.contents == second.contents
    for run in (first, second):
        check_same("watched", run, bare)
    check_same("second", second, first)


def test_runs_that_differ_are_refused(host: Host, pack: LensPack) -> None:
    with Monitor(pack) as monitor, Monitor(pack, top_k=1, load_threshold=0.0) as narrow:
        run, other = generate(host, TASK, monitor), generate(host, TASK, narrow)
    with pytest.raises(Differs, match="not with the contents"):
        check_same("narrow", other, run)
    wrong: Run = replace(run, token_ids=(*run.token_ids[:3], run.token_ids[3] + 1, *run.token_ids[4:]))
    with pytest.raises(Differs, match="token 3 is"):
        check_same("wrong", wrong, run)
