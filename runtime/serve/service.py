"""What the routes share: one engine, its tokenizer, and what is counted."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from runtime.alarms import Alarms
from runtime.blocks import text_config
from runtime.serve.conversation import Conversations
from runtime.serve.health import Health, Readiness
from runtime.serve.ledger import Ledger
from runtime.serve.limits import Limits
from runtime.serve.metrics import Metrics
from runtime.serve.refusal import Refusal
from runtime.serve.scheduler import Scheduler
from runtime.serve.tokens import Tokens

_ALARMS = 16
"""Budgets whose thresholds are kept."""


class Service:
    """Everything behind the routes of one server. The scheduler is started and closed by whoever made it."""

    def __init__(self, scheduler: Scheduler, limits: Limits, *, log_prompts: bool = False) -> None:
        self.scheduler, self.limits, self.log_prompts = scheduler, limits, log_prompts
        self.pack, self.model_id = scheduler.pack, scheduler.host.id
        self.vocabulary: int = text_config(scheduler.host.model).vocab_size
        """Token ids there are."""
        self.tokens = Tokens(scheduler.host.tokenizer)
        # Twice: those of sessions that are over may be more recent than one that sleeps.
        most = 2 * scheduler.config.max_sessions
        self.conversations = Conversations(self.tokens, scheduler.session_tokens, most)
        self.ledger = Ledger()
        self.metrics = Metrics(scheduler, self.ledger)
        self.health = Health(lambda: scheduler.progress, limits.stall_s)
        self.readiness: Readiness | None = None
        """None until the known text was tried."""
        self._alarms: dict[float, Alarms] = {}
        self._later: set[asyncio.Task[None]] = set()

    def check_model(self, name: str | None) -> None:
        """Raises Refusal for a model that is not the one that is here."""
        if name is not None and name != self.model_id:
            said = f"there is no such model here; there is {self.model_id}"
            raise Refusal(404, said, code="model_not_found", param="model")

    def alarms(self, budget: float | None) -> Alarms | None:
        """The alarms of a budget; raises ConfigError for one that the pack cannot promise."""
        if budget is None:
            return None
        if budget not in self._alarms:
            if len(self._alarms) >= _ALARMS:
                self._alarms.pop(next(iter(self._alarms)))
            self._alarms[budget] = Alarms(self.pack, budget)
        return self._alarms[budget]

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self._later.add(task)  # a loop holds its tasks weakly
        task.add_done_callback(self._later.discard)

    def close(self) -> None:
        """End what is done beside; for the event loop that it is done in."""
        for task in self._later:
            task.cancel()
        self.tokens.close()
