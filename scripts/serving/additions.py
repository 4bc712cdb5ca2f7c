"""What a benchmark adds to a server that runs in a process of its own: something to look at, something to tell it.

Additions change functions of the server in its own process, before it starts; the product has no option for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.serve import status_routes
from runtime.serve.catalogue import Catalogue
from runtime.serve.service import Service

PATH = "/bench"

Record = dict[str, Any]


def _nothing(_: Record) -> None:
    """For an addition that cannot be told anything."""


@dataclass(frozen=True, slots=True)
class Addition:
    """One of them, installed."""

    look: Callable[[Service], Record]
    """What there is to be seen, as plain values."""
    tell: Callable[[Record], None] = _nothing
    """Change how it behaves from now on."""


def add_route(additions: dict[str, Addition]) -> None:
    """GET and POST of PATH: see all additions; tell some of them, by their names."""
    plain_routes = status_routes.routes

    def routes(catalogue: Catalogue) -> Any:
        router = plain_routes(catalogue)

        def seen() -> Response:
            return JSONResponse({name: one.look(catalogue.first) for name, one in additions.items()})

        @router.get(PATH)
        async def look() -> Response:
            return seen()

        @router.post(PATH)
        async def tell(http: Request) -> Response:
            for name, told in (await http.json()).items():
                additions[name].tell(told)
            return seen()

        return router

    status_routes.routes = routes
