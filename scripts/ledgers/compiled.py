"""A host whose blocks are compiled, as long as a `with` lasts.

Each block's forward by itself, and not the model's: a graph of the whole would go around the hook that a monitor
watches through, or break at it. Embedding, last norm and output stay as they are. Dynamo leaves open what it has seen
to change, so a cache that grows does not compile at every token; the first forwards do: warm up with every length.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch

from runtime.blocks import blocks_of

_COMPILATIONS = 64
"""Of one function, before dynamo gives up on it and quietly runs it as it is: blocks share their code."""


class CompiledBlocks:
    """Compiles a host's blocks on first use within `with`, and gives the host back as it was."""

    def __init__(self, model: Any) -> None:
        self._blocks = list(blocks_of(model))
        with _quiet():
            self._compiled = [torch.compile(block.forward) for block in self._blocks]
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(
            torch._dynamo.config.patch(
                recompile_limit=_COMPILATIONS, accumulated_recompile_limit=4 * _COMPILATIONS
            )
        )
        self._open.enter_context(_quiet())
        for block, compiled in zip(self._blocks, self._compiled, strict=True):
            block.forward = compiled
        return self

    def __exit__(self, *_: object) -> None:
        for block in self._blocks:
            del block.forward
        self._open.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the compiler's warnings, which are about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
