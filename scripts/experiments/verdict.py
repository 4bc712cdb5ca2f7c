"""Does pre-warming shorten prompt + 50 tokens as a whole, and if not, why: a sentence out of numbers.

Judged at the defaults otherwise (cache on, all events of the prompt), from the opening of the pack to the 50th token.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.prewarming import Cold, Pairs, compared, name_of
from runtime.clock import Component, Step

JUDGED = 50

Record = dict[str, Any]

_ANSWERS = {
    "win": "Pre-warming shortens prompt + 50 tokens as a whole",
    "regression": "Pre-warming lengthens prompt + 50 tokens as a whole",
    "noise": "Pre-warming does not measurably change prompt + 50 tokens as a whole",
}


def verdict(pairs: Pairs) -> Record:
    """The test, where the loading went, and the sentence."""
    tests = [test for test in compared(pairs) if test["length"] == JUDGED]
    test = next((test for test in tests if test["cache"] and test["prompt_events"] == "full"), None)
    if test is None:
        return {"test": None, "loading": None, "sentence": f"No run had {JUDGED} tokens: nothing is said."}
    on, off = (
        [cold for cold in pairs.runs[name_of(prewarm, True, "full")] if cold.is_so_long(JUDGED)]
        for prewarm in (True, False)
    )
    loading = {
        "prompt_on_ms": _mean(on, _prompt_ms),
        "generation_on_ms": _mean(on, _generation_ms),
        "prompt_off_ms": _mean(off, _prompt_ms),
        "generation_off_ms": _mean(off, _generation_ms),
        "total_off_ms": _mean(off, lambda cold: cold.until_ms(JUDGED)),
    }
    return {"test": test, "loading": loading, "sentence": sentence(test, loading)}


def sentence(test: Record, loading: Record) -> str:
    """The verdict in words; where it is no win, with every reason that the numbers bear out."""
    value, low, high = test["ratio"]
    said = (
        f"**{_ANSWERS[test['outcome']]}**: {value:.3f} of the time without it ({low:.3f} to {high:.3f}), "
        f"{test['difference_ms'][0]:+.1f} ms, {test['pairs']} pairs, p = {test['p']:.2g} "
        f"({test['p_holm']:.2g} after Holm). Loading takes {loading['prompt_off_ms']:.1f} ms in the prompt and "
        f"{loading['generation_off_ms']:.1f} ms after it without pre-warming, {loading['prompt_on_ms']:.1f} and "
        f"{loading['generation_on_ms']:.1f} ms with it."
    )
    if test["outcome"] == "win":
        return said
    off_ms = loading["prompt_off_ms"] + loading["generation_off_ms"]
    saved_ms = off_ms - loading["prompt_on_ms"] - loading["generation_on_ms"]
    why = [
        f"all loading is {100 * off_ms / loading['total_off_ms']:.1f} % of the {loading['total_off_ms']:.0f} ms, "
        "and no more than that could be saved"
    ]
    if saved_ms <= 0:
        why.append("reading ahead took no less time than reading each family when it was met")
    else:
        why.append(f"the {saved_ms:.1f} ms of loading that it saved are within what runs differ by")
    if loading["generation_off_ms"] <= loading["prompt_off_ms"]:
        why.append(
            "most of the loading is the prompt's own, whose events need it with pre-warming or without"
        )
    return f"{said} Why not: {'; '.join(why)}."


def _prompt_ms(cold: Cold) -> float:
    return sum(map(_loading_ms, cold.steps("prompt")))


def _generation_ms(cold: Cold) -> float:
    return sum(map(_loading_ms, cold.steps("generation")[: JUDGED - 1]))


def _loading_ms(step: Step) -> float:
    return sum(step.parts_ms.get(part, 0.0) for part in (Component.COLD, Component.WARM, Component.PREWARM))


def _mean(runs: Sequence[Cold], value: Callable[[Cold], float]) -> float:
    return float(np.mean([value(cold) for cold in runs]))
