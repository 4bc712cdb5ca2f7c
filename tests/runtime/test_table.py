"""Events as a table: every score there is, once, with the types that grouping and plotting want."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lenses.errors import ExtraMissing
from runtime.monitor import Monitor
from runtime.table import to_frame
from tests import hosts
from tests.watched import Watched, watch

COLUMNS = {
    "sequence": "int64",
    "position": "int64",
    "phase": "category",
    "token": "int64",
    "next_token": "Int64",
    "concept": "category",
    "level": "int16",
    "logit": "float32",
    "probability": "float32",
    "calibrated": "bool",
    "grade": "category",
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("pack") / "p")


def test_a_row_for_every_score(watched: Watched) -> None:
    frame = watched.monitor.to_pandas()
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS
    assert len(frame) == sum(len(event.scored) for event in watched.events)
    assert set(frame["grade"]) > {"unmeasured"}
    assert set(frame[frame["grade"] > "unmeasured"]["grade"]) == set(frame["grade"]) - {"unmeasured"}
    for event in watched.events:
        rows = frame[frame["position"] == event.position].set_index("concept")
        assert len(rows) == len(event.scored)
        for score in event.top(99):
            row = rows.loc[score.id]
            assert (row["logit"], row["probability"]) == (
                np.float32(score.logit),
                np.float32(score.probability),
            )
            assert (row["level"], row["calibrated"]) == (score.concept.level, score.calibrated)
            assert row["grade"] == score.grade
            assert (row["token"], row["next_token"], row["phase"]) == (
                event.token,
                event.next_token,
                event.phase,
            )


def test_it_survives_a_file_and_can_be_pivoted(watched: Watched, tmp_path: Path) -> None:
    frame = watched.monitor.to_pandas()
    frame.to_csv(tmp_path / "scores.csv", index=False)
    again = pd.read_csv(tmp_path / "scores.csv", dtype=COLUMNS)
    assert len(again) == len(frame)
    assert np.array_equal(again["logit"], frame["logit"])
    assert again["concept"].astype(str).tolist() == frame["concept"].astype(str).tolist()
    wide = frame.pivot(index="position", columns="concept", values="probability")
    assert wide.shape[0] == len(watched.events) - 1, "BOS has no scores"


def test_a_token_that_nothing_followed_is_missing(watched: Watched) -> None:
    model = hosts.gemma3()
    with Monitor(watched.pack) as monitor, monitor.attach(model):
        model(watched.tokenizer("the dog", return_tensors="pt")["input_ids"])
        monitor.finish(0)
        frame = monitor.to_pandas()
    assert frame["next_token"].isna().tolist() == (frame["position"] == 2).tolist()


def test_no_events_are_an_empty_table_with_all_columns(watched: Watched) -> None:
    frame = to_frame([], watched.pack)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS
    assert frame.empty


def test_without_pandas_one_line_names_the_extra(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ExtraMissing, match=r"^[^\n]*pip install 'phoropter\[pandas\]'[^\n]*$"):
        watched.monitor.to_pandas()
