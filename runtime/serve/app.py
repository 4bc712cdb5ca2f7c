"""The HTTP side of a server, put together: routes, what stands before them, and what they say of themselves.

request ──▶ Counted ──▶ token or localhost ──▶ rate ──▶ body ──▶ routes ──▶ engine
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from lenses.errors import PhoropterError
from runtime.serve import generate_routes, lens_routes, page_routes, status_routes
from runtime.serve.catalogue import Catalogue
from runtime.serve.documents import Error
from runtime.serve.guard import BodyLimit, Counted, LocalGuard, RateLimit, TokenGuard
from runtime.serve.health import try_known
from runtime.serve.refusal import answer_refusal, refusal_of_body
from runtime.serve.service import Service

_ERRORS = {
    400: "Not as documented, or not possible",
    401: "No token, or another one",
    403: "Not from this machine",
    404: "No such model or session",
    406: "No such form of an answer",
    408: "The body took too long",
    409: "The session is in a turn",
    413: "The body is too large",
    415: "No such form of a body",
    429: "Too many requests",
    500: "The engine could not go on",
    503: "The engine has ended or does not move",
}


def make_app(catalogue: Catalogue, *, token: str | None = None) -> FastAPI:
    """The app before the models of a catalogue. With a token everybody must bear it."""
    limits = catalogue.limits

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        beside = [asyncio.create_task(_try(one)) for one in catalogue.services.values()]
        beside.append(asyncio.create_task(_look_after(catalogue)))
        try:
            yield
        finally:
            for task in beside:
                task.cancel()

    app = FastAPI(
        title="Phoropter",
        version=version("phoropter"),
        description="OpenAI's API, and what lenses see in the hosts behind it.",
        lifespan=lifespan,
        docs_url=None,  # these pages load programs from elsewhere
        redoc_url=None,
        responses={status: {"model": Error, "description": says} for status, says in _ERRORS.items()},
        separate_input_output_schemas=False,
    )
    for group in (status_routes, generate_routes, lens_routes, page_routes):
        app.include_router(group.routes(catalogue))
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    for kind in (HTTPException, PhoropterError, Exception):
        app.add_exception_handler(kind, answer_refusal)
    # The last one added stands first.
    app.add_middleware(BodyLimit, limits.body_bytes, limits.body_s)
    if limits.rate_per_minute is not None:
        app.add_middleware(RateLimit, limits.rate_per_minute)
    if token is None:
        app.add_middleware(LocalGuard)
    else:
        app.add_middleware(TokenGuard, token)
    app.add_middleware(Counted, catalogue.metrics.count_request)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]  # as FastAPI says it is done
    return app


async def _try(service: Service) -> None:
    service.readiness = await try_known(service.scheduler)


async def _look_after(catalogue: Catalogue) -> None:
    """Look at the engines' progress once a second: how long one stands still is how long it was seen to."""
    while True:
        _ = catalogue.problem
        await asyncio.sleep(1.0)


async def _answer_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return refusal_of_body(error.errors()).response()


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document without the 422 that FastAPI adds to every route and this server never sends."""
    if app.openapi_schema is None:
        FastAPI.openapi(app)
        assert app.openapi_schema is not None
        for path in app.openapi_schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            app.openapi_schema["components"]["schemas"].pop(unused, None)
    return app.openapi_schema
