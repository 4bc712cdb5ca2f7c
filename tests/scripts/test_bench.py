"""The guard end to end on small packs: it fails for contents and counters, and never for times."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import bench
import numpy as np
import pytest
from bench import main
from guarding import packs, scoring, watching
from measuring import floor

from lenses.bank import Bank
from lenses.lens import Floats
from runtime.cache import FamilyCache
from tests import hosts
from tests.packs import make_pack

PROMPT = "the dog is in the house it plays the violin"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module", autouse=True)
def _small(place: Path) -> Iterator[None]:
    """Everything as it is, in a size that takes a second."""
    make_pack(
        place / "pack",
        branching=(4, 4, 4),
        host="tiny",
        host_dir=hosts.save(hosts.gemma3(host_id="tiny"), place / "host"),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        site="resid_post.1",
        base_levels=(0,),
        top_k=3,
        load_threshold=0.05,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor, "READ_BYTES", 2**20)
        patch.setattr(packs, "HIDDEN_SIZE", 64)
        patch.setattr(scoring, "LEVELS", (2, 3, 5, 7))
        patch.setattr(scoring, "COMPACT_LEVELS", (2, 3, 5))
        patch.setattr(watching, "PROMPT", PROMPT)
        patch.setattr(bench, "PACK", place / "pack")
        patch.setattr(bench, "QUICK_ROUNDS", 2)
        yield


@pytest.fixture(scope="module")
def first(place: Path) -> tuple[Path, str]:
    """What `--update` has written where nothing was, and what it said."""
    path = place / "bench.json"
    with redirect_stdout(StringIO()) as out:
        assert main(["--quick", "--update", f"--committed={path}"]) == 0
    return path, out.getvalue()


@pytest.fixture(scope="module")
def compared(first: tuple[Path, str], place: Path) -> tuple[Path, bytes, list[str]]:
    """A committed run of times that nobody reaches, its bytes before, and what a run beside it said."""
    found = json.loads(first[0].read_text())
    for ratio in found["ratios"].values():
        ratio |= {"value": ratio["value"] / 1e6, "noise": 0.01}
    fast = place / "fast.json"
    fast.write_text(json.dumps(found))
    before = fast.read_bytes()
    with redirect_stdout(StringIO()) as out:
        assert main(["--quick", f"--committed={fast}"]) == 0
    return fast, before, out.getvalue().splitlines()


def test_a_run_is_shown_beside_the_committed_one(compared: tuple[Path, bytes, list[str]]) -> None:
    committed, before, said = compared
    found = json.loads(before)
    assert found["run"]["command"].startswith("python scripts/bench.py --quick --update")
    for name in [*found["ratios"], *found["counters"]]:
        assert any(line.startswith(name) for line in said), name
    assert committed.read_bytes() == before, "without --update nothing is written"


def test_times_that_are_bad_are_marked_and_pass_and_what_is_counted_is_the_same_in_every_run(
    compared: tuple[Path, bytes, list[str]],
) -> None:
    found = json.loads(compared[1])
    changed = json.loads(compared[2][-1])["changed"]
    assert set(changed) == found["ratios"].keys() - found["not_measured"].keys()


def test_without_a_committed_run_everything_is_new(first: tuple[Path, str]) -> None:
    *lines, last = first[1].splitlines()
    assert json.loads(last)["changed"] == []
    found = json.loads(first[0].read_text())
    assert sum(" — " in line for line in lines) == len(found["ratios"]) + len(found["counters"])


def no_prefetch(self: FamilyCache, families: object) -> None:
    """Pre-warming that does nothing: contents stay the same, nobody would notice."""


def off(self: Bank, *arguments: Any) -> Any:
    """Families scored a little wrong wherever there is more than one position."""
    logits = score_families(self, *arguments)
    several = len(arguments[2]) > 1
    return {family: found + np.float32(1e-3 * several) for family, found in logits.items()}


def base_off(self: Bank, inputs_PC: Floats) -> Floats:
    found: Floats = score_base(self, inputs_PC) + np.float32(1e-3)
    return found


score_families, score_base = Bank.score_families, Bank.score_base

FAULTS: dict[str, tuple[type, str, Callable[..., Any], str]] = {
    "pre-warming reads nothing": (
        FamilyCache,
        "prefetch",
        no_prefetch,
        "counter families read by pre-warming: 0",
    ),
    "a batch changes scores": (Bank, "score_families", off, "contents differ: "),
    "scores are not the lenses'": (Bank, "score_base", base_off, "contents differ: mlp lens"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_in_one_line_that_names_it(
    fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner, name, broken, expected = FAULTS[fault]
    monkeypatch.setattr(owner, name, broken)
    path = tmp_path / "bench.json"
    assert main(["--quick", "--update", f"--committed={path}"]) == 1
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1].startswith(f"broken: {expected}")
    assert captured.out == ""
    assert not path.exists(), "what is broken is not committed"


def test_what_the_user_can_mend_is_another_exit_code(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "pack", tmp_path / "pack")
    (tmp_path / "pack" / "config.json").unlink()
    monkeypatch.setattr(bench, "PACK", tmp_path / "pack")
    assert main(["--quick", f"--committed={tmp_path / 'none.json'}"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
