"""Rules: what a text means, where a rule is met, and that what is done then is done to nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from lenses.errors import BudgetError, ConceptNotFound, ConfigError, UnsupportedDecoding
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.display import PlainView
from runtime.events import Event, newest
from runtime.frame import Frame
from runtime.monitor import Monitor
from runtime.rules import GRAMMAR, Rule, Runs
from runtime.session import Session
from runtime.transcript import Transcript
from tests import hosts
from tests.fed import fed, play
from tests.packs import make_pack
from tests.slow_reads import gated

DEEP, BASE = "c2-1-0-1", "c1"
PROMPT = torch.tensor([[hosts.BOS, 7, 8, 9, 12, 30]])
PROMPTS = torch.tensor([[hosts.PAD, hosts.PAD, hosts.BOS, 9, 12, 30], [hosts.BOS, 7, 8, 9, 12, 31]])


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(
        tmp_path_factory.mktemp("pack") / "p",
        branching=(4, 3, 3, 2),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        site="resid_post.1",
        base_levels=(0,),
        load_threshold=0.6,
        top_k=2,
        seed=3,
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return hosts.gemma3()


def rules(*texts: str) -> tuple[Rule, ...]:
    return tuple(map(Rule.parse, texts))


def run(monitor: Monitor, model: Any, ids: torch.Tensor = PROMPT, **generate: Any) -> torch.Tensor:
    told = {"do_sample": False, "max_new_tokens": 10, "attention_mask": (ids != hosts.PAD).long()}
    with monitor.attach(model):
        output: torch.Tensor = model.generate(input_ids=ids, **(told | generate))
    return output


# What a text means.

concepts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(str.strip)


@settings(max_examples=60)
@given(
    concepts,
    st.sampled_from("<>"),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
    st.integers(1, 10**9 - 1),
    st.sampled_from(["mark", "stop", "call"]),
)
def test_a_rule_is_its_text(concept: str, side: Any, bound: float, positions: int, action: Any) -> None:
    call = print if action == "call" else None
    rule = Rule(concept, side, bound, positions, action, call)
    assert Rule.parse(str(rule), call=call) == rule


def test_what_may_be_left_out() -> None:
    assert rules("a>.5->mark") == (Rule("a", ">", 0.5, 1, "mark"),)
    assert str(Rule.parse("  a b  < 1e-3 for 2 -> stop ")) == "a b < 0.001 for 2 -> stop"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a > 0.5", "no arrow"),
        ("a 0.5 -> mark", "no > or <"),
        ("a > high -> mark", "'> high'"),
        ("a > 0.5 for three -> mark", "'> 0.5 for three'"),
        ("a > 0.5 -> shout", "'shout'"),
        ("> 0.5 -> mark", "names no concept"),
    ],
)
def test_a_text_that_is_no_rule_is_told_with_the_grammar(text: str, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Rule.parse(text)
    assert found in str(caught.value)
    assert GRAMMAR in str(caught.value)


@pytest.mark.parametrize("text", ["a > 1 -> mark", "a < 0 -> mark", "a > 1.2 -> mark", "a > -1 -> mark"])
def test_a_bound_that_nothing_is_beyond_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        Rule.parse(text)


def test_a_rule_that_calls_needs_a_function_and_no_other_has_one() -> None:
    with pytest.raises(ConfigError, match=r"Rule\.parse\(text, call=function\)"):
        Rule.parse("a > 0.5 -> call")
    with pytest.raises(ConfigError, match="expected call"):
        Rule.parse("a > 0.5 -> mark", call=print)
    with pytest.raises(ConfigError, match="1 or more"):
        Rule.parse("a > 0.5 for 0 -> mark")
    with pytest.raises(ConfigError, match=r"Rule\.parse"):
        MonitorConfig(rules=("a > 0.5 -> mark",))  # type: ignore[arg-type]


# Where a rule is met.


def is_met(rule: Rule, stream: list[float | None], at: int) -> bool:
    """The slow, obvious reference: the condition holds here and at the positions before, so many."""
    if at + 1 < rule.positions:
        return False
    window = stream[at + 1 - rule.positions : at + 1]
    return all(p is not None and (p > rule.bound if rule.side == ">" else p < rule.bound) for p in window)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("<>"), st.sampled_from([0.25, 0.5, 0.75]), st.integers(1, 5)), max_size=3
    ),
    st.lists(st.none() | st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.6, 0.75, 1.0]), max_size=40),
)
def test_a_rule_is_met_where_so_many_positions_in_a_row_hold(
    told: list[Any], stream: list[float | None]
) -> None:
    found = [Rule("a", side, bound, positions) for side, bound, positions in told]
    runs = Runs(found)
    for at, p in enumerate(stream):
        if p is None:
            runs.end()
            continue
        met = runs.push([p] * len(found))
        assert [m.rule for m in met] == [rule for rule in found if is_met(rule, stream, at)]
        assert all(m.run >= m.rule.positions and m.probability == p for m in met)


WATCHED = rules(f"{DEEP} > 0.5 for 2 -> mark", f"{BASE} < 0.5 -> mark", "c0-2-1 > 0.6 for 3 -> mark")


def test_marks_are_what_one_lens_at_a_time_says_at_every_position(pack: LensPack, model: Any) -> None:
    """Through the prompt's end, and whatever the walk scores; the reference scores everything."""
    with Monitor(pack, exhaustive=True) as everything, Monitor(pack, rules=WATCHED) as monitor:
        run(everything, model)
        run(monitor, model)
    seen = list(monitor.events)
    assert any(event.score_of(DEEP) is None for event in seen[1:]), "the walk does not always come to it"
    for rule in WATCHED:
        stream = [
            score.probability if (score := e.score_of(rule.concept)) else None for e in everything.events
        ]
        expected = [is_met(rule, stream, at) for at in range(len(stream))]
        assert [any(met.rule == rule for met in event.met) for event in seen] == expected
        assert True in expected
    assert any(met.run > event.position - PROMPT.shape[1] + 1 for event in seen[6:] for met in event.met), (
        "a run goes through the prompt's end"
    )


def test_a_rule_changes_nothing_else_that_an_event_says(pack: LensPack, model: Any) -> None:
    with Monitor(pack) as plain, Monitor(pack, rules=WATCHED) as monitor:
        tokens = run(plain, model)
        assert torch.equal(run(monitor, model), tokens)
    assert [event.content()[:-2] for event in monitor.events] == [e.content()[:-2] for e in plain.events]
    for event in monitor.events:
        for score in event.asked:
            assert event.score_of(score.id) in (None, score), "where the walk came to it, the same bits"


PLAYED = fed(
    seed=5, sequences=3, prompt=6, steps=12, hidden_size=hosts.HIDDEN, ends=(7,), not_finite=6, finish={9: 1}
)


@pytest.fixture(scope="module")
def plainly(pack: LensPack) -> list[Event]:
    with Monitor(pack, rules=WATCHED) as monitor:
        return play(monitor, PLAYED)


@pytest.mark.parametrize(
    "told",
    [
        {"hot_budget_bytes": 12_000, "warm_budget_bytes": 0, "prewarm": False},
        {"read_every": 4},
        {"missing": "deferred", "prewarm": False},
        {"missing": "deferred", "prewarm": False, "read_every": 3, "kept_budget_bytes": 0},
    ],
    ids=str,
)
def test_marks_do_not_depend_on_tiers_or_timing(
    pack: LensPack, plainly: list[Event], told: dict[str, Any]
) -> None:
    assert any(event.met for event in plainly)
    with Monitor(pack, rules=WATCHED, **told) as monitor, gated(pack) as gate:
        gate.set_open(told.get("missing") != "deferred")
        gate.watch(monitor)
        events = play(monitor, PLAYED)
    by_place = {(event.sequence, event.position): event for event in newest(events)}
    assert all(by_place[e.sequence, e.position].same_content(e) for e in plainly)
    first = {(event.sequence, event.position): event for event in reversed(events)}
    assert [first[e.sequence, e.position].met for e in plainly] == [e.met for e in plainly], "never late"


def test_each_sequence_of_a_batch_is_counted_alone_and_a_row_that_is_not_finite_ends_a_run(
    plainly: list[Event],
) -> None:
    for number in range(3):
        events = [event for event in plainly if event.sequence == number]
        assert {event.state for event in plainly} >= {"ok", "non_finite", "after_end"}
        for at, rule in enumerate(WATCHED):
            stream = [e.asked[at].probability if e.asked else None for e in events]
            expected = [is_met(rule, stream, place) for place in range(len(events))]
            assert [any(met.rule == rule for met in e.met) for e in events] == expected


def test_what_prompt_events_are_decides_where_counting_begins(pack: LensPack, model: Any) -> None:
    rule = rules(f"{BASE} > 0.0 for 3 -> mark")
    first = {}
    for told in ("full", "base", "off"):
        with Monitor(pack, rules=rule, prompt_events=told, prewarm=False) as monitor:
            run(monitor, model)
        first[told] = next(event.position for event in monitor.events if event.met)
    assert first == {"full": 3, "base": 3, "off": 6 + 2}, "BOS is no position"


# Whose rules are taken.


def test_an_unknown_concept_is_told_with_those_that_come_close(pack: LensPack) -> None:
    with pytest.raises(ConceptNotFound, match="did you mean"):
        Monitor(pack, rules=rules("c2-1-0-9 > 0.5 -> mark"))


def test_a_lens_that_is_not_calibrated_is_refused_and_one_not_measured_or_bad_is_told(pack: LensPack) -> None:
    calibrated = pack.heads.calibrated.astype(bool)
    ids = [concept.id for concept in pack.hierarchy]
    with pytest.raises(ConfigError, match="not calibrated"):
        Monitor(pack, rules=rules(f"{ids[calibrated.tolist().index(False)]} > 0.5 -> mark"))
    graded = [
        (c, Monitor(pack, rules=(Rule(c.id, ">", 0.5),)))
        for c in pack.hierarchy
        if calibrated[pack.hierarchy.index(c.id)]
    ]
    for concept, monitor in graded:
        monitor.close()
        said = "".join(monitor.warnings)
        is_measured = concept.metrics["positives"] >= 10
        assert ("was not measured" in said) == (not is_measured)
        assert ("of grade F" in said) == (is_measured and concept.metrics["auroc"] < 0.8)


def test_the_memory_of_a_rule_is_in_the_hot_budget(pack: LensPack) -> None:
    with Monitor(pack) as monitor:
        least = monitor.engine.cache.stats().hot_bytes + max(
            pack.family_bytes(f.index) for f in pack.hierarchy.families
        )
    family = pack.hierarchy.concepts[pack.hierarchy.index(DEEP)].family
    Monitor(pack, hot_budget_bytes=least).close()
    with pytest.raises(BudgetError):
        Monitor(pack, hot_budget_bytes=least, rules=WATCHED[:1])
    with Monitor(pack, hot_budget_bytes=least + pack.family_bytes(family), rules=WATCHED[:1]) as monitor:
        assert monitor.engine.cache.stats().hot_bytes >= pack.family_bytes(family)


# Stop.


def first_stop(events: list[Event], sequence: int = 0) -> Event:
    return next(event for event in events if event.sequence == sequence and event.stopped_by)


@pytest.fixture(scope="module")
def stop(pack: LensPack, model: Any) -> Rule:
    """A rule that is met first at the lowest of some positions in the midst of generation."""
    with Monitor(pack, always=(DEEP,)) as monitor:
        run(monitor, model)
    p = [event.asked[0].probability for event in list(monitor.events)[1:12]]
    assert p.index(min(p)) > 6
    return Rule(DEEP, "<", min(p) + 1e-6, 1, "stop")


def test_generation_ends_with_the_token_that_the_row_predicted(
    pack: LensPack, model: Any, stop: Rule
) -> None:
    with Monitor(pack) as plain:
        tokens = run(plain, model)
    with Monitor(pack, rules=(stop,)) as monitor:
        stopped = run(monitor, model)
    events = list(monitor.events)
    last = first_stop(events)
    assert 8 < stopped.shape[1] < tokens.shape[1]
    assert torch.equal(stopped, tokens[:, : stopped.shape[1]])
    assert (last, last.next_token) == (events[-1], int(stopped[0, -1]))
    assert [met.rule for met in last.stopped_by] == [stop]
    assert last.to_json(1)["rules"] == [
        {"rule": str(stop), "run": 1, "probability": round(last.met[0].probability, 6), "stops": True}
    ]
    with Monitor(pack, rules=(stop,)) as monitor:
        streamed = list(
            monitor.stream(model, hosts.tokenizer(), "d e f i the", max_new_tokens=10, do_sample=False)
        )
    assert [event.content()[1:] for event in streamed] == [event.content()[1:] for event in events]


def test_a_rule_that_is_met_in_the_prompt_stops_with_the_first_token(pack: LensPack, model: Any) -> None:
    always = rules(f"{BASE} > 0.0 for 2 -> stop")
    with Monitor(pack, rules=always) as monitor:
        assert run(monitor, model).shape == (1, 7)
    assert [bool(event.met) for event in monitor.events] == [False, False, True, True, True, True]
    assert [bool(event.stopped_by) for event in monitor.events] == [False] * 5 + [True]


def test_in_a_batch_only_the_sequence_that_is_stopped_ends(pack: LensPack, model: Any) -> None:
    with Monitor(pack, always=(DEEP,)) as monitor:
        plain = run(monitor, model, PROMPTS)
    streams = [[e for e in monitor.events if e.sequence == b and e.position > 3] for b in range(2)]
    highest = [max(e.asked[0].probability for e in of if e.phase == "generation") for of in streams]
    which = highest.index(max(highest))
    rule = Rule(DEEP, ">", sum(highest) / 2, 1, "stop")
    with Monitor(pack, rules=(rule,)) as monitor:
        output = run(monitor, model, PROMPTS)
    assert output.shape == plain.shape
    assert torch.equal(output[1 - which], plain[1 - which])
    end = first_stop(list(monitor.events), which)
    column = end.position + 1 + int((PROMPTS[which] == hosts.PAD).sum()) + 1
    assert torch.equal(output[which, :column], plain[which, :column])
    assert (output[which, column:] == hosts.PAD).all()
    states = {e.state for e in monitor.events if e.sequence == which and e.position > end.position}
    assert states == {"after_end"}
    with pytest.raises(UnsupportedDecoding, match="pad_token_id"), Monitor(pack, rules=(rule,)) as monitor:
        run(
            monitor,
            hosts.gemma3(pad_token_id=None),
            PROMPTS,
            pad_token_id=None,
            generation_config=_unpadded(model),
        )


def _unpadded(model: Any) -> Any:
    config = type(model.generation_config)(**model.generation_config.to_diff_dict())
    config.pad_token_id = None
    return config


def test_read_in_groups_generation_ends_later_and_says_the_same(
    pack: LensPack, model: Any, stop: Rule
) -> None:
    found = {}
    for every in (1, 3):
        with Monitor(pack, rules=(stop,), read_every=every) as monitor:
            found[every] = run(monitor, model), list(monitor.events)
    (soon, events), (late, more) = found[1], found[3]
    assert 0 <= late.shape[1] - soon.shape[1] <= 2
    assert torch.equal(late[:, : soon.shape[1]], soon)
    assert all(a.same_content(b) for a, b in zip(events, more, strict=False))
    assert [bool(e.stopped_by) for e in more].count(True) == 1


def test_a_rule_that_only_marks_leaves_generate_as_it_is(pack: LensPack, model: Any) -> None:
    seen: list[Any] = []
    original = model._get_stopping_criteria

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs.get("stopping_criteria"))
        return original(*args, **kwargs)

    model._get_stopping_criteria = spy
    try:
        with Monitor(pack, rules=WATCHED) as monitor:
            run(monitor, model, max_new_tokens=1)
        with Monitor(pack, rules=rules(f"{DEEP} > 0.5 -> stop")) as monitor:
            run(monitor, model, max_new_tokens=1)
    finally:
        del model._get_stopping_criteria
    assert [len(criteria or []) for criteria in seen] == [0, 1]


# Call.


def test_a_function_gets_each_event_at_which_its_rule_is_met_after_the_sinks(
    pack: LensPack, model: Any
) -> None:
    order: list[tuple[str, int]] = []
    rule = Rule.parse(f"{BASE} > 0.5 -> call", call=lambda event: order.append(("call", event.position)))
    with Monitor(pack, rules=(rule,)) as monitor:
        monitor.subscribe(lambda event: order.append(("sink", event.position)))
        run(monitor, model)
    met = [event.position for event in monitor.events if event.met]
    assert met
    assert [at for who, at in order if who == "call"] == met
    assert all(order.index(("sink", at)) < order.index(("call", at)) for at in met)


@pytest.mark.parametrize("settings_of", [{}, {"missing": "deferred", "prewarm": False}], ids=str)
def test_a_function_is_called_once_a_position(pack: LensPack, settings_of: dict[str, Any]) -> None:
    calls: list[tuple[int, int]] = []
    rule = Rule.parse(
        f"{BASE} > 0.3 -> call", call=lambda event: calls.append((event.sequence, event.position))
    )
    with Monitor(pack, rules=(rule,), **settings_of) as monitor:
        play(monitor, PLAYED)
    assert len(calls) == len(set(calls)) > 5


@pytest.mark.parametrize("where", ["the prompt", "generation"])
def test_what_a_function_raises_reaches_the_caller_and_leaves_no_hook(
    pack: LensPack, model: Any, where: str
) -> None:
    calls: list[int] = []

    def fail(event: Event) -> None:
        calls.append(event.position)
        if where == "the prompt" or event.phase == "generation":
            raise ZeroDivisionError("by the function")

    rule = Rule.parse(f"{BASE} > 0.0 -> call", call=fail)
    before = set(model.__dict__)
    with Monitor(pack, rules=(rule,)) as monitor:
        with pytest.raises(ZeroDivisionError, match="by the function"):
            run(monitor, model)
        positions = [event.position for event in monitor.events]
        assert positions == list(range(len(positions))), "events are out whatever the function does"
        assert positions[-1] >= calls[-1]
        with pytest.raises(ZeroDivisionError, match="by the function"):
            list(monitor.stream(model, hosts.tokenizer(), "d e f", max_new_tokens=4))
    assert set(model.__dict__) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# What is shown.


@pytest.fixture
def shown(pack: LensPack, model: Any, stop: Rule) -> Iterator[tuple[Session, list[Event]]]:
    with Monitor(pack, rules=(*WATCHED, stop)) as monitor:
        run(monitor, model)
        events = list(monitor.events)
        transcript = Transcript(hosts.tokenizer(), PROMPT[0].tolist())
        yield Session(transcript, monitor.stats, "tiny", 10, 2, rules=monitor.config.rules), events


def test_plain_lines_say_which_rules_are_met(shown: tuple[Session, list[Event]], stop: Rule) -> None:
    session, events = shown
    out = StringIO()
    with PlainView(session, out) as view:
        for event in events:
            view.add(event)
    *lines, facts = out.getvalue().splitlines()
    assert f"[stopped by: {stop}]" in lines[-1]
    assert sum("[met: " in line for line in lines) >= sum(bool(event.met) for event in events) - 1
    for rule in WATCHED:
        count = sum(any(met.rule == rule for met in event.met) for event in events)
        assert f"{rule}: met at {count} position" in facts
    assert "ended the text" in facts


def test_a_frame_underlines_words_at_which_a_rule_is_met(shown: tuple[Session, list[Event]]) -> None:
    session, events = shown
    marked = Frame(replace(session))
    bare = Frame(Session(Transcript(hosts.tokenizer(), PROMPT[0].tolist()), session.stats, "tiny", 10, 2))
    for event in events:
        marked.add(event)
        bare.add(replace(event, met=()))

    def painted(frame: Frame) -> str:
        console = Console(file=StringIO(), force_terminal=True, color_system="standard", width=110)
        for line in frame.lines(110, 24, colours=True):
            console.print(line)
        return console.file.getvalue()  # type: ignore[attr-defined]

    assert "underlined: a rule is met" in painted(marked)
    assert "\x1b[4m" in painted(marked) or ";4m" in painted(marked)
    assert "4m" not in painted(bare)
    assert "underlined" not in painted(bare)
