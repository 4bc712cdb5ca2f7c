"""Known scores: recorded, read back from a pack, strict about what a stranger may have written there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenses.config import HostConfig
from lenses.errors import HostError, PackFormatError
from lenses.pack import LensPack
from runtime.generate import encode
from runtime.known import PROMPT, PROVENANCE, KnownScores, difference, record, states_of, tolerance
from runtime.monitor import Monitor
from tests import hosts
from tests.packs import make_pack
from tests.watched import named_nodes


@pytest.fixture(scope="module")
def model() -> Any:
    return hosts.gemma3()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> LensPack:
    return make_pack(
        tmp_path_factory.mktemp("pack") / "plain",
        nodes=named_nodes(),
        hidden_size=hosts.HIDDEN,
        blocks=hosts.BLOCKS,
        site="resid_post.1",
        pooling="ema:0.5",
    )


def with_provenance(pack: LensPack, directory: Path, value: object) -> LensPack:
    """The same pack with this written where known scores stand."""
    config = pack.config
    layers = [pack.read_family(family) for family in range(config.families)]
    return LensPack.create(
        directory,
        host=HostConfig("tiny-host", None, hosts.HIDDEN, hosts.BLOCKS, "fp32"),
        site=config.site,
        input=config.input,
        lens=config.lens,
        base_levels=config.base_levels,
        hierarchy=pack.hierarchy,
        first_layers=layers,
        heads=pack.heads,
        provenance={PROVENANCE: value},
    )


def test_what_is_recorded_is_what_a_monitor_shows(plain: LensPack, model: Any) -> None:
    known = record(model, hosts.tokenizer(), plain)
    ids = encode(model, hosts.tokenizer(), PROMPT)["input_ids"]
    with Monitor(plain, exhaustive=True) as monitor, monitor.attach(model):
        model(ids)
        monitor.finish(0)
    event = monitor.events[-1]
    assert list(known.logits) == [score.id for score in event.top(12)]
    for score in event.top(12):
        assert known.logits[score.id] == pytest.approx(score.logit, abs=1e-4)
    assert known.tokens == tuple(ids[0].tolist())


def test_it_comes_back_from_a_pack_and_holds(plain: LensPack, model: Any, tmp_path: Path) -> None:
    known = record(model, hosts.tokenizer(), plain)
    pack = with_provenance(plain, tmp_path / "p", known.to_json())
    again = KnownScores.of(pack)
    assert again == known
    ids = encode(model, hosts.tokenizer(), PROMPT)["input_ids"]
    assert difference(model, pack, known, ids) < 1e-5 < tolerance(model, known)


def test_a_pack_may_have_none(plain: LensPack) -> None:
    assert KnownScores.of(plain) is None


GOOD = {"prompt": "a", "tokens": [2, 4], "dtype": "float32", "tolerance": 1e-3, "logits": {"person": 1.5}}


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": 7},
        {"tokens": ["x"]},
        {"logits": {}},
        {"logits": [1, 2]},
        {"logits": {"person": "high"}},
        {"logits": {"person": None}},
        {"tolerance": "some"},
        {"tolerance": [1]},
        {"prompt": 3},
        {"dtype": None},
        {"more": 1},
        {"tolerance": int("9" * 400)},
    ],
    ids=lambda change: json.dumps(change)[:30],
)
def test_what_is_not_of_the_form_is_refused(plain: LensPack, tmp_path: Path, change: dict[str, Any]) -> None:
    assert KnownScores.of(with_provenance(plain, tmp_path / "good", GOOD)) is not None
    pack = with_provenance(plain, tmp_path / "bad", GOOD | change)
    with pytest.raises(PackFormatError, match=rf"^[^\n]*{PROVENANCE}[^\n]*$"):
        KnownScores.of(pack)


def test_anything_but_an_object_is_refused(plain: LensPack, tmp_path: Path) -> None:
    with pytest.raises(PackFormatError):
        KnownScores.of(with_provenance(plain, tmp_path / "p", ["a", "list"]))


def test_another_type_is_compared_coarsely(plain: LensPack, model: Any) -> None:
    known = record(model, hosts.tokenizer(), plain)
    assert tolerance(hosts.llama().bfloat16(), known) == 0.05 > tolerance(model, known)


def test_states_are_those_that_lenses_get(plain: LensPack, model: Any) -> None:
    ids = encode(model, hosts.tokenizer(), PROMPT)["input_ids"]
    states = states_of(model, plain, ids)
    assert states.shape == (ids.shape[1] - 1, hosts.HIDDEN), "BOS has none"
    assert np.isfinite(states).all()


def test_rows_that_are_not_finite_are_refused(plain: LensPack) -> None:
    broken = hosts.gemma3()
    broken.model.layers[1].mlp.down_proj.weight.data.fill_(float("nan"))
    ids = encode(broken, hosts.tokenizer(), PROMPT)["input_ids"]
    with pytest.raises(HostError, match="not finite"):
        states_of(broken, plain, ids)
