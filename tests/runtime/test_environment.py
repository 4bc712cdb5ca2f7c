"""What is looked at on a machine, and what each check says when things are not as they should be."""

import io
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lenses import bank, kernels
from lenses.errors import BudgetError
from runtime import environment
from runtime.environment import (
    Finding,
    check_hub,
    check_kernels,
    check_libraries,
    check_memory,
    check_terminal,
    check_threads,
    examine_machine,
    free_memory_bytes,
    refused,
)

NEEDED = ["torch>=2.11", "numba>=0.62", "cachetools>=6", "pandas>=2.2; extra == 'pandas'"]
MIB, GIB = 2**20, 2**30


def versions(**found: str) -> Any:
    def installed(name: str) -> str:
        try:
            return found[name]
        except KeyError:
            raise metadata.PackageNotFoundError(name) from None

    return installed


def console(*, encoding: str = "utf-8", **settings: Any) -> Console:
    usual = {"force_terminal": True, "width": 80, "color_system": "truecolor", "_environ": {}}
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), **(usual | settings))


def test_this_machine_holds() -> None:
    found = list(examine_machine(console()))
    assert [f.check for f in found] == ["libraries", "kernels", "threads", "hub", "terminal"]
    assert not [f for f in found if f.status == "problem"]


def test_libraries_are_named_with_their_versions() -> None:
    found = check_libraries(NEEDED, versions(torch="2.13.0+cpu", numba="0.68.1", cachetools="6"))
    assert found.status == "ok"
    assert "torch 2.13.0+cpu" in found.found
    assert "python 3." in found.found


def test_a_library_that_is_missing_or_old_is_a_problem_with_the_command_to_type() -> None:
    found = check_libraries(NEEDED, versions(torch="2.9.1", numba="0.68.1"))
    assert found.status == "problem"
    assert found.found == "torch is 2.9.1, 2.11 or later is needed; cachetools is not installed"
    assert found.advice == "pip install 'torch>=2.11' 'cachetools>=6'"


def test_numba_may_be_missing_and_extras_are_not_asked_for() -> None:
    assert check_libraries(NEEDED, versions(torch="3.0", cachetools="8.0.0")).status == "ok"


def test_without_installation_nothing_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", not_installed)
    assert check_libraries().status == "warning"


def test_nothing_is_looked_at_that_stands_on_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding("libraries", "problem", "torch is not installed", "pip install torch")
    monkeypatch.setattr(environment, "check_libraries", lambda: broken)
    assert list(examine_machine(console())) == [broken]


# Kernels.


def use_kernels(monkeypatch: pytest.MonkeyPatch, **replaced: Any) -> None:
    """Have lenses scored by the real kernels, but for those given."""
    monkeypatch.setattr(bank, "kernels", SimpleNamespace(**(vars(kernels) | replaced)))


def off_by(by: float) -> Any:
    """Kernels for linear lenses that are off by this much in one logit."""

    def score_linear(*arguments: Any) -> None:
        kernels.score_linear(*arguments)
        arguments[-1][1] += by

    return score_linear


def test_kernels_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_kernels().status == "ok"
    use_kernels(monkeypatch, score_linear=off_by(0.0))
    assert check_kernels().status == "ok", "the control that follows differs in this alone"


@pytest.mark.parametrize("by", [0.01, -5.0, np.nan])
def test_kernels_that_disagree_are_a_problem(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    use_kernels(monkeypatch, score_linear=off_by(by))
    found = check_kernels()
    assert found.status == "problem"
    assert "differ from the reference" in found.found
    assert "uninstall numba" in found.advice


def test_kernels_that_do_not_compile_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise kernels.CompileError("no LLVM for this machine\nand a page more")

    use_kernels(monkeypatch, score_mlp=fails)
    found = check_kernels()
    assert (found.status, found.found) == (
        "problem",
        "the kernels do not compile (no LLVM for this machine)",
    )


@pytest.mark.parametrize(
    ("error", "status", "advice"),
    [
        (ImportError("no numba"), "warning", "pip install numba"),
        (RuntimeError("cannot cache function"), "problem", "NUMBA_CACHE_DIR"),
    ],
)
def test_kernels_that_cannot_be_had_say_why(error: Exception, status: str, advice: str) -> None:
    def load() -> Any:
        raise error

    found = check_kernels(load)
    assert found.status == status
    assert advice in found.advice


# Threads, hub, memory.


def test_more_threads_than_cores_wait_for_each_other() -> None:
    assert check_threads(2, 2).status == "ok"
    found = check_threads(8, 2)
    assert (found.status, found.advice) == ("warning", "set OMP_NUM_THREADS=2")


def test_the_hub_is_told_of_and_not_asked() -> None:
    assert "online" in check_hub(lambda: (True, Path("cache"))).found
    offline = check_hub(lambda: (False, Path("cache")))
    assert offline.status == "ok"
    assert "HF_HUB_OFFLINE" in offline.found


def test_memory_is_enough_tight_or_too_small() -> None:
    needs = {"host_bytes": 4 * GIB, "base_bytes": 100 * MIB, "lens_bytes": 2 * GIB}
    assert check_memory(8 * GIB, **needs).status == "ok"
    tight = check_memory(5 * GIB, **needs)
    assert tight.status == "warning"
    assert "--warm-budget" in tight.advice
    assert "1 GiB" in tight.advice, "what is left beside the host"
    small = check_memory(4 * GIB, **needs)
    assert small.status == "problem"
    assert "4 GiB free" in small.found


def test_there_is_some_free_memory() -> None:
    assert 2**20 < free_memory_bytes() < 2**50


# The terminal.


def test_a_good_terminal_is_described() -> None:
    found = check_terminal(console())
    assert (found.status, found.found) == ("ok", "80 columns, truecolor colours, utf-8")


def test_no_terminal_is_no_fault() -> None:
    found = check_terminal(Console(file=io.StringIO(), force_terminal=False, _environ={}))
    assert found.status == "ok"
    assert "a line a token" in found.found


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"encoding": "ascii"}, "UTF-8"),
        ({"no_color": True}, "NO_COLOR"),
        ({"color_system": None}, "TERM="),
        ({"width": 40}, "60 columns"),
    ],
)
def test_a_terminal_that_cannot_show_all_says_how_to_change_it(settings: dict[str, Any], said: str) -> None:
    found = check_terminal(console(**settings))
    assert found.status == "warning"
    assert said in found.advice


# Findings.


def test_a_refusal_is_told_in_its_own_words() -> None:
    found = refused("budgets", BudgetError("hot budget: 1 KiB is too small; raise it; or not"))
    assert found == Finding("budgets", "problem", "hot budget: 1 KiB is too small", "raise it; or not")


def test_what_is_not_ok_says_what_to_do() -> None:
    with pytest.raises(AssertionError):
        Finding("memory", "problem", "too small")
    with pytest.raises(AssertionError):
        Finding("memory", "ok", "enough", "be glad")
