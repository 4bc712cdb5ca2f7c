"""What is served is what one process would have said: tokens, events, whoever else is served."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import torch

from lenses.errors import (
    BudgetError,
    ConceptNotFound,
    ConfigError,
    PromptError,
    ServerFull,
    SessionBusy,
    SessionNotFound,
)
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.events import Event
from runtime.host import Host
from runtime.monitor import Monitor
from runtime.rules import Rule
from runtime.serve.config import ServeConfig
from runtime.serve.request import Chunk, LensWishes, Request, Sampling
from runtime.serve.scheduler import Scheduler
from runtime.serve.stream import CHUNKS, EVENTS, Stream
from tests import hosts
from tests.packs import make_pack
from tests.watched import named_nodes

KINDS = {
    "gemma3": hosts.gemma3,
    "gemma3_multimodal": hosts.gemma3_multimodal,
    "llama": hosts.llama,
    "qwen2": hosts.qwen2,
    "qwen3": hosts.qwen3,
    "gpt2": hosts.gpt2,
}
PROMPTS = [[2, 5, 6, 7], [2, 9, 8], [2, 30, 31, 32, 33, 34, 35, 36, 37, 38], [2, 11]]
NEW = 12
SMALL = ServeConfig(max_sequences=4, max_context=100)


def host_of(kind: str = "gemma3") -> Host:
    return Host(KINDS[kind](), hosts.tokenizer(), "tiny/host", None)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(
        tmp_path_factory.mktemp("serve") / "p",
        nodes=named_nodes(),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        null_texts=400,
    )


@asynccontextmanager
async def serving(
    pack: LensPack, config: ServeConfig = SMALL, host: Host | None = None
) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(host or host_of(), pack, config)
    scheduler.start()
    try:
        yield scheduler
    finally:
        await asyncio.to_thread(scheduler.close)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


async def read(stream: Stream) -> list[Chunk]:
    return [chunk async for chunk in stream]


def tokens(chunks: Sequence[Chunk]) -> list[int]:
    return [chunk.token for chunk in chunks if chunk.token is not None]


def events(chunks: Sequence[Chunk]) -> list[Event]:
    return [e for chunk in chunks for e in (*chunk.prompt_events, chunk.event) if e is not None]


def in_process(
    pack: LensPack, host: Host, prompt: Sequence[int], **generate: Any
) -> tuple[list[int], list[Event]]:
    with Monitor(pack) as monitor, monitor.attach(host.model), torch.inference_mode():
        ids = torch.tensor([list(prompt)])
        settings = {"do_sample": False, "max_new_tokens": NEW} | generate
        found = host.model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        return found[0, len(prompt) :].tolist(), list(monitor.events)


def same(one: Event, other: Event, *, exactly: bool) -> bool:
    """Equal contents, the number of the sequence aside; with `exactly` to the last bit."""
    facts = [
        (e.position, e.phase, e.token, e.next_token, e.state, e.coverage, e.failed) for e in (one, other)
    ]
    if facts[0] != facts[1] or one.scored.tobytes() != other.scored.tobytes():
        return False
    if exactly:
        return one.logits.tobytes() == other.logits.tobytes()
    bound = 1e-4 * max(1.0, float(np.abs(other.logits).max(initial=0.0)))
    return bool(np.allclose(one.logits, other.logits, rtol=0, atol=bound))


@pytest.mark.parametrize("kind", KINDS)
def test_one_request_is_what_one_process_says(kind: str, pack: LensPack) -> None:
    """To the last bit, unless `generate` keeps a sliding window's keys in another order."""
    host = host_of(kind)
    exactly = "gemma" not in kind

    async def main() -> None:
        async with serving(pack, host=host) as scheduler:
            for prompt in PROMPTS:
                wishes = LensWishes(prompt=True)
                chunks = await read(scheduler.submit(Request(tuple(prompt), NEW, lenses=wishes)))
                expected, seen = in_process(pack, host, prompt)
                assert tokens(chunks) == expected
                told = events(chunks)
                assert len(told) == len(seen)
                assert all(same(one, other, exactly=exactly) for one, other in zip(told, seen, strict=True))

    run(main())


def test_many_together_are_what_each_is_alone(pack: LensPack) -> None:
    host = host_of()

    async def main() -> None:
        async with serving(pack, host=host) as scheduler:
            wishes = LensWishes(prompt=True)
            asked = [Request(tuple(p), NEW, lenses=wishes, client=str(n)) for n, p in enumerate(PROMPTS * 3)]
            answers = await asyncio.gather(*(read(scheduler.submit(request)) for request in asked))
        for request, chunks in zip(asked, answers, strict=True):
            expected, seen = in_process(pack, host, request.token_ids)
            assert tokens(chunks) == expected
            assert all(same(a, b, exactly=False) for a, b in zip(events(chunks), seen, strict=True))

    run(main())


def test_prompts_read_in_pieces_say_the_same(pack: LensPack) -> None:
    host = host_of()

    async def main() -> None:
        config = ServeConfig(max_sequences=2, max_context=100, prefill_tokens=3)
        async with serving(pack, config, host) as scheduler:
            chunks = await read(
                scheduler.submit(Request(tuple(PROMPTS[2]), NEW, lenses=LensWishes(prompt=True)))
            )
        expected, seen = in_process(pack, host, PROMPTS[2])
        assert tokens(chunks) == expected
        assert all(same(a, b, exactly=False) for a, b in zip(events(chunks), seen, strict=True))

    run(main())


def test_the_host_is_as_it_was(pack: LensPack) -> None:
    host = host_of()
    ids = torch.tensor([PROMPTS[0]])
    before = host.model(ids).logits
    state = torch.get_rng_state()

    async def main() -> None:
        async with serving(pack, host=host) as scheduler:
            sampling = Sampling(temperature=1.0, seed=3)
            await read(scheduler.submit(Request(tuple(PROMPTS[0]), NEW, sampling=sampling)))

    run(main())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(host.model(ids).logits, before)
    assert not any(module._forward_hooks for module in host.model.modules())


def test_draws_are_those_of_generate_and_depend_on_the_seed_alone(pack: LensPack) -> None:
    host = host_of()
    sampling = Sampling(temperature=0.8, top_p=0.9, top_k=20, seed=5)
    request = Request(tuple(PROMPTS[0]), NEW, sampling=sampling)

    async def main() -> None:
        async with serving(pack, host=host) as scheduler:
            alone = await read(scheduler.submit(request))
            others = [Request(tuple(p), NEW, sampling=Sampling(temperature=1.0)) for p in PROMPTS[1:]]
            together = await asyncio.gather(*(read(scheduler.submit(r)) for r in (request, *others)))
            assert tokens(together[0]) == tokens(alone)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(5)
                expected, _ = in_process(
                    pack, host, PROMPTS[0], do_sample=True, temperature=0.8, top_p=0.9, top_k=20
                )
            assert tokens(alone) == expected

    run(main())


def test_log_probabilities_are_the_hosts(pack: LensPack) -> None:
    host = host_of()

    async def main() -> None:
        async with serving(pack, host=host) as scheduler:
            chunks = await read(scheduler.submit(Request(tuple(PROMPTS[0]), 3, logprobs=2)))
        ids = [*PROMPTS[0], *tokens(chunks)]
        with torch.inference_mode():
            expected = host.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        for at, chunk in enumerate(chunks):
            assert chunk.logprob is not None
            row = expected[len(PROMPTS[0]) + at - 1]
            assert chunk.logprob.logprob == pytest.approx(float(row[chunk.token]), abs=1e-4)
            best = row.topk(2)
            assert [one.token for one in chunk.top_logprobs] == best.indices.tolist()

    run(main())


def test_a_stop_string_ends_the_text_before_it_and_is_never_shown(pack: LensPack) -> None:
    async def main() -> None:
        async with serving(pack) as scheduler:
            whole = "".join(c.text for c in await read(scheduler.submit(Request(tuple(PROMPTS[0]), NEW))))
            stop = whole[6:11]
            chunks = await read(scheduler.submit(Request(tuple(PROMPTS[0]), NEW, stop=(stop, "never"))))
            assert "".join(c.text for c in chunks) == whole[: whole.index(stop)]
            assert chunks[-1].finish == "stop"

    run(main())


def test_rules_and_tracks_are_each_requests_own(pack: LensPack) -> None:
    host = host_of()
    rule = Rule("person", ">", 0.0, 2, "stop")
    leaf = "animal.large.old"

    async def main() -> None:
        async with serving(pack, host=host) as scheduler:
            wishes = LensWishes(rules=(rule,), track=(leaf,))
            asked = [Request(tuple(PROMPTS[0]), NEW, lenses=w) for w in (wishes, LensWishes())]
            mine, plain = await asyncio.gather(*(read(scheduler.submit(request)) for request in asked))
        assert mine[-1].finish == "rule"
        assert mine[-1].detail == str(rule)
        assert len(tokens(mine)) == 2
        assert [[score.id for score in event.asked] for event in events(mine)] == [[leaf, "person"]] * 2
        assert tokens(plain)[:2] == tokens(mine)
        assert not any(event.asked or event.met for event in events(plain))
        with Monitor(pack, always=(leaf, "person")) as monitor, monitor.attach(host.model):
            ids = torch.tensor([PROMPTS[0]])
            host.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=2)
            expected = list(monitor.events)[-2:]
        for told, known in zip(events(mine), expected, strict=True):
            assert [s.logit for s in told.asked] == pytest.approx([s.logit for s in known.asked], abs=1e-5)

    run(main())


# Sessions.


async def turn(scheduler: Scheduler, session: str, prompt: Sequence[int], new: int = 4) -> list[Chunk]:
    request = Request(tuple(prompt), new, session=session, lenses=LensWishes(prompt=True))
    return await read(scheduler.submit(request))


@pytest.mark.parametrize("max_sequences", [3, 1])
def test_a_turn_goes_on_as_if_all_had_been_read_at_once(pack: LensPack, max_sequences: int) -> None:
    """With one slot every turn of the other session parks this one."""
    host = host_of()

    async def main() -> None:
        config = ServeConfig(max_sequences=max_sequences, max_context=100)
        async with serving(pack, config, host) as scheduler:
            one, other = scheduler.open_session(), scheduler.open_session()
            fed: list[int] = []
            seen: list[Event] = []
            ended = False
            for prompt in PROMPTS[:3]:
                chunks = await turn(scheduler, one, prompt)
                await turn(scheduler, other, PROMPTS[3])
                assert chunks[-1].usage is not None
                assert chunks[-1].usage.kept == max(0, len(fed) - (not ended))
                fed += prompt + tokens(chunks)
                ended = chunks[-1].finish == "stop"
                if ended:
                    fed.pop()
                assert scheduler.session_tokens(one) == tuple(fed)
                seen += events(chunks)
            last = len(tokens(chunks))
            expected, known = in_process(pack, host, fed[: len(fed) - last + ended], max_new_tokens=4)
            assert tokens(chunks) == expected
            assert [event.position for event in seen] == list(range(len(seen)))
            for told, event in zip(seen, known, strict=True):
                # What was generated in one turn is the prompt of the next, so phases differ.
                assert (told.position, told.token, told.state) == (event.position, event.token, event.state)
                np.testing.assert_allclose(
                    told.logits, event.logits, atol=1e-4 * np.abs(event.logits).max(initial=1)
                )
            assert (scheduler.progress.parked_bytes > 0) == (max_sequences == 1)

    run(main())


def test_unknown_closed_busy_and_slept_out_sessions_are_refused(pack: LensPack) -> None:
    async def main() -> None:
        config = ServeConfig(max_sequences=2, max_context=100, session_lease_s=0.3)
        async with serving(pack, config) as scheduler:
            with pytest.raises(SessionNotFound, match="no session 'nobody'"):
                await turn(scheduler, "nobody", PROMPTS[0])
            closed, slept = scheduler.open_session(), scheduler.open_session()
            await turn(scheduler, slept, PROMPTS[0])
            scheduler.close_session(closed)
            with pytest.raises(SessionNotFound):
                await turn(scheduler, closed, PROMPTS[0])
            request = Request(tuple(PROMPTS[0]), NEW, session=slept)
            running = scheduler.submit(request)
            with pytest.raises(SessionBusy):
                scheduler.submit(request)
            await read(running)
            await asyncio.sleep(1.0)
            with pytest.raises(SessionNotFound, match="slept"):
                scheduler.submit(request)
            assert scheduler.progress.sessions == 0

    run(main())


def test_closed_sessions_leave_their_places(pack: LensPack) -> None:
    async def main() -> None:
        async with serving(pack, ServeConfig(max_sequences=2, max_context=100, max_sessions=3)) as scheduler:
            for _ in range(6):
                session = scheduler.open_session()
                await turn(scheduler, session, PROMPTS[0])
                scheduler.close_session(session)
            wide = [scheduler.submit(Request(tuple(PROMPTS[0]), 90)) for _ in range(2)]
            await until(lambda: scheduler.progress.running == 2)
            assert scheduler.progress.parked_bytes == 0
            for stream in wide:
                stream.cancel()
            sessions = [scheduler.open_session() for _ in range(3)]
            with pytest.raises(ServerFull, match="3 sessions"):
                scheduler.open_session()
            assert len(set(sessions)) == 3

    run(main())


def test_beyond_the_budget_the_session_that_slept_longest_is_over(pack: LensPack) -> None:
    async def main() -> None:
        config = ServeConfig(max_sequences=1, max_context=100, session_bytes=0)
        async with serving(pack, config) as scheduler:
            first, second = scheduler.open_session(), scheduler.open_session()
            await turn(scheduler, first, PROMPTS[0])
            await turn(scheduler, second, PROMPTS[1])
            with pytest.raises(SessionNotFound):
                await turn(scheduler, first, PROMPTS[1])
            assert (await turn(scheduler, second, PROMPTS[1]))[-1].finish

    run(main())


# Who leaves, is late, or reads slowly.


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_reader_who_leaves_ends_their_request_and_frees_its_place(pack: LensPack) -> None:
    async def main() -> None:
        async with serving(pack, ServeConfig(max_sequences=2, max_context=100)) as scheduler:
            for _ in range(5):
                stream = scheduler.submit(Request(tuple(PROMPTS[0]), 80))
                async for _chunk in stream:
                    break
                stream.cancel()
            await until(lambda: scheduler.progress.running == 0)
            assert (await read(scheduler.submit(Request(tuple(PROMPTS[1]), NEW))))[-1].finish

    run(main())


def test_a_late_request_ends_with_what_there_is(pack: LensPack) -> None:
    async def main() -> None:
        async with serving(pack, ServeConfig(max_sequences=1, max_context=100)) as scheduler:
            slow = scheduler.submit(
                Request(tuple(PROMPTS[0]), 90)
            )  # nobody reads it: it fills its queue, and waits
            await until(lambda: scheduler.progress.paused == 1)
            late = scheduler.submit(Request(tuple(PROMPTS[1]), NEW, deadline_s=0.2))
            chunks = await read(late)
            assert (chunks[-1].finish, tokens(chunks)) == ("deadline", [])
            slow.cancel()

    run(main())


def test_a_slow_reader_waits_alone_and_gets_everything(pack: LensPack) -> None:
    async def main() -> None:
        async with serving(pack, ServeConfig(max_sequences=2, max_context=100)) as scheduler:
            whole = await read(scheduler.submit(Request(tuple(PROMPTS[0]), 90, lenses=LensWishes())))
            assert len(tokens(whole)) > CHUNKS + 10, "long enough to fill a queue"
            slow = scheduler.submit(Request(tuple(PROMPTS[0]), 90, lenses=LensWishes()))
            await until(lambda: scheduler.progress.paused == 1)
            other = await read(scheduler.submit(Request(tuple(PROMPTS[1]), NEW)))
            assert other[-1].finish
            chunks = await read(slow)
            assert tokens(chunks) == tokens(whole)
            assert len(events(chunks)) == len(tokens(whole))

    run(main())


def test_events_may_be_dropped_where_that_is_declared_text_and_alarms_never(pack: LensPack) -> None:
    async def main() -> None:
        async with serving(pack, ServeConfig(max_sequences=2, max_context=100)) as scheduler:
            mark = Rule("person", ">", 0.5, 1, "mark")
            wishes = LensWishes(policy="drop-oldest", rules=(mark,))
            whole = await read(
                scheduler.submit(Request(tuple(PROMPTS[0]), CHUNKS - 1, lenses=LensWishes(rules=(mark,))))
            )
            before = scheduler.progress.tokens
            stream = scheduler.submit(Request(tuple(PROMPTS[0]), CHUNKS - 1, lenses=wishes))
            await until(lambda: scheduler.progress.tokens - before == len(tokens(whole)))
            chunks = await read(stream)
            assert tokens(chunks) == tokens(whole)
            loud = [event.position for event in events(whole) if event.met]
            told = events(chunks)
            assert loud, "the rule is met somewhere"
            assert set(loud) <= {event.position for event in told}
            quiet = [event for event in told if not event.met]
            assert len(quiet) <= EVENTS
            dropped = len(tokens(whole)) - len(told)
            assert dropped > 0
            assert sum(chunk.dropped for chunk in chunks) == dropped
            assert chunks[-1].usage is not None

    run(main())


# What is refused, and what breaks.


def test_what_cannot_be_is_refused_before_it_waits(pack: LensPack) -> None:
    async def main() -> None:
        async with serving(pack) as scheduler:
            with pytest.raises(PromptError, match="no tokens"):
                scheduler.submit(Request((), 4))
            with pytest.raises(PromptError, match="ask for at most 96 new tokens"):
                scheduler.submit(Request(tuple(PROMPTS[0]), 200))
            with pytest.raises(ConceptNotFound):
                scheduler.submit(Request(tuple(PROMPTS[0]), 4, lenses=LensWishes(track=("nothing",))))
            with pytest.raises(ConfigError, match="temperature"):
                scheduler.submit(Request(tuple(PROMPTS[0]), 4, sampling=Sampling(temperature=-1)))
            assert scheduler.progress.waiting == 0

    run(main())
    with pytest.raises(ConfigError, match="leave out deferred"):
        Scheduler(host_of(), pack, SMALL, MonitorConfig(missing="deferred"))
    with pytest.raises(ConfigError, match="the host has 128"):
        Scheduler(host_of(), pack, ServeConfig(max_context=129))
    with pytest.raises(BudgetError, match="give 2 sequences"):
        Scheduler(host_of(), pack, ServeConfig(max_sequences=4, max_context=100, kv_bytes=2 * 3 * 100 * 64))


def test_more_than_may_wait_are_told_when_to_come_again(pack: LensPack) -> None:
    async def main() -> None:
        config = ServeConfig(max_sequences=1, max_context=100, max_waiting=1)
        async with serving(pack, config) as scheduler:
            first = scheduler.submit(Request(tuple(PROMPTS[0]), 90))
            await until(lambda: scheduler.progress.running == 1)
            second = scheduler.submit(Request(tuple(PROMPTS[0]), 2))
            with pytest.raises(ServerFull) as full:
                scheduler.submit(Request(tuple(PROMPTS[0]), 2))
            assert full.value.retry_after_s > 0
            first.cancel()
            assert (await read(second))[-1].finish

    run(main())


def test_clients_take_turns(pack: LensPack) -> None:
    async def main() -> None:
        async with serving(pack, ServeConfig(max_sequences=1, max_context=100)) as scheduler:
            ended: list[str] = []

            async def one(client: str) -> None:
                await read(scheduler.submit(Request(tuple(PROMPTS[0]), 6, client=client)))
                ended.append(client)

            await asyncio.gather(
                *(one(client) for client in ("greedy", "greedy", "greedy", "greedy", "other"))
            )
            assert ended.index("other") <= 1

    run(main())


def test_an_error_in_a_step_ends_who_took_part_and_nobody_else(pack: LensPack) -> None:
    async def main() -> None:
        host = host_of()
        async with serving(pack, host=host) as scheduler:
            forward = host.model.forward
            broken = True

            def fail(*args: Any, **kwargs: Any) -> Any:
                if broken and kwargs["input_ids"].shape[1] == len(PROMPTS[1]):
                    raise RuntimeError("planted")
                return forward(*args, **kwargs)

            host.model.forward = fail
            chunks = await read(scheduler.submit(Request(tuple(PROMPTS[1]), NEW)))
            assert (chunks[-1].finish, chunks[-1].detail) == ("error", "planted")
            fine = await read(scheduler.submit(Request(tuple(PROMPTS[0]), NEW)))
            assert fine[-1].finish in ("stop", "length")
            assert scheduler.failure is None
            for _ in range(3):
                await read(scheduler.submit(Request(tuple(PROMPTS[1]), NEW)))
            await until(lambda: scheduler.failure is not None)
            with pytest.raises(ServerFull, match="planted"):
                scheduler.submit(Request(tuple(PROMPTS[0]), NEW))

    run(main())


def test_closing_tells_everybody(pack: LensPack) -> None:
    async def main() -> None:
        async with serving(pack, ServeConfig(max_sequences=1, max_context=100)) as scheduler:
            streams = [scheduler.submit(Request(tuple(PROMPTS[0]), 90)) for _ in range(3)]
            await asyncio.to_thread(scheduler.close)
            ends = [(await read(stream))[-1] for stream in streams]
            assert {end.finish for end in ends} == {"error"}

    run(main())


# Scores for states.


def test_calls_for_scores_are_joined_and_each_gets_its_own(pack: LensPack) -> None:
    rng = np.random.default_rng(0)
    states = [rng.normal(size=(rows, hosts.HIDDEN)).astype(np.float32) for rows in (1, 3, 2)]

    async def main() -> None:
        async with serving(pack) as scheduler:
            alone = [await asyncio.wrap_future(scheduler.score(some)) for some in states]
            passes = scheduler._joined.passes
            together = await asyncio.gather(
                *(asyncio.wrap_future(scheduler.score(some)) for some in states * 8)
            )
            assert scheduler._joined.passes - passes < 24
            for told, expected in zip(together, alone * 8, strict=True):
                assert told.tobytes() == expected.tobytes()
            with pytest.raises(ConfigError, match="rows of 16 numbers"):
                scheduler.score(np.zeros((2, 7), np.float32))

    run(main())
    from lenses.state import normalise

    inputs = normalise(states[1], pack.config.input)
    with_index = pack.hierarchy.index("person")
    one = pack.lens(with_index)

    async def check() -> None:
        async with serving(pack) as scheduler:
            scores = await asyncio.wrap_future(scheduler.score(states[1]))
            assert scores.shape == (3, len(pack.hierarchy))
            for row, state in zip(scores, inputs, strict=True):
                assert row[with_index] == pytest.approx(float(one.logit(torch.from_numpy(state))), abs=1e-5)

    run(check())
