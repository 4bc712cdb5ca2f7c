"""A host over the network that keeps nothing between two tokens: `python -m baseline.server --pack DIR`.

    POST /all      logits of all positions, after the whole sequence    (the client knows nothing of what it runs)
    POST /last     logits of the last position alone                    (the server knows that only these are wanted)

A body is token ids as int32; `?prompt=N` says how many of them are the prompt's. The answer is the event of the last
row as JSON, its length as int32 before it, then logits as fp32: what a client needs to draw the next token itself. The
lenses pool over all rows and read the last one, in the way and with the memory of `phoropter serve`, over the same
HTTP server. Logits are sent as they lie in memory, without a copy.

Shapes: T tokens, V vocabulary.
"""

import argparse
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal
from urllib.parse import parse_qs

import numpy as np
import torch
import uvicorn
from profiling.opening import open_host

from lenses.errors import PhoropterError
from lenses.pack import LensPack
from runtime.blocks import text_config
from runtime.config import MonitorConfig
from runtime.engine import Engine
from runtime.hook import LastRows
from runtime.host import Host
from runtime.reading import Reader
from runtime.rows import Row

Wanted = Literal["all", "last"]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

HEADER = np.dtype("<i4")
SHOW = 5


class Recomputing:
    """Runs the host over whole sequences, and lenses over their last rows."""

    def __init__(self, host: Host, pack: LensPack) -> None:
        self._host = host
        self._tap = LastRows(host.model, pack.config.site)
        self._engine = Engine(pack, MonitorConfig())
        self._reader = Reader(self._engine)
        self._bos_token: int | None = text_config(host.model).bos_token_id
        base = set(self._engine.bank.base_families)
        self._engine.cache.prefetch(
            family.index for family in pack.hierarchy.families if family.index not in base
        )

    def answer(self, token_ids: Sequence[int], prompt: int, wanted: Wanted) -> tuple[bytes, memoryview]:
        """The event's JSON behind its length, and logits `[T or 1, V]` in fp32."""
        with torch.inference_mode(), self._tap:
            output = self._host.model(
                input_ids=torch.tensor([token_ids]),
                use_cache=False,
                logits_to_keep=1 if wanted == "last" else 0,
            )
            rows_TD = self._tap.take_BTD()[0].to("cpu", torch.float32).numpy()
            logits_TV = output.logits[0].to(torch.float32).contiguous().numpy()
        event = json.dumps(self._event(token_ids, prompt, rows_TD), separators=(",", ":")).encode()
        return np.array([len(event)], HEADER).tobytes() + event, memoryview(logits_TV).cast("B")

    def _event(self, token_ids: Sequence[int], prompt: int, rows_TD: Any) -> dict[str, object]:
        sequence = self._reader.begin(0)
        rows = []
        for at, token in enumerate(token_ids):
            is_bos = at == 0 and token == self._bos_token
            rows.append(
                Row(sequence, at, "prompt" if at < prompt else "generation", token, "bos" if is_bos else "ok")
            )
            rows[-1].is_wanted = at == len(token_ids) - 1
        self._reader.read(rows, rows_TD)
        return self._reader.event(rows[-1]).to_json(SHOW)


def make_app(served: Recomputing) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
    """The whole server as an ASGI app."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "GET":
            await _send(send, b"{}")
            return
        body, is_whole = b"", False
        while not is_whole:
            message = await receive()
            body += message.get("body", b"")
            is_whole = not message.get("more_body", False)
        token_ids = np.frombuffer(body, HEADER).tolist()
        prompt = int(parse_qs(scope["query_string"].decode())["prompt"][0])
        await _send(send, *served.answer(token_ids, prompt, scope["path"].removeprefix("/")))

    return app


async def _send(send: Send, *parts: bytes | memoryview) -> None:
    size = sum(map(len, parts))
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for at, part in enumerate(parts):
        await send({"type": "http.response.body", "body": part, "more_body": at + 1 < len(parts)})


def main(argv: Sequence[str] | None = None) -> int:
    """Serve on a free port of the loopback, and print the url."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", required=True)
    parser.add_argument("--model", default=None)
    arguments = parser.parse_args(argv)
    try:
        pack = LensPack.from_pretrained(arguments.pack)
        told = argparse.Namespace(model=arguments.model, blocks=None, device="cpu")
        served = Recomputing(open_host(told, pack, arguments.pack), pack)
    except PhoropterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with socket.create_server(("127.0.0.1", 0)) as bound:
        print(f"serving on http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
        config = uvicorn.Config(
            make_app(served),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
        )
        uvicorn.Server(config).run(sockets=[bound])
    return 0


if __name__ == "__main__":
    sys.exit(main())
