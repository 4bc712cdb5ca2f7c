"""The rows of a real generation at one site, so that scoring them can be timed again and again without the host.

A replay of a recording tells a monitor what the hook told it in the generation, so its events have the same contents.

Shapes: T rows of one sequence, D hidden size, G generated tokens.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from profiling.runs import Task

from lenses.config import InputConfig
from lenses.lens import Floats
from lenses.state import input_states
from runtime.blocks import text_config
from runtime.generate import encode
from runtime.hook import Rows, Tap
from runtime.host import Host


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One sequence: its tokens, and the site's row for every token that was read."""

    token_T: NDArray[np.int64]
    """[T + 1] prompt and generated tokens; the last was written and never read."""
    rows_TD: torch.Tensor
    """[T, D] in fp32, as the block gave them."""
    prompt: int
    """Tokens of the prompt."""
    begins_with_bos: bool

    @property
    def generated_rows(self) -> int:
        """Rows after the prompt's: one fewer than tokens were generated."""
        return len(self.rows_TD) - self.prompt

    def until(self, new_tokens: int) -> Self:
        """The same sequence, stopped after so many generated tokens."""
        rows = min(len(self.rows_TD), self.prompt + new_tokens - 1)
        return replace(self, token_T=self.token_T[: rows + 1], rows_TD=self.rows_TD[:rows])

    def states(self, config: InputConfig) -> tuple[Floats, Floats]:
        """Input states `[., D]` of the prompt (BOS left out) and of the generation."""
        begin = int(self.begins_with_bos)
        states_TD = input_states(self.rows_TD[begin:].numpy(), config)
        return states_TD[: self.prompt - begin], states_TD[self.prompt - begin :]


def record(host: Host, site: str, task: Task) -> Recording:
    """Generate greedily as the task says and keep the site's rows; raises PromptError."""
    inputs = encode(host.model, host.tokenizer, task.prompt, task.new_tokens)
    rows = Rows()
    with Tap(host.model, site, rows):
        output = host.model.generate(
            **inputs, max_new_tokens=task.new_tokens, min_new_tokens=task.new_tokens, do_sample=False
        )
    token_T = output[0].cpu().numpy()
    rows_TD = torch.from_numpy(rows.take_BTD()[0])
    # Some devices run one forward more than they need; the last token written is read by none that counts.
    return Recording(
        token_T,
        rows_TD[: len(token_T) - 1],
        inputs["input_ids"].shape[1],
        bool(token_T[0] == text_config(host.model).bos_token_id),
    )
