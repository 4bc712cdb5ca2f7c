"""A slow link in user space: `python -m serving.link --to URL --delay-ms 10 --mbit 100`, between a client and a server.

Every byte is delayed by so much in each direction, and each direction carries so many bits a second, all connections
together. What is on its way is bounded, so that a fast sender is held as a network holds it.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

_PIECE = 64 * 1024
_ON_ITS_WAY = 256
"""Pieces of one direction of one connection."""


class Direction:
    """One way of the link: when what is sent now arrives."""

    def __init__(self, delay_s: float, bytes_per_s: float | None) -> None:
        self._delay_s, self._bytes_per_s = delay_s, bytes_per_s
        self._busy_until_s = 0.0

    def arrives_s(self, size: int, now_s: float) -> float:
        """The time, by the clock of `now_s`, at which the last of so many bytes is there."""
        if self._bytes_per_s is None:
            return now_s + self._delay_s
        self._busy_until_s = max(now_s, self._busy_until_s) + size / self._bytes_per_s
        return self._busy_until_s + self._delay_s


async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: Direction) -> None:
    """Carry bytes one way until their source ends."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_ON_ITS_WAY)

    async def deliver() -> None:
        while True:
            due_s, piece = await queue.get()
            await asyncio.sleep(due_s - loop.time())
            if not piece:
                return
            sink.write(piece)
            await sink.drain()

    delivering = asyncio.create_task(deliver())
    try:
        while piece := await source.read(_PIECE):
            await queue.put((way.arrives_s(len(piece), loop.time()), piece))
        await queue.put((loop.time(), b""))
        await delivering
    except ConnectionError:
        pass  # whoever has gone: the other side is told by the closing
    finally:
        delivering.cancel()
        sink.close()


async def serve(to: str, delay_s: float, bytes_per_s: float | None) -> None:
    """Listen on a free port of the loopback, print the url, carry."""
    there = urlsplit(to)
    up, down = Direction(delay_s, bytes_per_s), Direction(delay_s, bytes_per_s)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(carry(reader, far_writer, up), carry(far_reader, writer, down))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(f"a link on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


def main(argv: Sequence[str] | None = None) -> int:
    """Carry until it is ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", required=True, help="the server's url")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="of each direction")
    parser.add_argument(
        "--mbit", type=float, default=None, help="a second, each direction (default: no limit)"
    )
    arguments = parser.parse_args(argv)
    bytes_per_s = None if arguments.mbit is None else arguments.mbit * 1e6 / 8
    asyncio.run(serve(arguments.to, arguments.delay_ms / 1e3, bytes_per_s))
    return 0


if __name__ == "__main__":
    sys.exit(main())
