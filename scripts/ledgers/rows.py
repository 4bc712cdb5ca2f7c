"""Samples of the ledger as rows: mean and spread of each part, what differs from the baseline, and what that is worth.

    prefill      from the call to the first token
    generation   from there to the return
    total        both; the verdict is on the total (`measuring.comparing`), Holm's correction over all rows
    delta        of means, in milliseconds and per cent
    fixed        what a call costs before its first token, and `per token`: from runs of two lengths

Knows numbers only. Shape: R rounds.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from measuring.comparing import Verdict, verdicts
from measuring.lengths import two_lengths
from measuring.rounds import Rounds
from measuring.samples import Summary

from ledgers.agreement import Agreement
from lenses.metrics import Doubles

Record = dict[str, Any]
PARTS = ("prefill", "generation", "total")


@dataclass(frozen=True, slots=True)
class Timed:
    """The samples of one variant."""

    name: str
    changes: str
    prefill_ms_R: Doubles
    generation_ms_R: Doubles
    short_ms_R: Doubles
    """Whole runs of the shorter length."""
    agreement: Agreement

    @property
    def ms(self) -> dict[str, Doubles]:
        """By name of `PARTS`."""
        return {
            "prefill": self.prefill_ms_R,
            "generation": self.generation_ms_R,
            "total": self.prefill_ms_R + self.generation_ms_R,
        }


def ledger_rows(
    timed: Sequence[Timed], *, short_tokens: int, long_tokens: int, seed: int = 0
) -> list[Record]:
    """A row a variant; the first is the baseline. Raises ConfigError where the rounds are too few to decide."""
    baseline = timed[0]
    total = Rounds({one.name: one.ms["total"] for one in timed})
    found: dict[str, Verdict] = {one.name: one for one in verdicts(total, baseline.name, seed=seed)}
    means = {part: float(ms_R.mean()) for part, ms_R in baseline.ms.items()}
    return [
        _row(one, found.get(one.name), means, two_lengths(
            one.short_ms_R, one.ms["total"], short_items=short_tokens, long_items=long_tokens, seed=seed
        ).to_json())
        for one in timed
    ]  # fmt: skip


def _row(one: Timed, verdict: Verdict | None, baseline_ms: dict[str, float], parts: Record) -> Record:
    ms = {part: Summary.of(ms_R) for part, ms_R in one.ms.items()}
    row: Record = {
        "name": one.name,
        "changes": one.changes,
        "n": ms["total"].n,
        "ms": {part: summary.to_json() for part, summary in ms.items()},
        **parts,
        "agreement": asdict(one.agreement),
    }
    if verdict is None:
        return row | {"delta": None, "verdict": None, "interpretation": "everything else is held against it"}
    delta = {
        part: {
            "ms": ms[part].mean - baseline_ms[part],
            "percent": 100 * (ms[part].mean / baseline_ms[part] - 1),
        }
        for part in PARTS
    }
    return row | {
        "delta": delta,
        "verdict": verdict.to_json(),
        "interpretation": interpretation(verdict, {part: delta[part]["percent"] for part in PARTS}),
    }


def interpretation(verdict: Verdict, percent: dict[str, float]) -> str:
    """What a row says, in a sentence."""
    low, high = (100 * (bound - 1) for bound in (verdict.ratio.low, verdict.ratio.high))
    if verdict.outcome == "noise":
        return f"{verdict.n} rounds do not tell it from noise: the median by {low:+.1f} % to {high:+.1f} %"
    word = "faster" if verdict.outcome == "win" else "slower"
    where = " and ".join(f"{part} {percent[part]:+.1f} %" for part in PARTS[:2])
    return f"{word}, the median by {low:+.1f} % to {high:+.1f} %: {where}"
