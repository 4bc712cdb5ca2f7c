"""What the routes need of one model: its engine, its tokenizer, and what is counted."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from lenses.grade import grade
from lenses.pack import LensPack
from runtime.alarms import Alarms
from runtime.blocks import text_config
from runtime.serve.conversation import Conversations
from runtime.serve.health import Health, Readiness
from runtime.serve.ledger import Ledger
from runtime.serve.limits import Limits
from runtime.serve.metrics import Metrics
from runtime.serve.scheduler import Scheduler
from runtime.serve.tokens import Tokens
from runtime.serve.wire import Part

_ALARMS = 16
"""Budgets whose thresholds are kept."""


class Service:
    """Everything behind the routes for one model. The scheduler is started and closed by whoever made it."""

    def __init__(
        self,
        name: str,
        scheduler: Scheduler,
        limits: Limits,
        ledger: Ledger,
        metrics: Metrics,
        *,
        log_prompts: bool = False,
    ) -> None:
        self.name, self.scheduler, self.pack = name, scheduler, scheduler.pack
        self.limits, self.log_prompts = limits, log_prompts
        self.ledger, self.metrics = ledger, metrics
        self.vocabulary: int = text_config(scheduler.host.model).vocab_size
        """Token ids there are."""
        self.tokens = Tokens(scheduler.host.tokenizer)
        # Twice: those of sessions that are over may be more recent than one that sleeps.
        most = 2 * scheduler.config.max_sessions
        self.conversations = Conversations(self.tokens, scheduler.session_tokens, most)
        self.health = Health(lambda: scheduler.progress, limits.stall_s)
        self.readiness: Readiness | None = None
        """None until the known text was tried."""
        self.lenses = Part.of("ids", _lenses(self.pack))
        """What GET /v1/lenses says."""
        self._alarms: dict[float, Alarms] = {}
        self._later: set[asyncio.Task[None]] = set()

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
        """Do this beside everything else; it ends when the engine does."""
        task = asyncio.get_running_loop().create_task(work)
        self._later.add(task)  # a loop holds its tasks weakly
        task.add_done_callback(self._later.discard)

    def close(self) -> None:
        """End the thread of the tokenizer."""
        self.tokens.close()


def _lenses(pack: LensPack) -> dict[str, object]:
    heads = pack.heads
    data = [
        {
            "id": concept.id,
            "name": concept.name,
            "level": concept.level,
            "parent": concept.parent,
            "grade": grade(concept.metrics),
            "calibrated": bool(heads.calibrated[index]),
            "slope": float(heads.platt_slope[index]),
            "offset": float(heads.platt_offset[index]),
        }
        for index, concept in enumerate(pack.hierarchy.concepts)
    ]
    about = {"pack": pack.identity, "site": pack.config.site, "hidden_size": pack.config.host.hidden_size}
    return {"object": "list"} | about | {"data": data}
