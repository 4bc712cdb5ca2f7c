"""Alarms of a watched generation: those above their thresholds, counted once, shown in every view with the promise."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from lenses.alarms import alarm_budget
from lenses.calibration import log_odds
from lenses.errors import ConfigError, PackFormatError
from lenses.grade import grade
from lenses.lens import Heads
from lenses.pack import LensPack
from runtime.alarms import Alarms
from runtime.display import PlainView
from runtime.frame import Frame
from runtime.sink import JsonLines
from tests.packs import make_pack
from tests.watched import Watched, watch

BUDGET = 60.0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("alarms") / "p", null_texts=400)


def test_an_alarm_is_a_score_above_its_lens_threshold_and_of_a_good_lens(watched: Watched) -> None:
    pack = watched.pack
    alarms = Alarms(pack, BUDGET)
    bound = alarm_budget(pack.hierarchy, pack.heads, BUDGET).threshold_N
    seen = 0
    for event in watched.events:
        found = {score.id for score in alarms.of(event)}
        odds = log_odds(
            event.logits, pack.heads.platt_slope[event.scored], pack.heads.platt_offset[event.scored]
        )
        assert found == {
            pack.hierarchy.concepts[n].id
            for n, value in zip(event.scored, odds, strict=True)
            if value > bound[n]
        }
        for score in alarms.of(event):
            assert score.vouched
            assert grade(score.concept.metrics) in "ABCD"
        seen += len(found)
    assert 0 < seen < sum(len(event.scored) for event in watched.events)


def test_alarms_are_counted_once_a_position_and_the_promise_is_said(watched: Watched) -> None:
    alarms = Alarms(watched.pack, BUDGET)
    for event in [*watched.events, *watched.events]:  # a later revision takes the place of the earlier
        alarms.add(event)
    scored = [event for event in watched.events if event.state == "ok"]
    assert alarms.tokens == len(scored) < len(watched.events)
    assert alarms.count == sum(len(alarms.of(event)) for event in scored)
    said = str(alarms)
    assert said.startswith(f"{alarms.count} alarms in {alarms.tokens} tokens")
    assert f"promised at most {alarms.promise.at_most:.3g} per 1,000" in said


def test_every_view_shows_them_and_ends_with_the_promise(watched: Watched, tmp_path: Path) -> None:
    alarms = Alarms(watched.pack, BUDGET)
    session = watched.session()
    session.alarms = alarms
    out = StringIO()
    with PlainView(session, out) as view:
        for event in watched.events:
            view.add(event)
    *lines, last = out.getvalue().splitlines()
    assert str(alarms) in last
    loud = [event for event in watched.events if alarms.of(event)]
    assert sum("[ALARM: " in line for line in lines) >= len(loud) > 0

    with JsonLines(tmp_path / "out.jsonl", show=2, alarms=alarms) as sink:
        for event in watched.events:
            sink(event)
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for event, line in zip(watched.events, written, strict=True):
        assert [one["id"] for one in line["alarms"]] == [score.id for score in alarms.of(event)]

    session = watched.session()
    session.alarms = Alarms(watched.pack, BUDGET)
    frame = Frame(session)
    for event in watched.events[: watched.events.index(loud[-1]) + 1]:
        frame.add(event)
    picture = frame.lines(100, None, colours=True)
    text = "\n".join(line.plain for line in picture)
    assert f"{alarms.of(loud[-1])[0].probability:.2f}! " in text
    assert "! alarm" in text
    assert "promised at most" in text
    assert any("reverse" in str(span.style) for line in picture for span in line.spans)
    quiet = Frame(watched.session())
    quiet.add(loud[-1])
    assert "alarm" not in "\n".join(line.plain for line in quiet.lines(100, None, colours=True))


def test_a_pack_without_null_thresholds_never_alarms_and_says_so(tmp_path: Path) -> None:
    alarms = Alarms(make_pack(tmp_path / "p"), BUDGET)
    assert np.isinf(alarms.promise.threshold_N).all()
    assert str(alarms).startswith("no alarms: no lens of this pack")


def test_thresholds_survive_the_disk_and_a_damaged_curve_is_refused(tmp_path: Path) -> None:
    made = make_pack(tmp_path / "p", null_texts=400)
    again = LensPack.from_pretrained(tmp_path / "p")
    for pack in (again, made.save_as(tmp_path / "q", "int8")):
        assert pack.heads.alarm_curve is not None
        assert np.array_equal(pack.heads.alarm_curve, made.heads.alarm_curve)  # type: ignore[arg-type]
        found, expected = (alarm_budget(one.hierarchy, one.heads, BUDGET) for one in (pack, made))
        assert np.array_equal(found.threshold_N, expected.threshold_N)
        assert pack.lens(0).heads.alarm_curve is pack.heads.alarm_curve
    lens = made.config.lens
    for shape in ((0, 3), (5, 2), (3,), ()):
        wrong = made.heads.tensors() | {"alarm_curve": np.zeros(shape, np.float32)}
        with pytest.raises(PackFormatError, match="alarm_curve has shape"):
            Heads.from_tensors(wrong, lens, made.config.host.hidden_size, len(made.hierarchy))
    with pytest.raises(ConfigError, match="null corpus can promise"):
        Alarms(made, 1e-6)
