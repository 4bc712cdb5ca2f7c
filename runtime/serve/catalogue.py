"""Which models a server has, by the names that clients give: hosts with the lenses of a pack, in memory when wanted.

    the first          loaded before the server answers, and pinned
    pinned ones        loaded at the start too
    all others         loaded by the first request that names them, kept while there is room

A host and a pack are in memory once, however many models they are part of. An engine holds both, and is used by the
requests that hold it and by its sessions. What is loaded scores a known text before anybody is served by it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from lenses.errors import BudgetError, ServerFull
from lenses.pack import LensPack
from lenses.text import quoted
from runtime.host import Host
from runtime.serve.health import try_known
from runtime.serve.ledger import Ledger
from runtime.serve.limits import Limits
from runtime.serve.metrics import Metrics
from runtime.serve.refusal import Refusal
from runtime.serve.residents import Loaded, Residents
from runtime.serve.scheduler import Scheduler
from runtime.serve.service import Service


@dataclass(frozen=True, slots=True)
class Model:
    """One of them: where its parts come from. Parts of the same name are the same."""

    name: str
    """As clients give it."""
    host: str
    pack: str
    open_pack: Callable[[], LensPack]
    open_host: Callable[[LensPack], Host]
    make_engine: Callable[[Host, LensPack], Scheduler]
    """One that is not started."""
    is_pinned: bool = False


class Catalogue:
    """All models of a server. `use` and `leave` are for its event loop."""

    def __init__(
        self, models: Sequence[Model], memory_bytes: int, limits: Limits, *, log_prompts: bool = False
    ) -> None:
        """Loads the first and those that are pinned; raises what loading them raises, and BudgetError."""
        self.limits, self._log_prompts = limits, log_prompts
        self.ledger = Ledger()
        self.residents = Residents(memory_bytes)
        self._models = {model.name: model for model in models}
        self._locks = {model.name: asyncio.Lock() for model in models}
        self.services: dict[str, Service] = {}
        """Of the models that are in memory."""
        self.metrics = Metrics(
            self.ledger,
            lambda: {name: one.scheduler.progress for name, one in list(self.services.items())},
            self.residents,
        )
        first = models[0]
        try:
            for model in models:
                if model is first or model.is_pinned:
                    self._load(model, pin=True)
        except ServerFull:
            wanted = self.residents.largest_bytes
            self.residents.close()
            raise BudgetError(
                f"what is to be in memory from the start takes {wanted:,} bytes, the budget is {memory_bytes:,}; pin "
                "less, serve fewer or shorter sequences, or give a larger --memory"
            ) from None
        except BaseException:
            self.residents.close()
            raise
        self.first = self.services[first.name]

    @property
    def names(self) -> list[str]:
        """Of all models, the first one first."""
        return list(self._models)

    def check(self, name: str | None) -> str:
        """The name of a model that is here, the first one's for None; raises Refusal."""
        if name is None:
            return self.first.name
        if name not in self._models:
            there = ", ".join(self._models)
            said = f"there is no such model here; there is {there}"
            raise Refusal(404, said, code="model_not_found", param="model")
        return name

    async def use(self, name: str | None) -> Service:
        """The service of a model, loaded if it is not here, to be left with `leave`.

        Raises Refusal for an unknown name and where a known text is not scored as it was; ServerFull where there is no
        room beside what others use; PhoropterError of host or pack.
        """
        model = self._models[self.check(name)]
        async with self._locks[model.name]:
            service: Service | None = self.residents.find(_engine(model))
            if service is None:
                service = await asyncio.to_thread(self._load, model)
            try:
                await self._be_sure_of(service)
            except BaseException:
                self.leave(service)
                raise
        return service

    def leave(self, service: Service) -> None:
        """End one `use`."""
        self.residents.release(_engine(self._models[service.name]))

    @asynccontextmanager
    async def using(self, name: str | None) -> AsyncIterator[Service]:
        """`use` and `leave`."""
        service = await self.use(name)
        try:
            yield service
        finally:
            self.leave(service)

    async def _be_sure_of(self, service: Service) -> None:
        """Have it score a known text, once; raises Refusal where it does so otherwise than it did."""
        # The app tries the first one's at the start.
        if service.readiness is None and service is not self.first:
            service.readiness = await try_known(service.scheduler)
        if service.readiness is not None and not service.readiness.is_ready:
            said = f"{quoted(service.name)} is not ready: {service.readiness.known}"
            raise Refusal(503, said, code="not_ready", param="model")

    @property
    def problem(self) -> str | None:
        """What is wrong with an engine that is here, in one line; to be asked now and then."""
        found = [one.health.problem() for one in list(self.services.values())]
        return next((problem for problem in found if problem is not None), None)

    @property
    def failure(self) -> str | None:
        """Why an engine has ended, if one has."""
        found = [one.scheduler.progress.failure for one in list(self.services.values())]
        return next((failure for failure in found if failure is not None), None)

    def end_engines(self) -> None:
        """End what is generated; whoever waits for it is told."""
        for service in list(self.services.values()):
            service.scheduler.close()

    def close(self) -> None:
        """Let go of everything."""
        self.residents.close()

    def _load(self, model: Model, *, pin: bool = False) -> Service:
        service: Service = self.residents.hold(_engine(model), partial(self._open, model), pin=pin)
        if pin:  # it stays without being held
            self.residents.release(_engine(model))
        return service

    def _open(self, model: Model) -> Loaded:
        """An engine, which holds its pack and its host."""
        pack_name, host_name = f"pack {model.pack}", f"host {model.host}"
        pack: LensPack = self.residents.hold(pack_name, lambda: _loaded_pack(model.open_pack()))
        try:
            host: Host = self.residents.hold(host_name, lambda: _loaded_host(model.open_host(pack)))
        except BaseException:
            self.residents.release(pack_name)
            raise
        try:
            scheduler = model.make_engine(host, pack)
        except BaseException:
            self.residents.release(host_name)
            self.residents.release(pack_name)
            raise
        scheduler.start()
        service = Service(
            model.name, scheduler, self.limits, self.ledger, self.metrics, log_prompts=self._log_prompts
        )
        self.services[model.name] = service

        def close() -> None:
            del self.services[model.name]
            scheduler.close()
            service.close()
            self.residents.release(host_name)
            self.residents.release(pack_name)

        return Loaded(service, scheduler.most_bytes, close, lambda: scheduler.progress.users)


def _engine(model: Model) -> str:
    return f"engine {model.name}"


def _loaded_pack(pack: LensPack) -> Loaded:
    """What of it is always in memory: all but first layers, which an engine keeps as it wants them."""
    arrays = (getattr(pack.heads, field.name) for field in fields(pack.heads))
    return Loaded(pack, sum(array.nbytes for array in arrays if isinstance(array, np.ndarray)))


def _loaded_host(host: Host) -> Loaded:
    tensors = {id(one): one for one in (*host.model.parameters(), *host.model.buffers())}
    return Loaded(host, sum(one.nbytes for one in tensors.values()))
