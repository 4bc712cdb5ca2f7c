"""The file: what is written is what is read, and whatever else is read is refused in one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from lenses.errors import RecordingError
from lenses.pack import LensPack
from runtime.monitor import Monitor
from runtime.recording import recording as format
from runtime.recording.calls import Began, Ended, Fed
from runtime.recording.recording import Recording
from runtime.rules import Rule
from tests.fed import fed
from tests.packs import make_pack
from tests.recorded import recorded


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(tmp_path_factory.mktemp("packs") / "mine", branching=(3, 2, 2), base_levels=(0,))


@pytest.fixture(scope="module")
def written(pack: LensPack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in which everything occurs: a batch with padding, an end, a row that is not finite, a rule that is met."""
    told = fed(seed=3, sequences=2, prompt=4, steps=6, hidden_size=16, ends=(2,), not_finite=4)
    rule = Rule.parse(f"{_calibrated(pack)} > 0.0 for 2 -> mark")
    with Monitor(pack, rules=(rule,)) as monitor:
        recording, events = recorded(monitor, told)
    assert {event.state for event in events} == {"ok", "after_end", "non_finite"}
    assert any(event.met for event in events)
    path = tmp_path_factory.mktemp("file") / "run.safetensors"
    recording.save(path)
    return path


def _calibrated(pack: LensPack) -> str:
    return next(
        c.id for c, is_so in zip(pack.hierarchy.concepts, pack.heads.calibrated, strict=True) if is_so
    )


def same(a: Recording, b: Recording) -> bool:
    """Whether two recordings hold the same, whatever their bytes are."""
    return (
        a.about == b.about
        and a.words == b.words
        and len(a.calls) == len(b.calls)
        and all(_same_call(one, other) for one, other in zip(a.calls, b.calls, strict=True))
        and a.seen.texts() == b.seen.texts()
        and all(
            np.array_equal(array, b.seen.tensors()[name], equal_nan=array.dtype.kind == "f")
            and array.dtype == b.seen.tensors()[name].dtype
            for name, array in a.seen.tensors().items()
        )
    )


def _same_call(a: object, b: object) -> bool:
    match a, b:
        case Began(one), Began(other):
            return np.array_equal(one.prompt_BT, other.prompt_BT) and one.eos_ids == other.eos_ids
        case Ended(None), Ended(None):
            return True
        case Ended(one), Ended(other):
            return np.array_equal(one, other)  # type: ignore[arg-type]
        case Fed(), Fed():
            rows = torch.equal(a.rows_RD.nan_to_num(9), b.rows_RD.nan_to_num(9))  # type: ignore[union-attr]
            tokens = np.array_equal(a.token_BT, b.token_BT) and np.array_equal(a.mask_BT, b.mask_BT)
            return rows and tokens and a.begins == b.begins
    return False


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**32),
            "sequences": st.integers(1, 3),
            "prompt": st.integers(1, 5),
            "steps": st.integers(0, 5),
            "not_finite": st.integers(0, 2),
        }
    ),
    config=st.fixed_dictionaries(
        {
            "prompt_events": st.sampled_from(["full", "base", "off"]),
            "exhaustive": st.booleans(),
            "read_every": st.integers(1, 3),
            "top_k": st.none() | st.integers(1, 4),
        }
    ),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_what_is_read_is_what_was_written(
    pack: LensPack, tmp_path: Path, script: dict[str, Any], config: dict[str, Any], dtype: torch.dtype
) -> None:
    told = fed(hidden_size=16, **script)
    told.rows_BTD = told.rows_BTD.to(dtype)
    with Monitor(pack, **config) as monitor:
        recording, _ = recorded(monitor, told)
    host = replace(recording.about.host, dtype=str(dtype).removeprefix("torch."))
    recording = replace(recording, about=replace(recording.about, host=host))
    recording.save(tmp_path / "run")
    found = Recording.load(tmp_path / "run")
    assert same(found, recording)
    assert str(found) == str(recording)


def test_it_is_a_plain_safetensors_file(written: Path) -> None:
    with safe_open(written, framework="pt") as file:
        rows = file.get_tensor("rows")
        said = json.loads(file.metadata()["json"])
    assert (rows.dtype, rows.shape[1]) == (torch.float32, 16)
    assert said["about"]["pack"]["name"] == "mine"
    assert said["about"]["config"]["rules"][0].endswith("> 0.0 for 2 -> mark")


# What is no recording.


def _refused(path: Path) -> str:
    with pytest.raises(RecordingError) as refused:
        Recording.load(path)
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    assert "; " in message, "a message says what to do"
    return message


def test_other_files_are_refused(written: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n")
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign")
    save_file({"a": torch.zeros(2)}, tmp_path / "newer", {format.MARK: "2"})
    (tmp_path / "cut").write_bytes(written.read_bytes()[:-100])
    assert "there is no such file" in _refused(tmp_path / "none")
    assert "no regular file" in _refused(tmp_path)
    assert "no safetensors file" in _refused(tmp_path / "text")
    assert "but no recording" in _refused(tmp_path / "foreign")
    assert "of version '2', this phoropter reads 1" in _refused(tmp_path / "newer")
    assert "cut short" in _refused(tmp_path / "cut")


def test_a_byte_that_was_changed_anywhere_is_noticed(written: Path, tmp_path: Path) -> None:
    raw = written.read_bytes()
    for at in range(8, len(raw), len(raw) // 40):
        (tmp_path / "edited").write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        _refused(tmp_path / "edited")


def _edit(
    written: Path, path: Path, edit: Callable[[dict[str, torch.Tensor], dict[str, Any]], object]
) -> None:
    """Write the file anew with something else in it, and the hash of that."""
    with safe_open(written, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        said = json.loads(file.metadata()["json"])
    edit(tensors, said)
    text = json.dumps(said)
    save_file(tensors, path, {format.MARK: "1", "json": text, "sha256": format._sha256(text, tensors)})


def _put(name: str, at: Any, value: float) -> Callable[[dict[str, torch.Tensor], dict[str, Any]], None]:
    def edit(tensors: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
        tensors[name][at] = value

    return edit


def _cut(name: str) -> Callable[[dict[str, torch.Tensor], dict[str, Any]], None]:
    def edit(tensors: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
        tensors[name] = tensors[name][:-1].clone()

    return edit


def _say(*path: Any, value: Any) -> Callable[[dict[str, torch.Tensor], dict[str, Any]], None]:
    def edit(_: dict[str, torch.Tensor], said: dict[str, Any]) -> None:
        for key in path[:-1]:
            said = said[key]
        said[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda tensors, _: tensors.pop("met"), "lacks the tensor 'met'"),
        (lambda tensors, _: tensors.update(more=torch.zeros(1)), "has a tensor 'more'"),
        (lambda tensors, _: tensors.update(met=tensors["met"].float()), "tensor met is float32"),
        (
            lambda tensors, _: tensors.update(rows=tensors["rows"][0]),
            "tensor rows is float32 of 1 dimensions",
        ),
        (lambda tensors, _: tensors.update(rows=tensors["rows"][:, :3].clone()), "hidden size"),
        (lambda tensors, _: tensors.update(rows=tensors["rows"].bfloat16()), "not of the host's type"),
        (_put("event.phase", 0, 2), "a phase that cannot be"),
        (_put("event.state", 0, 4), "a state that cannot be"),
        (_put("event.token", 0, -1), "a token that cannot be"),
        (_put("event.scored", 2, 10**6), "do not add up"),
        (_put("event.lens_ms", 0, float("nan")), "a time that cannot be"),
        (_put("score.concept", 0, 99), "of no concept"),
        (_put("score.concept", 1, 0), "not in order"),
        (_put("score.begin", 1, -5), "do not begin and end"),
        (_put("met", (0, 1), 7), "a rule is met that cannot be"),
        (_put("call.kind", 1, 9), "a call of no kind"),
        (_put("call.columns", 1, 2**40), "a shape that cannot be"),
        (_put("call.sequences", 2, 1), "follows no other"),
        (_put("call.begins", 1, 0), "follows no other"),
        (_put("cell.mask", 0, 2), "a token or mask"),
        (_cut("cell.token"), "less than its calls say"),
        (_cut("rows"), "less than its calls say"),
        (_cut("event.at_ms"), "gaps"),
        (_cut("concept.slope"), "calibration differ"),
        (
            _say("about", "host", "hidden_size", value="16"),
            "about.host.hidden_size is '16', expected a whole number",
        ),
        (_say("about", "host", "more", value=1), "expected id, revision"),
        (_say("about", "config", "top_k", value=0), "about.config: top-k 0 is too small"),
        (_say("about", "config", "rules", 0, value="nonsense"), "has no arrow"),
        (_say("about", "config", "prompt_events", value="some"), "expected full or base or off"),
        (_say("about", "stats", "positions", "ok", value=None), "about.stats.positions.ok is None"),
        (_say("about", "generations", value=[]), "fewer plans"),
        (_say("seen", "asked", value=[]), "asked for"),
        (_say("seen", "concepts", 0, value=["a"]), "seen.concepts[0]"),
        (_say("words", "decoded", value={}), "words.decoded is {}, expected a list"),
    ],
)
def test_what_does_not_hold_together_is_refused(
    written: Path, tmp_path: Path, edit: Callable[..., object], found: str
) -> None:
    _edit(written, tmp_path / "edited", edit)
    assert found in _refused(tmp_path / "edited")
