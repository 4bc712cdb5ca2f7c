"""What a host told an observer, call by call, and telling it again.

A `Log` is a `RowObserver` that keeps calls. Each can be made again to another observer, so that a monitor does with
recorded rows what it did with live ones, by the same code. Of padding only its place is kept: no monitor looks at it.

Shapes: B sequences of the call, T columns, R real tokens among them, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from runtime.hook import Forward, Mask, RowObserver
from runtime.plan import GenerationPlan, Ids


@dataclass(frozen=True, slots=True, eq=False)
class Began:
    """`generate` began with this plan."""

    plan: GenerationPlan

    def tell(self, observer: RowObserver) -> None:
        """Make the call again."""
        observer.expect(self.plan)


@dataclass(frozen=True, slots=True, eq=False)
class Fed:
    """One forward: what went in and, unless the host raised before, the site's rows of what came out."""

    token_BT: Ids
    mask_BT: Mask
    begins: bool
    rows_RD: torch.Tensor | None = None
    """In the host's dtype, sequence by sequence; None where the site's block did not run."""

    def tell_tokens(self, observer: RowObserver) -> None:
        """Make the first of the two calls again."""
        observer.tokens_fed(self.token_BT, self.mask_BT, self.begins)

    def tell_rows(self, observer: RowObserver) -> None:
        """Make the second one, if it was made."""
        if self.rows_RD is None:
            return
        rows_BTD = torch.zeros(*self.token_BT.shape, self.rows_RD.shape[1], dtype=self.rows_RD.dtype)
        rows_BTD[torch.from_numpy(self.mask_BT)] = self.rows_RD
        observer.observe(Forward(rows_BTD, self.token_BT, self.mask_BT, self.begins))


@dataclass(frozen=True, slots=True, eq=False)
class Ended:
    """`generate` ended with these sequences, or (None) by an exception."""

    sequences_BT: Ids | None

    def tell(self, observer: RowObserver) -> None:
        """Make the calls again."""
        observer.finish_run(self.sequences_BT)
        observer.expect(None)


Call = Began | Fed | Ended


@dataclass(slots=True)
class Log:
    """Keeps what a tap tells, rows copied to host memory: D numbers of the host's dtype a token."""

    calls: list[Call] = field(default_factory=list)

    def expect(self, generation: GenerationPlan | None) -> None:
        """Keep the plan; that there is none any more goes without saying."""
        if generation is not None:
            self.calls.append(Began(generation))

    def tokens_fed(self, token_BT: Ids, mask_BT: Mask, begins: bool) -> None:
        """Keep what goes in."""
        self.calls.append(Fed(token_BT.copy(), mask_BT.copy(), begins))

    def observe(self, forward: Forward) -> None:
        """Keep the rows beside it."""
        fed = self.calls[-1]
        assert isinstance(fed, Fed), "a tap tells of tokens before it tells of rows"
        rows_RD = forward.rows_BTD[torch.from_numpy(forward.mask_BT).to(forward.rows_BTD.device)]
        self.calls[-1] = replace(fed, rows_RD=rows_RD.cpu())

    def finish_run(self, sequences_BT: Ids | None) -> None:
        """Keep how it ended."""
        self.calls.append(Ended(None if sequences_BT is None else sequences_BT.copy()))


@dataclass(slots=True)
class TokenSequence:
    """The tokens of one sequence of a run, padding left out."""

    number: int
    prompt: int = 0
    """How many of `read` are the prompt's."""
    read: list[int] = field(default_factory=list)
    """Tokens that have rows."""
    written: int | None = None
    """The token after them, which was written and never read; None where there is none."""
    columns: int = 0
    """Columns of the batch that have gone by, padding included."""

    @property
    def tokens(self) -> list[int]:
        """All of them."""
        return self.read if self.written is None else [*self.read, self.written]


def sequences_of(calls: Sequence[Call]) -> list[TokenSequence]:
    """The sequences of a run, in the order in which a monitor counts them."""
    found: list[TokenSequence] = []
    batch: list[TokenSequence] = []
    plan: GenerationPlan | None = None
    for call in calls:
        if isinstance(call, Began):
            plan = call.plan
        elif isinstance(call, Ended):
            if call.sequences_BT is not None and len(call.sequences_BT) == len(batch):
                for sequence, tokens in zip(batch, call.sequences_BT, strict=True):
                    sequence.written = (
                        int(tokens[sequence.columns]) if sequence.columns < len(tokens) else None
                    )
            plan = None
        elif call.rows_RD is not None:
            if call.begins:
                batch = [TokenSequence(len(found) + b) for b in range(len(call.token_BT))]
                found += batch
            for sequence, tokens, mask in zip(batch, call.token_BT, call.mask_BT, strict=True):
                _feed(sequence, tokens, mask, plan, call.begins)
    return found


def _feed(
    sequence: TokenSequence, tokens: Ids, mask: Mask, plan: GenerationPlan | None, begins: bool
) -> None:
    prompt_length = plan.prompt_length if plan is not None else len(tokens) if begins else 0
    if sequence.prompt == len(sequence.read):  # nothing was generated yet
        columns = sequence.columns + np.arange(len(tokens))
        sequence.prompt += int((mask & (columns < prompt_length)).sum())
    sequence.read += tokens[mask].tolist()
    sequence.written = None
    sequence.columns += len(tokens)
