"""What stands before the routes: who may come in, how large a body may be, how often somebody may ask.

All of it is pure ASGI: a layer passes `receive` and `send` on as they are, so a client who leaves is noticed behind it.
(Layers that are made by FastAPI's decorator put tasks and queues between, and streams of clients who had gone went on.)
"""

import asyncio
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.serve.refusal import Refusal, retry_after

OPEN_PATH = "/health"
"""The route that asks nobody who they are."""
_UNGUARDED = (OPEN_PATH, "/")
"""Without a token: the page as well, which holds nothing of host or pack and asks for the token itself."""
_LOCAL = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_CLIENTS = 10_000
"""That are remembered for their rate."""


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a refusal."""
    await refusal.response()(scope, receive, send)


class TokenGuard:
    """Every request but those for health and the page must bear the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in or refuse."""
        if scope["type"] != "http" or scope["path"] in _UNGUARDED or self._bears_it(scope):
            await self._app(scope, receive, send)
            return
        refusal = Refusal(
            401,
            "this server wants its token; send the header Authorization: Bearer TOKEN",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await refuse(refusal, scope, receive, send)

    def _bears_it(self, scope: Scope) -> bool:
        said = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, token = said.partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)


class LocalGuard:
    """Without a token only this machine's own programs may ask, and no page of another site in its browser.

    Such a page can make a browser send requests to the loopback, by a name that leads there or from its own origin.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in or refuse."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host", "localhost"), headers.get("origin")
            is_same = origin is None or origin.partition("://")[2] == host
            if not (_LOCAL.fullmatch(host) and is_same):
                said = "without a token this server answers to localhost alone; see --token-file"
                await refuse(Refusal(403, said, code="not_local"), scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """A body of at most so many bytes, all of it within so many seconds."""

    def __init__(self, app: ASGIApp, body_bytes: int, body_s: float) -> None:
        self._app, self._bytes, self._seconds = app, body_bytes, body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._bytes:
            await refuse(self._too_large(), scope, receive, send)
            return
        seen, is_read, due_s = 0, False, monotonic() + self._seconds

        async def counted() -> Message:
            nonlocal seen, is_read
            if is_read:
                return await receive()
            try:
                async with asyncio.timeout(due_s - monotonic()):
                    message = await receive()
            except TimeoutError:
                raise Refusal(408, f"the body took more than {self._seconds:g} s", code="too_slow") from None
            seen += len(message.get("body", b""))
            is_read = not message.get("more_body", False)
            if seen > self._bytes:
                raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> Refusal:
        said = f"the body has more than {self._bytes:,} bytes; send less at a time"
        return Refusal(413, said, code="body_too_large", headers={"Connection": "close"})


class RateLimit:
    """At most so many requests a minute from one address; a minute's worth may come at once."""

    def __init__(self, app: ASGIApp, per_minute: float, clock: Callable[[], float] = monotonic) -> None:
        self._app, self._per_s, self._most, self._clock = app, per_minute / 60, max(1.0, per_minute), clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in or refuse."""
        if scope["type"] == "http" and scope["path"] != OPEN_PATH:
            wait_s = self._take((scope.get("client") or ("",))[0])
            if wait_s > 0:
                said = f"more than {self._per_s * 60:g} requests a minute; wait {wait_s:.1f} s"
                refusal = Refusal(429, said, code="rate_limit_exceeded", headers=retry_after(wait_s))
                await refuse(refusal, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _take(self, client: str) -> float:
        """Seconds to wait; 0 takes one of those that are left."""
        now = self._clock()
        left, then = self._left.pop(client, (self._most, now))
        left = min(self._most, left + (now - then) * self._per_s)
        is_let_in = left >= 1
        self._left[client] = (left - 1 if is_let_in else left), now
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if is_let_in else (1 - left) / self._per_s


class Counted:
    """Tells `count(route, status)` of every request; the route is as it is declared, or `other`."""

    def __init__(self, app: ASGIApp, count: Callable[[str, int], None]) -> None:
        self._app, self._count = app, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the status when it is sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(getattr(scope.get("route"), "path", "other"), message["status"])
            await send(message)

        await self._app(scope, receive, noting)
