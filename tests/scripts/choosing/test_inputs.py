"""Ridge regression on the states of many inputs out of one forward, against one input at a time."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from choosing.inputs import Told, compare, fit
from judging.controls import RIDGE_PENALTY
from judging.ridge import Moments
from rich.progress import Progress

from lenses.concept import Hierarchy
from lenses.config import InputConfig
from runtime.host import Host, load_host
from runtime.training import states as lens_states
from runtime.training.states import Input, collect, stream
from tests import hosts

INPUTS: list[Input] = [
    (f"resid_post.{block}", InputConfig(norm="layer", pooling=pooling))
    for block in range(hosts.BLOCKS)
    for pooling in ("token", "ema:0.5", "mean")
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return load_host(hosts.save(hosts.gemma3(), tmp_path_factory.mktemp("host")), device="cpu")


@pytest.fixture(scope="module")
def progress() -> Iterator[Progress]:
    with Progress(disable=True) as shown:
        yield shown


def told(count: int, seed: int) -> Told:
    """Texts of random words; of `dog`, of `cat`, or of neither."""
    rng = np.random.default_rng(seed)
    words = np.array([*"abcdefgh", "dog", "cat"])
    texts = [" ".join(rng.choice(words, size=rng.integers(2, 9))) for _ in range(count)]
    return Told(texts, np.array([["dog" in text, "cat" in text] for text in texts]))


def test_many_inputs_at_once_are_one_input_at_a_time(
    host: Host, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lens_states, "BATCH_TOKENS", 64)  # several batches
    some = told(80, seed=1)
    how = {"positions": 3, "seed": 2, "progress": progress, "title": "states"}
    together = fit(stream(host, some.texts, inputs=INPUTS, **how), some.positive_XN, len(INPUTS))
    for (site, config), weight_DN in zip(INPUTS, together, strict=True):
        states = collect(host, some.texts, site=site, config=config, **how)
        moments = Moments(hosts.HIDDEN, 2)
        moments.add(torch.from_numpy(states.states_SD), torch.from_numpy(some.positive_XN[states.text_S]))
        alone_DN = moments.solve(RIDGE_PENALTY).numpy()
        np.testing.assert_allclose(weight_DN, alone_DN, rtol=0, atol=1e-3 * np.abs(alone_DN).max())
    apart = np.abs(together[0] - together[3]).max()
    assert apart > 0.1 * np.abs(together[0]).max(), "another site, other weights"


def test_each_input_has_the_metrics_that_it_has_alone(host: Host, progress: Progress) -> None:
    hierarchy = Hierarchy.build([("dog", "dog", None), ("cat", "cat", None)])
    train, validation = told(80, seed=1), told(70, seed=5)
    how = {"positions": 3, "seed": 2, "progress": progress}
    together = list(compare(host, INPUTS, train, validation, hierarchy, **how))
    assert len(together) == len(INPUTS)
    for one, found in zip(INPUTS, together, strict=True):
        (alone,) = compare(host, [one], train, validation, hierarchy, **how)
        assert found == alone
    assert len({found["score"] for found in together}) > len(INPUTS) // 2
    assert max(found["auroc_text_median"] for found in together) > 0.7
