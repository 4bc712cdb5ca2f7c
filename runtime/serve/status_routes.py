"""/v1/models, /health, /ready and /metrics: what is served, and how it is."""

from time import time

from fastapi import APIRouter
from starlette.responses import Response

from runtime.serve.catalogue import Catalogue
from runtime.serve.documents import HealthBody, Model, Models, ReadyBody
from runtime.serve.metrics import CONTENT_TYPE
from runtime.serve.wire import CountedJson, to_json


def routes(catalogue: Catalogue) -> APIRouter:
    """The routes."""
    router = APIRouter()
    began = int(time())

    @router.get("/v1/models", responses={200: {"model": Models}})
    async def models() -> Response:
        """What may be asked for; what is asked nothing of in particular is asked of the first."""
        data = [_model(name, began) for name in catalogue.names]
        return CountedJson({"object": "list", "data": data}, catalogue.ledger)

    @router.get("/v1/models/{id:path}", responses={200: {"model": Model}})
    async def model(id: str) -> Response:
        """One of them, by its id."""
        return CountedJson(_model(catalogue.check(id), began), catalogue.ledger)

    @router.get("/health", responses={200: {"model": HealthBody}, 503: {"model": HealthBody}})
    async def health() -> Response:
        """200 while every engine lives and moves, or has nothing to do."""
        problem = catalogue.problem
        if problem is None:
            return _json({"status": "ok"})
        return _json({"status": "stalled", "detail": problem}, 503)

    @router.get("/ready", responses={200: {"model": ReadyBody}, 503: {"model": ReadyBody}})
    async def ready() -> Response:
        """200 once the first model scores a known text as it was when its pack was made."""
        service = catalogue.first
        found = service.readiness
        is_ready = found is not None and found.is_ready and service.scheduler.progress.failure is None
        said = {
            "status": "ready" if is_ready else "not ready",
            "model": service.name,
            "pack": service.pack.identity,
            "pack_name": service.pack.name,
            "known_scores": "the known text was not tried yet" if found is None else found.known,
        }
        return _json(said, 200 if is_ready else 503)

    @router.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def metrics() -> Response:
        """Counters, as Prometheus reads them."""
        return Response(catalogue.metrics.text(), media_type=CONTENT_TYPE)

    return router


def _model(id: str, began: int) -> dict[str, object]:
    return {"id": id, "object": "model", "created": began, "owned_by": "phoropter"}


def _json(value: object, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")
