"""Collecting input states: every sample says which token it has read."""

from pathlib import Path

import numpy as np
from lens_states import collect
from rich.progress import Progress

from lenses.config import InputConfig
from runtime.host import load_host
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
