"""Collecting input states: every sample says which token it has read; several inputs come out of one forward."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress

from lenses.config import InputConfig
from runtime.host import load_host
from runtime.training import states as lens_states
from runtime.training.states import States, collect, stream
from tests import hosts


def test_each_sample_names_its_text_and_the_token_it_has_read(tmp_path: Path) -> None:
    host = load_host(hosts.save(hosts.gemma3(), tmp_path / "host"), device="cpu")
    texts = ["the dog sits", "it is", "the cat sits in the house"]
    with Progress(disable=True) as progress:

        def found(some: list[str], positions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
            states = collect(
                host,
                some,
                site="resid_post.1",
                config=InputConfig(pooling="ema:0.5"),
                positions=positions,
                seed=0,
                progress=progress,
                title="states",
            )
            return states.text_S, states.at_S, states.last_S, states.states_SD

        text, at, last, everything = found(texts, 1000)
        lengths = [3, 2, 6]
        for x, length in enumerate(lengths):
            assert at[text == x].tolist() == list(range(1, length + 1))  # BOS is token 0 and has no state
            assert at[(text == x) & last].tolist() == [length]
        text_2, at_2, _, few = found(texts, 2)
        where = {(x, t): n for n, (x, t) in enumerate(zip(text.tolist(), at.tolist(), strict=True))}
        same = [where[pair] for pair in zip(text_2.tolist(), at_2.tolist(), strict=True)]
        np.testing.assert_array_equal(few, everything[same])


def test_several_inputs_out_of_one_forward_are_what_each_gives_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lens_states, "BATCH_TOKENS", 16)  # several batches
    host = load_host(hosts.save(hosts.gemma3(), tmp_path / "host"), device="cpu")
    texts = ["the dog sits", "it is", "the cat sits in the house", "a b c d", "violin"]
    inputs = [
        (site, InputConfig(norm=norm, pooling=pooling))
        for site in ("resid_post.2", "resid_post.0")
        for norm, pooling in (("layer", "token"), ("layer", "mean"), ("rms", "ema:0.5"))
    ]
    forwards: list[int] = []
    host.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    with Progress(disable=True) as progress:
        how = {"positions": 2, "seed": 3, "progress": progress, "title": "states"}
        batches = list(stream(host, texts, inputs=inputs, **how))
        assert not torch.is_inference_mode_enabled()
        assert len(batches) == len(forwards) > 1
        together = [States.joined(pieces) for pieces in zip(*batches, strict=True)]
        for (site, config), found in zip(inputs, together, strict=True):
            alone = collect(host, texts, site=site, config=config, **how)
            for name in ("states_SD", "text_S", "last_S", "at_S"):
                np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
    assert not np.array_equal(together[0].states_SD, together[3].states_SD), "two sites, two states"
    assert not np.array_equal(together[0].states_SD, together[1].states_SD), "two poolings, two states"


def test_the_host_computes_no_further_than_the_deepest_site(tmp_path: Path) -> None:
    host = load_host(hosts.save(hosts.gemma3(), tmp_path / "host"), device="cpu")
    ran: list[int] = []
    for index, block in enumerate(host.model.model.layers):
        block.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
    with Progress(disable=True) as progress:
        inputs = [(f"resid_post.{n}", InputConfig()) for n in (1, 0)]
        how = {"positions": 2, "seed": 0, "progress": progress, "title": "states"}
        list(stream(host, ["the dog", "it is"], inputs=inputs, **how))
    assert set(ran) == {0, 1}
