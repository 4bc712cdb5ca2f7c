"""Refusals: what is said when a request cannot be served, in the shape that OpenAI's clients read.

    {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}

Every error of `lenses.errors` has its status here. What a client sent is never repeated beyond the names of its
parameters: error messages reach logs.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from lenses.errors import (
    ConceptNotFound,
    ConfigError,
    PhoropterError,
    PromptError,
    ServerFull,
    SessionBusy,
    SessionNotFound,
)
from lenses.text import one_line

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_NEUTRAL = {
    "n": "1",
    "best_of": "1",
    "frequency_penalty": "0",
    "presence_penalty": "0",
    "logit_bias": "{}",
    "echo": "false",
    "suffix": "null",
    "response_format.type": "text",
}
"""Parameters of OpenAI's API that are taken as they are anyway alone."""
_OF_KINDS = ("prompt", "stop", "content")


class Refusal(HTTPException):
    """A request is not served. `param` is the parameter that is wrong, `code` a name for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code, self.param = code, param

    def to_json(self) -> dict[str, object]:
        """As OpenAI's clients read it."""
        type_ = _TYPES.get(
            self.status_code, "invalid_request_error" if self.status_code < 500 else "server_error"
        )
        return {
            "error": {"message": self.detail, "type": type_, "param": self.param, "code": self.code},
        }

    def response(self) -> Response:
        """The answer to send."""
        return Response(
            json.dumps(self.to_json()), self.status_code, dict(self.headers or {}), "application/json"
        )


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says when to try again, in whole seconds, at least one."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def refusal_of(error: PhoropterError) -> Refusal:
    """What a client is told of an error of ours: 4xx where the request is at fault, else 500."""
    said = str(error)
    match error:
        case PromptError():
            return Refusal(400, said, code="invalid_prompt", param="prompt")
        case ConceptNotFound():
            return Refusal(400, said, code="concept_not_found", param="lenses")
        case ConfigError():
            return Refusal(400, said, code="invalid_value")
        case ServerFull():
            return Refusal(429, said, code="server_full", headers=retry_after(error.retry_after_s))
        case SessionNotFound():
            return Refusal(404, said, code="session_not_found", param="session")
        case SessionBusy():
            return Refusal(409, said, code="session_busy", param="session")
        case _:
            return Refusal(500, said, code="internal_error")


def refusal_of_body(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """What a client is told of a body that is not as documented, by the first of pydantic's errors."""
    first = errors[0]
    kind, place = first["type"], [str(part) for part in first["loc"] if part != "body"]
    # What follows these are the kinds of value that were tried.
    place = place[: next((at + 1 for at, part in enumerate(place) if part in _OF_KINDS), len(place))]
    param = ".".join(place) or None
    if kind == "json_invalid":
        return Refusal(
            400, f"the body is not JSON ({one_line(first['msg'])}); send JSON", code="invalid_json"
        )
    if kind == "extra_forbidden":
        said = f"parameter {param} is unknown here, or not supported; leave it out"
        return Refusal(400, said, code="unsupported_parameter", param=param)
    if param is None or (kind in ("missing", "model_attributes_type") and not place):
        said = "the body is not a JSON object; send one, with content-type application/json"
        return Refusal(400, said, code="invalid_body")
    said = one_line(str(first["msg"]).removeprefix("Value error, "))
    if param in _NEUTRAL:
        said = f"is not supported; leave it out, or give {_NEUTRAL[param]}"
        return Refusal(400, f"parameter {param} {said}", code="unsupported_parameter", param=param)
    return Refusal(400, f"parameter {param}: {said}", code="invalid_value", param=param)


async def answer_refusal(_: Request, error: Exception) -> Response:
    """FastAPI's handler of everything that is refused; an error that is none of these says so, and nothing else."""
    if isinstance(error, Refusal):
        return error.response()
    if isinstance(error, PhoropterError):
        return refusal_of(error).response()
    if isinstance(error, HTTPException):
        refusal = Refusal(error.status_code, error.detail, code="http", headers=error.headers)
        return refusal.response()
    return Refusal(
        500, "something went wrong in the server; its log says what", code="internal_error"
    ).response()
