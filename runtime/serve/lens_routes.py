"""/v1/lenses, /v1/lenses/score and /v1/sessions: what is beyond OpenAI's API."""

import asyncio
from email.message import Message as MimeHeader
from math import isfinite
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from pydantic import ValidationError
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from lenses.errors import ConfigError
from lenses.lens import Floats
from runtime.serve.ask import ScoreBody, SessionBody
from runtime.serve.catalogue import Catalogue
from runtime.serve.documents import LensList, Scores, SessionClosed, SessionOpened
from runtime.serve.refusal import Refusal, refusal_of_body
from runtime.serve.service import Service
from runtime.serve.wire import CountedBytes, CountedJson, Part, while_here

BINARY = "application/octet-stream"
_STATES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            BINARY: {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": ScoreBody.model_json_schema()},
        },
    }
}
OfModel = Annotated[
    str | None, Query(max_length=512, description="Of /v1/models; the first where nothing is said.")
]
_LARGEST = 1e18
_DTYPES = {"float32": "<f4", "float16": "<f2"}


def routes(catalogue: Catalogue) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/v1/lenses", responses={200: {"model": LensList}})
    async def list_lenses(model: OfModel = None) -> Response:
        """All concepts, in the order of score vectors."""
        async with catalogue.using(model) as service:
            return CountedJson(service.lenses, catalogue.ledger)

    @router.post(
        "/v1/lenses/score",
        openapi_extra=_STATES,
        responses={
            200: {"model": Scores, "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}
        },
    )
    async def score(http: HttpRequest, model: OfModel = None) -> Response:
        """Logits of all lenses for rows of the pack's site, each of them taken as a sequence of its own.

        States are float32, little-endian, in rows of the hidden size, or JSON. Scores are JSON, or with `Accept:
        application/octet-stream` float32 in rows as GET /v1/lenses lists concepts; `; dtype=float16` halves them.
        """
        async with catalogue.using(model) as service:
            states_RD = _states(http.headers.get("content-type", ""), await http.body(), service)
            scores = asyncio.wrap_future(service.scheduler.score(states_RD))
            try:
                logits_RN = await while_here(http.receive, scores)
            except asyncio.CancelledError:
                raise Refusal(503, "the server closes; try again later", code="closing") from None
            if logits_RN is None:
                return Response(status_code=499)
            return _scores(http.headers.get("accept", ""), logits_RN, service)

    @router.post("/v1/sessions", responses={200: {"model": SessionOpened}})
    async def open_session(body: SessionBody | None = None) -> Response:
        """Open a session: keys and values, tokens and the state of lenses are kept from turn to turn."""
        async with catalogue.using(None if body is None else body.model) as service:
            said = {
                "id": service.scheduler.open_session(),
                "object": "session",
                "model": service.name,
                "lease_s": service.scheduler.config.session_lease_s,
            }
            return CountedJson(said, catalogue.ledger)

    @router.delete("/v1/sessions/{id}", responses={200: {"model": SessionClosed}})
    async def close_session(id: str, model: OfModel = None) -> Response:
        """Close a session."""
        async with catalogue.using(model) as service:
            service.scheduler.close_session(id)
            service.conversations.drop(id)
            return CountedJson({"id": id, "object": "session", "deleted": True}, catalogue.ledger)

    return router


def _states(content_type: str, raw: bytes, service: Service) -> Floats:
    """The states of a body `[R, D]`; raises Refusal, ConfigError."""
    hidden, most = service.pack.config.host.hidden_size, service.limits.score_rows
    kind = _mime(content_type).get_content_type()
    if kind == "application/json":
        try:
            rows = ScoreBody.model_validate_json(raw).states
        except ValidationError as error:
            raise refusal_of_body(error.errors(include_input=False, include_url=False)) from None
        lengths = {len(row) for row in rows} - {hidden}
        if lengths:
            raise ConfigError(f"states have rows of {min(lengths)} numbers; give rows of {hidden} numbers")
        with np.errstate(over="ignore"):  # what is too large for float32 is refused as not finite
            states_RD = np.array(rows, np.float32)
    elif kind == BINARY:
        if not raw or len(raw) % (4 * hidden):
            raise ConfigError(
                f"states have {len(raw):,} bytes; give rows of {hidden} numbers in float32, {4 * hidden:,} bytes each"
            )
        states_RD = np.frombuffer(raw, "<f4").reshape(-1, hidden)
    else:
        said = f"states are {BINARY} or application/json; say which in content-type"
        raise Refusal(415, said, code="unsupported_media_type")
    if len(states_RD) > most:
        raise ConfigError(f"{len(states_RD):,} states are sent, {most:,} are allowed; send less at a time")
    if np.abs(states_RD).max(initial=0.0) > _LARGEST:
        raise ConfigError(
            f"states hold numbers beyond {_LARGEST:g}, whose squares overflow; leave those rows out"
        )
    return states_RD


def _scores(accept: str, logits_RN: Floats, service: Service) -> Response:
    """Logits in the first form that the client accepts."""
    for one in accept.split(","):
        header = _mime(one)
        if header.get_content_type() != BINARY:
            continue
        dtype = str(header.get_param("dtype", "float32"))
        if dtype not in _DTYPES:
            raise Refusal(
                406, f"scores are {' or '.join(_DTYPES)}; accept one of these", code="not_acceptable"
            )
        with np.errstate(over="ignore"):
            raw = logits_RN.astype(_DTYPES[dtype]).tobytes()
        headers = {"X-Shape": f"{logits_RN.shape[0]},{logits_RN.shape[1]}", "X-Pack": service.pack.identity}
        media_type = f"{BINARY}; dtype={dtype}"
        return CountedBytes(raw, "scores", service.ledger, headers=headers, media_type=media_type)
    rows = [[logit if isfinite(logit) else None for logit in row] for row in logits_RN.tolist()]
    return CountedJson({"pack": service.pack.identity, "scores": Part.of("scores", rows)}, service.ledger)


def _mime(text: str) -> MimeHeader:
    header = MimeHeader()
    header["content-type"] = text.strip() or "text/plain"
    return header
