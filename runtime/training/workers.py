"""The processes that collect states together, as accelerate finds them. Knows nothing about what is collected.

Started alone there is one; `torchrun --nproc-per-node 2 --no-python phoropter train ...` starts two.
"""

from dataclasses import dataclass
from typing import Any

from lenses.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Workers:
    """This process and how many work beside it."""

    count: int
    index: int
    state: Any
    """accelerate's PartialState."""

    @classmethod
    def join(cls, expected: int, *, on_cpu: bool) -> "Workers":
        """Meet the others; raises ConfigError unless there are as many as expected.

        A launcher may start processes that never hear of each other, and each would do all of the work.
        """
        from accelerate import PartialState

        state = PartialState(cpu=on_cpu)
        if state.num_processes != expected:
            raise ConfigError(
                f"{expected} processes were asked for and this run has {state.num_processes}; start it with: torchrun "
                f"--nproc-per-node {expected} --no-python phoropter train ... --processes {expected}"
            )
        return cls(state.num_processes, state.process_index, state)

    @property
    def is_first(self) -> bool:
        """Whether this process goes on when all states are there."""
        return self.index == 0

    def share(self, jobs: int) -> range:
        """The jobs of this process, of so many."""
        return range(self.index, jobs, self.count)

    def wait(self) -> None:
        """Until all have come here."""
        self.state.wait_for_everyone()

    def agree(self, choice: int) -> int:
        """The first process's choice, in all of them."""
        if self.count == 1:
            return choice
        from accelerate.utils import broadcast_object_list

        found = [choice]
        broadcast_object_list(found, from_process=0)
        return found[0]
