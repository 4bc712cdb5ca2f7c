"""From samples to verdicts, end to end: what is faster in every round wins, what is not stays noise."""

import numpy as np
import pytest
from ledgers.agreement import Agreement
from ledgers.rows import Record, Timed, ledger_rows
from pages.files import plain
from pages.ledger_report import markdown

from lenses.errors import ConfigError

ROUNDS, SHORT, LONG = 10, 4, 20
FIXED_MS, TOKEN_MS = 30.0, 5.0


def timed(name: str, *, fixed_ms: float = FIXED_MS, token_ms: float = TOKEN_MS, seed: int = 0) -> Timed:
    """Samples of a known cost, in rounds of which some are slower for all."""
    drift_R = np.linspace(1.0, 1.3, ROUNDS)
    noise_R = 1 + 0.002 * np.random.default_rng(seed).standard_normal(ROUNDS)
    return Timed(
        name,
        f"what {name} changes",
        fixed_ms * drift_R * noise_R,
        LONG * token_ms * drift_R * noise_R,
        (fixed_ms + SHORT * token_ms) * drift_R * noise_R,
        Agreement(1e-6, 0, 0),
    )


def rows() -> dict[str, Record]:
    found = ledger_rows(
        [
            timed("baseline", seed=1),
            timed("again", seed=2),
            timed("faster tokens", token_ms=4.5, seed=3),
            timed("slower prompt", fixed_ms=60.0, seed=4),
        ],
        short_tokens=SHORT,
        long_tokens=LONG,
    )
    return {row["name"]: row for row in found}


def test_verdicts_follow_the_samples() -> None:
    found = rows()
    assert found["baseline"]["verdict"] is None
    outcomes = {name: row["verdict"]["outcome"] for name, row in found.items() if row["verdict"]}
    assert outcomes == {"again": "noise", "faster tokens": "win", "slower prompt": "regression"}
    for row in found.values():
        assert row["n"] == ROUNDS


def test_deltas_are_of_means_in_milliseconds_and_per_cent() -> None:
    found = rows()
    delta = found["slower prompt"]["delta"]
    assert delta["prefill"]["percent"] == pytest.approx(100, abs=1)
    assert delta["prefill"]["ms"] == pytest.approx(found["baseline"]["ms"]["prefill"]["mean"], rel=0.01)
    assert delta["generation"]["percent"] == pytest.approx(0, abs=1)
    assert delta["total"]["ms"] == pytest.approx(delta["prefill"]["ms"] + delta["generation"]["ms"])
    assert found["faster tokens"]["delta"]["generation"]["percent"] == pytest.approx(-10, abs=1)
    assert "prefill +" in found["slower prompt"]["interpretation"]


def test_fixed_and_per_token_cost_come_out_of_two_lengths() -> None:
    median_drift = float(np.median(np.linspace(1.0, 1.3, ROUNDS)))
    for name, fixed_ms, token_ms in (("baseline", FIXED_MS, TOKEN_MS), ("slower prompt", 60.0, TOKEN_MS)):
        row = rows()[name]
        assert row["fixed_ms"][0] == pytest.approx(fixed_ms * median_drift, rel=0.03)
        assert row["per_item_ms"][0] == pytest.approx(token_ms * median_drift, rel=0.03)


def test_too_few_rounds_to_decide_are_refused() -> None:
    few = [
        Timed(one.name, "", one.prefill_ms_R[:3], one.generation_ms_R[:3], one.short_ms_R[:3], Agreement())
        for one in (timed("baseline"), timed("other"))
    ]
    with pytest.raises(ConfigError, match="3 rounds cannot tell"):
        ledger_rows(few, short_tokens=SHORT, long_tokens=LONG)


def test_the_page_has_a_line_for_every_row_also_those_that_did_not_run() -> None:
    run = {
        "command": "python scripts/ledger.py",
        "run": "now",
        "seconds": 1.0,
        "configuration": {
            "host": "h",
            "host_dtype": "float32",
            "pack": "p" * 64,
            "lenses": 5,
            "new_tokens": [SHORT, LONG],
        },
        "configuration_sha256": "0" * 64,
        "commit": "c",
        "hardware": {"cores": 2},
        "versions": {"torch": "2"},
    }
    report = {
        "run": run,
        "quick": False,
        "events": 29,
        "base_lenses": 3,
        "rounds": ROUNDS,
        "baseline": "baseline",
        "control": "it did",
        "rows": [*rows().values(), {"name": "compiled", "changes": "c", "reason": "no C++ compiler here"}],
    }
    page = markdown(plain(report, 6))
    for name in ("baseline", "again", "faster tokens", "slower prompt", "compiled"):
        assert f"| {name} |" in page
    assert "not run: no C++ compiler here" in page
    assert "10 tokens of prompt, 20 new ones" in page
    assert page.count("| win |") == page.count("| regression |") == page.count("| noise |") == 1
