"""The monitor on real small hosts: positions, phases, next tokens, ends, padding, and what is counted."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lenses.errors import PackMismatch, UnsupportedDecoding
from lenses.pack import LensPack
from runtime.events import Event
from runtime.monitor import Monitor
from tests import hosts
from tests.packs import make_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(
        tmp_path_factory.mktemp("pack"),
        branching=(4, 3, 3),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        site="resid_post.1",
        pooling="ema:0.5",
        norm="layer",
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return hosts.gemma3()


@pytest.fixture
def monitor(pack: LensPack) -> Iterator[Monitor]:
    with Monitor(pack) as monitor:
        yield monitor


PROMPT = torch.tensor([[hosts.BOS, 7, 8, 9]])


def run(monitor: Monitor, model: Any, ids: torch.Tensor, **generate: Any) -> tuple[list[Event], torch.Tensor]:
    monitor.events.clear()
    with monitor.attach(model):
        output = model.generate(input_ids=ids, do_sample=generate.pop("do_sample", False), **generate)
    return list(monitor.events), output


def test_a_run_yields_prompt_plus_new_minus_one_events_in_order(monitor: Monitor, model: Any) -> None:
    events, output = run(monitor, model, PROMPT, max_new_tokens=6)
    assert [e.position for e in events] == list(range(4 + 6 - 1))
    assert [e.phase for e in events] == ["prompt"] * 4 + ["generation"] * 5
    assert [e.token for e in events] == output[0, :-1].tolist()
    assert [e.next_token for e in events] == output[0, 1:].tolist()
    assert [e.state for e in events] == ["bos"] + ["ok"] * 8


def test_events_of_a_word_are_there_before_the_next_forward_begins(monitor: Monitor, model: Any) -> None:
    seen: list[int] = []
    handle = (
        model.get_decoder()
        .layers[0]
        .register_forward_pre_hook(lambda module, args: seen.append(len(monitor.events)))
    )
    run(monitor, model, PROMPT, max_new_tokens=4)
    handle.remove()
    # Before forward k + 1 runs its first block, every row of forwards 0 .. k has its event.
    assert seen == [0, 4, 5, 6]


@pytest.mark.parametrize("host", hosts.HOSTS)
def test_every_kind_of_host_is_watched(monitor: Monitor, host: str) -> None:
    events, output = run(monitor, hosts.HOSTS[host](), PROMPT, max_new_tokens=3)
    assert [e.next_token for e in events] == output[0, 1:].tolist()
    assert all(len(e.scored) == e.coverage.scored > 0 for e in events[1:])


def test_scores_are_of_the_blocks_own_rows(pack: LensPack, monitor: Monitor, model: Any) -> None:
    from lenses.state import input_states

    events, output = run(monitor, model, PROMPT, max_new_tokens=5)
    with torch.no_grad():
        hidden = model(output[:, :-1], output_hidden_states=True).hidden_states[2][0]  # after block 1
    states = input_states(hidden[1:].float().numpy(), pack.config.input)  # the BOS row is in no pool
    for event, state in zip(events[1:], states, strict=True):
        top = event.top(1)[0]
        expected = pack.lens(pack.hierarchy.index(top.id)).logit(torch.from_numpy(state))
        assert top.logit == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_left_padding_gives_no_event_and_rows_of_a_batch_get_what_they_get_alone(
    pack: LensPack, model: Any
) -> None:
    batch = torch.tensor([[0, 0, hosts.BOS, 7, 8], [hosts.BOS, 9, 10, 11, 12], [0, hosts.BOS, 13, 14, 15]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
    with Monitor(pack) as monitor:
        events, _ = run(monitor, model, batch, attention_mask=mask, max_new_tokens=5)
    for b in range(3):
        with Monitor(pack) as alone:
            expected, _ = run(alone, model, batch[b : b + 1, mask[b].bool()], max_new_tokens=5)
        own = [e for e in events if e.sequence == b]
        assert len(own) == len(expected)
        for event, other in zip(own, expected, strict=True):
            assert (event.position, event.token, event.next_token) == (
                other.position,
                other.token,
                other.next_token,
            )
            assert event.scored.tolist() == other.scored.tolist()
            assert event.logits == pytest.approx(other.logits, abs=1e-4)


def test_a_sequence_ends_at_its_eos_while_the_others_go_on(pack: LensPack, model: Any) -> None:
    batch = torch.tensor([[hosts.BOS, 7, 8], [hosts.BOS, 9, 10]])
    with Monitor(pack) as monitor:
        _, free = run(monitor, model, batch, max_new_tokens=8)
        # The third token that the first sequence writes becomes the end; the other never writes it.
        eos = int(free[0, 5])
        assert eos not in free[1].tolist()
        assert eos not in free[0, :5].tolist()
        events, output = run(monitor, model, batch, max_new_tokens=8, eos_token_id=eos)
    own = [e for e in events if e.sequence == events[0].sequence]
    ended = [e for e in own if e.state == "after_end"]
    assert [e.next_token for e in own if e.state != "after_end"][-1] == eos
    assert len(ended) == output.shape[1] - 1 - 5
    assert all(len(e.scored) == 0 and e.coverage.expected == 0 for e in ended)
    other = [e for e in events if e.sequence == events[-1].sequence]
    assert all(e.state != "after_end" for e in other)


def test_an_eos_inside_the_prompt_ends_nothing(monitor: Monitor, model: Any) -> None:
    ids = torch.tensor([[hosts.BOS, 7, hosts.EOS, 8]])
    events, _ = run(monitor, model, ids, max_new_tokens=3, eos_token_id=hosts.EOS)
    assert all(e.state == "ok" for e in events[1:4])


def test_num_return_sequences_are_sequences_of_their_own(monitor: Monitor, model: Any) -> None:
    torch.manual_seed(3)
    events, output = run(monitor, model, PROMPT, do_sample=True, num_return_sequences=3, max_new_tokens=4)
    for b in range(3):
        own = [e for e in events if e.sequence == b]
        assert [e.next_token for e in own] == output[b, 1:].tolist()


def test_chunked_prefill_and_a_static_cache_give_the_same_events(pack: LensPack, model: Any) -> None:
    ids = torch.tensor([[hosts.BOS, 7, 8, 9, 10, 11, 12]])
    with Monitor(pack) as monitor:
        plain, _ = run(monitor, model, ids, max_new_tokens=4)
        for settings in ({"prefill_chunk_size": 3}, {"cache_implementation": "static"}):
            events, _ = run(monitor, model, ids, max_new_tokens=4, **settings)
            assert [(e.position, e.phase, e.token, e.next_token) for e in events] == [
                (e.position, e.phase, e.token, e.next_token) for e in plain
            ]
            for event, other in zip(events, plain, strict=True):
                assert event.logits == pytest.approx(other.logits, abs=1e-4)


def test_a_hand_written_loop_is_watched_too(monitor: Monitor, model: Any) -> None:
    tokens = PROMPT
    cache = None
    with monitor.attach(model), torch.no_grad():
        fed = tokens
        for _ in range(3):
            output = model(input_ids=fed, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            fed = output.logits[:, -1:].argmax(dim=-1)
            tokens = torch.cat([tokens, fed], dim=1)
        monitor.finish(0)
    events = list(monitor.events)
    assert [e.token for e in events] == tokens[0, :-1].tolist()
    assert [e.next_token for e in events] == [*tokens[0, 1:-1].tolist(), None]
    assert [e.phase for e in events] == ["prompt"] * 4 + ["generation"] * 2


def test_a_run_that_goes_on_from_the_cache_of_the_one_before_goes_on_with_its_sequence(
    pack: LensPack, model: Any
) -> None:
    with Monitor(pack) as monitor, monitor.attach(model):
        settings: Any = {"do_sample": False, "max_new_tokens": 3, "return_dict_in_generate": True}
        first = model.generate(input_ids=PROMPT, **settings)
        ids = torch.cat([first.sequences, torch.tensor([[20, 21]])], dim=1)
        second = model.generate(input_ids=ids, past_key_values=first.past_key_values, **settings)
        events = list(monitor.events)
    with Monitor(pack) as alone:
        whole, _ = run(alone, model, ids, max_new_tokens=3)
    assert [e.position for e in events] == list(range(second.sequences.shape[1] - 1))
    assert [e.token for e in events] == second.sequences[0, :-1].tolist()
    assert [e.phase for e in events] == ["prompt"] * 4 + ["generation"] * 2 + ["prompt"] * 3 + [
        "generation"
    ] * 2
    for event, other in zip(events, whole, strict=True):
        assert event.logits == pytest.approx(other.logits, abs=1e-4)


def test_a_new_empty_cache_begins_new_sequences(monitor: Monitor, model: Any) -> None:
    with monitor.attach(model), torch.no_grad():
        model(input_ids=PROMPT)
        model(input_ids=PROMPT)
    # The last row of the second forward is complete only when something says so.
    assert [(e.sequence, e.position) for e in monitor.events] == [(0, p) for p in range(4)] + [
        (1, p) for p in range(3)
    ]
    monitor.finish(0)
    assert monitor.events[-1].position == 3
    assert monitor.events[-1].next_token is None


@pytest.mark.parametrize(
    ("policy", "positions", "base_only"), [("full", 4, False), ("base", 4, True), ("off", 0, True)]
)
@pytest.mark.parametrize("prewarm", [True, False])
def test_prompt_events_are_policy(
    pack: LensPack, model: Any, policy: str, positions: int, base_only: bool, prewarm: bool
) -> None:
    settings: Any = {"prompt_events": policy, "prewarm": prewarm, "load_threshold": 0.0}
    with Monitor(pack, **settings) as monitor:
        events, _ = run(monitor, model, PROMPT, max_new_tokens=3)
        prompt = [e for e in events if e.phase == "prompt"]
        assert len(prompt) == positions
        if prompt:
            assert (prompt[1].coverage.scored == monitor.engine.base_count) == base_only
        written = [e for e in events if e.phase == "generation"]
        assert len(written) == 2
        assert all(e.coverage.scored > monitor.engine.base_count for e in written)
        stats = monitor.stats().cache
        assert (stats.prefetched > 0) == prewarm
        # The last row of the prompt predicts the first word, so what it wants is read by then or met later.
        walked = prewarm or policy == "full"
        assert (stats.prompt.requests > 0) == walked
        assert (stats.generation.cold_misses < 5) == walked


def test_subscribers_get_every_event_and_the_queue_counts_what_it_dropped(pack: LensPack, model: Any) -> None:
    received: list[Event] = []
    with Monitor(pack, queue_events=3) as monitor:
        unsubscribe = monitor.subscribe(received.append)
        with monitor.attach(model):
            model.generate(input_ids=PROMPT, max_new_tokens=4, do_sample=False)
        assert len(received) == 7
        assert [e.position for e in monitor.events] == [4, 5, 6]
        assert monitor.stats().dropped == monitor.events.dropped == 4
        unsubscribe()
        run(monitor, model, PROMPT, max_new_tokens=2)
        assert len(received) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: make_pack(d, hidden_size=8, blocks=3), "states of 8"),
        (lambda d: make_pack(d, hidden_size=16, blocks=5, site="resid_post.1"), "5 blocks"),
        (lambda d: make_pack(d, hidden_size=16, blocks=8, site="resid_post.7"), "resid_post.7"),
    ],
)
def test_a_pack_that_does_not_fit_the_host_is_refused(
    tmp_path: Path, model: Any, change: Callable[[Path], LensPack], message: str
) -> None:
    with Monitor(change(tmp_path / "pack")) as monitor, pytest.raises(PackMismatch, match=message):
        monitor.attach(model)


def test_a_pack_of_another_host_is_refused_by_name(pack: LensPack, tmp_path: Path) -> None:
    named = hosts.gemma3(host_id="somebody/else")
    with Monitor(pack) as monitor, pytest.raises(PackMismatch, match=r"tiny-host.*somebody/else"):
        monitor.attach(named)
    with Monitor(pack) as monitor:
        run(monitor, hosts.gemma3(host_id="tiny-host"), PROMPT, max_new_tokens=2)


def test_beam_search_is_refused_in_one_line(monitor: Monitor, model: Any) -> None:
    with pytest.raises(UnsupportedDecoding) as refusal:
        run(monitor, model, PROMPT, num_beams=2, max_new_tokens=2)
    assert "\n" not in str(refusal.value)
    run(monitor, model, PROMPT, max_new_tokens=2)


def test_counters_add_up(monitor: Monitor, model: Any) -> None:
    events, _ = run(monitor, model, PROMPT, max_new_tokens=5)
    stats = monitor.stats()
    assert stats.positions == {"ok": 7, "bos": 1, "non_finite": 0, "after_end": 0}
    assert (stats.sequences, stats.emitted) == (1, len(events))
    assert stats.lens_ms > 0
    for phase in (stats.cache.prompt, stats.cache.generation):
        assert phase.requests == phase.hot_hits + phase.warm_hits + phase.cold_misses + phase.failed
    runs = [sum((e.run.hot, e.run.warm, e.run.cold)) for e in events]
    assert sum(runs) == stats.cache.prompt.requests + stats.cache.generation.requests


def test_views_of_an_event(pack: LensPack, monitor: Monitor, model: Any) -> None:
    events, _ = run(monitor, model, PROMPT, max_new_tokens=3)
    event = events[-1]
    top = event.top(50)
    assert len(top) == min(50, len(event.scored))
    assert [s.probability for s in top] == sorted((s.probability for s in top), reverse=True)
    leaf = next(s for s in event.top(1000) if s.concept.level == 2)
    assert [s.concept.level for s in event.path(leaf.id)] == [0, 1, 2]
    assert event.path(leaf.id)[-1].id == leaf.id
    probability = {s.id: s.probability for s in event.top(1000)}
    for score in event.leaves(1000):
        below = [c.id for c in pack.hierarchy if c.parent == score.id and c.id in probability]
        assert all(probability[child] < score.probability for child in below)
    assert np.all(np.diff(event.scored) > 0)
    line = event.to_json(5)
    assert [*line] == [
        "sequence",
        "position",
        "phase",
        "token",
        "next_token",
        "state",
        "top",
        "scored",
        "coverage",
        "run",
    ]
    assert len(line["top"]) == 5  # type: ignore[arg-type]
