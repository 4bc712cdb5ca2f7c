"""A verdict says at the text what the pack says of its lens, and what it says of tokens is of all of them."""

import numpy as np
import pytest
from judging.redrawn import Redrawn
from judging.verdicts import CONTROLS, LENS, HeldOut, judge

from lenses.calibration import sigmoid
from lenses.concept import Hierarchy
from lenses.metrics import concept_metrics


def test_the_report_and_the_pack_say_the_same_of_a_lens() -> None:
    hierarchy = Hierarchy.build([("top", "top", None), ("a", "a", "top"), ("b", "b", "top")])
    rng = np.random.default_rng(0)
    positive_XN = np.zeros((200, 3), np.bool_)
    positive_XN[:120, hierarchy.index("top")] = True
    positive_XN[:40, hierarchy.index("a")] = True
    positive_XN[40:90, hierarchy.index("b")] = True
    # Three tokens a text; only the last is at the text.
    text_S = np.repeat(np.arange(200), 3)
    last_S = np.arange(600) % 3 == 2
    logits_SN = rng.normal(size=(600, 3)).astype(np.float32)
    logits_SN += last_S[:, None] * positive_XN[text_S]
    redrawn = Redrawn.of(200, rng, draws=5)
    held_out = HeldOut(text_S, last_S, positive_XN, np.ones((200, 3), np.bool_), redrawn)
    said = concept_metrics(hierarchy, logits_SN[last_S], sigmoid(logits_SN[last_S]), positive_XN)
    for n in range(3):
        scores = dict.fromkeys((LENS, *CONTROLS), logits_SN[:, n])
        verdict = judge(hierarchy, n, scores, sigmoid(logits_SN[:, n]), held_out, seed=0)
        text = verdict.record["text"]
        area = text["auroc"]
        found = text | {"auroc": area.value, "auroc_low": area.low, "auroc_high": area.high}
        if "auroc_siblings" in text:
            found["auroc_siblings"] = text["auroc_siblings"].value
        for name, value in said[n].items():
            if name.startswith("calibration_error_"):  # the report's interval is by drawing texts anew
                continue
            assert name == "positives" or found[name] == pytest.approx(value, abs=6e-5), name
        assert verdict.record["tokens"]["positives"] == 3 * said[n]["positives"]
        assert verdict.record["tokens"]["auroc"].value < area.value
