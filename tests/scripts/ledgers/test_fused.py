"""A host with fused projections computes what it computed before, and is given back as it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ledgers.fused import FusedQKV
from torch import nn

from lenses.errors import HostError
from tests import hosts


def tokens() -> torch.Tensor:
    return torch.randint(3, hosts.VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "make", [hosts.gemma3, hosts.llama, hosts.qwen2], ids=["gemma3", "llama", "qwen2, bias"]
)
def test_a_fused_host_gives_the_logits_of_the_host(make: Callable[[], Any]) -> None:
    model = make()
    with torch.inference_mode():
        before = model(tokens()).logits
        with FusedQKV(model):
            fused = model(tokens()).logits
            generated = model.generate(tokens()[:1], max_new_tokens=5, do_sample=False)
        after = model(tokens()).logits
        expected = model.generate(tokens()[:1], max_new_tokens=5, do_sample=False)
    assert fused == pytest.approx(before, abs=1e-4)
    assert torch.equal(generated, expected)
    assert torch.equal(after, before)


def test_the_three_projections_run_as_one() -> None:
    model = hosts.gemma3()
    ran: list[nn.Module] = []
    handles = [
        m.register_forward_hook(lambda module, *_: ran.append(module))
        for m in model.modules()
        if isinstance(m, nn.Linear)
    ]
    model(tokens())
    bare = len(ran)
    ran.clear()
    with FusedQKV(model):
        model(tokens())
    assert bare - len(ran) == 3 * hosts.BLOCKS
    for handle in handles:
        handle.remove()


def test_a_host_is_given_back_after_an_exception_and_can_be_fused_again() -> None:
    model = hosts.gemma3()
    names, modules = [name for name, _ in model.named_modules()], list(model.modules())
    fused = FusedQKV(model)
    for _ in range(2):
        with pytest.raises(KeyError), fused:
            raise KeyError
        assert [name for name, _ in model.named_modules()] == names
        assert all(a is b for a, b in zip(model.modules(), modules, strict=True))


def test_a_host_without_such_projections_is_refused() -> None:
    with pytest.raises(HostError, match="q_proj"):
        FusedQKV(hosts.gpt2())
