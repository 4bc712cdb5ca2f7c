"""Keeps a server busy for minutes with clients that misbehave, breaks its steps, and looks at what is left.

    python scripts/soak_server.py                                  200 streams, ten minutes, the travelling pack
    python scripts/soak_server.py --streams 50 --minutes 2 --out /tmp/soak
    python scripts/soak_server.py --quick --out /tmp/try           a try of seconds that proves nothing

What it does:
1. starts `phoropter serve` with a hook that the product does not have: a step of the engine that raises, when told to;
2. keeps so many streams open at once: some are read to their end, others are left, reset, or never begun (half a body);
   one in five is in a session, which only those who read to the end of it close;
3. breaks a step every so often; counts on both sides what was done and what was seen of it;
4. lets everything end, waits out the lease of sessions, and reads what the engine still holds;
5. starts a server anew, fills its slots once, and has as many readers stall as there were streams: they ask for long
   answers and read nothing. Meanwhile one more is served;
6. writes reports/NAME.json, .md and a picture of memory.

The last line of standard output is one JSON document.
"""

import argparse
import asyncio
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from experiments.requirements import Requirement
from experiments.subject import pack_json
from pages.command import make_report
from pages.files import plain
from pages.report_files import json_text, picture_name, write_report
from pages.run_record import RunRecord
from pages.soak_report import markdown, pictures
from rich.progress import Progress, TaskID
from serving.additions import PATH
from serving.asking import COMPLETIONS, SESSIONS
from serving.calls import Caller, json_request
from serving.memory import MIB, Resident
from serving.options import Options
from serving.servers import running
from serving.servers import serving as command_line
from serving.streams import Clients
from serving.subject import add_options, open_pack, questions

from lenses.errors import ConfigError
from lenses.pack import LensPack

Record = dict[str, Any]
STREAMS, MINUTES, STALL_S = 200, 10.0, 60.0
QUICK_STREAMS, QUICK_MINUTES, QUICK_STALL_S = 6, 0.05, 1.0
NEW_TOKENS, QUICK_NEW_TOKENS = 60, 12
FAULT_S, QUICK_FAULT_S = 15.0, 1.0
"""Between two steps that are broken."""
LEASE_S, QUICK_LEASE_S = 5.0, 2.0
CONTEXT, QUICK_CONTEXT = 384, 100
"""Of the server with stalled readers: what they ask for fills it, more than sockets hide."""
_PROMPT = 64
"""Of it, room for a question."""
STALLED_SHOW = 100
SMALL_BUFFER = 4096
SETTLE_S = 60.0
SAMPLE_S = 0.5
STALLED_MOST_MB = 50.0
FLAT_MIB_A_MINUTE = 1.0
"""Up to which memory counts as flat: half a gigabyte in a working day."""


def build(arguments: argparse.Namespace, command: Sequence[str], progress: Progress) -> Record:
    """Soak and stall; returns the report."""
    if arguments.streams < 1 or min(arguments.minutes, arguments.stall_s) <= 0:
        raise ConfigError(
            f"{arguments.streams} streams for {arguments.minutes:g} minutes, stalled for {arguments.stall_s:g} s; give "
            "more than 0"
        )
    begin = time.perf_counter()
    pack, where, model = open_pack(arguments, progress)
    names = ("streams", "minutes", "stall_s", "max_sequences", "new_tokens", "fault_s", "seed")
    settings = {"subject": pack_json(pack)} | {name: getattr(arguments, name) for name in names}
    run = RunRecord.begin(command, settings)
    options = ["--max-sequences", str(arguments.max_sequences), "--session-lease", str(arguments.lease_s)]
    options += ["--max-waiting", str(2 * arguments.streams), "--max-sessions", str(2 * arguments.streams)]
    task = progress.add_task("soak, s", total=60 * arguments.minutes)
    with running("serving.product", command_line(where, model, *options, add=["faults"])) as server:
        soaked = asyncio.run(soak(server.url, pack, arguments, progress, task))
    # One more slot than stalled readers: for who is served meanwhile.
    options = ["--max-sequences", str(arguments.streams + 1), "--max-context", str(arguments.context)]
    options += ["--max-waiting", str(2 * arguments.streams), "--max-sessions", str(2 * arguments.streams)]
    task = progress.add_task("stalled, s", total=arguments.stall_s)
    with running("serving.product", command_line(where, model, *options, add=["faults"])) as server:
        stalled = asyncio.run(stall(server.url, pack, arguments, progress, task))
    found = {
        "run": run.to_json() | {"seconds": round(time.perf_counter() - begin, 1)},
        "quick": arguments.quick,
        "soak": soaked,
        "stalled": stalled,
    }
    found["requirements"] = [one.to_json() for one in requirements(found)]
    report: Record = plain(found, 6)  # rounded first, so that the page can be made again from the JSON
    return report


async def soak(
    url: str, pack: LensPack, arguments: argparse.Namespace, progress: Progress, task: TaskID
) -> Record:
    """Misbehaving clients for so long; what was done, seen and left."""
    loop = asyncio.get_running_loop()
    prompts = questions(pack, min(50, len(pack.hierarchy)))
    async with httpx.AsyncClient(base_url=url, timeout=SETTLE_S) as http:
        resident = Resident((await look(http))["pid"])
        clients = Clients(url, prompts, arguments.new_tokens, arguments.seed)
        until_s = loop.time() + 60 * arguments.minutes
        watching = asyncio.create_task(resident.watch(arguments.sample_s))
        streams = [asyncio.create_task(clients.run(until_s)) for _ in range(arguments.streams)]
        most_at_once = told = 0
        due_s = loop.time() + arguments.fault_s
        while not all(stream.done() for stream in streams):
            now = await look(http)
            most_at_once = max(most_at_once, now["running"] + now["waiting"])
            if due_s <= loop.time() < until_s:
                await http.post(PATH, json={"faults": {"break_steps": 1}})
                told += 1
                due_s += arguments.fault_s
            progress.update(task, completed=60 * arguments.minutes - max(0.0, until_s - loop.time()))
            await asyncio.wait(streams, timeout=min(1.0, arguments.fault_s / 2))
        await asyncio.gather(*streams)
        watching.cancel()
        left = await settle(http)
        health = (await http.get("/health")).status_code
    seen = clients.seen
    memory = resident.to_json(arguments.seed)
    # Growth is between the middles of the second and the last quarter: half of the tokens, as near as makes no matter.
    growth = memory["growth_mib"] * MIB / max(1, left["tokens"] / 2)
    return {
        "counts": dict(sorted(seen.counts.items())),
        "entries": seen.entries,
        "dropped": seen.dropped,
        "problems": len(seen.problems),
        "first_problems": list(dict.fromkeys(seen.problems))[:5],
        "most_at_once": most_at_once,
        "steps_told_to_break": told,
        "left": left,
        "health": health,
        "memory": memory | {"growth_bytes_a_token": growth},
        "seconds_S": [second - resident.seconds_S[0] for second in resident.seconds_S],
        "mib_S": resident.mib_S,
    }


async def stall(
    url: str, pack: LensPack, arguments: argparse.Namespace, progress: Progress, task: TaskID
) -> Record:
    """Readers that read nothing for so long: what they cost in memory, and whether somebody else is served."""
    loop = asyncio.get_running_loop()
    prompt = questions(pack, 1)[0]
    new_tokens = arguments.context - _PROMPT
    body: Record = {
        "prompt": prompt,
        "max_tokens": new_tokens,
        "temperature": 2.0,  # hardly ever an end token
        "stream": True,
        "lenses": {"show": STALLED_SHOW},
    }
    raw = json_request(COMPLETIONS, body)
    async with httpx.AsyncClient(base_url=url, timeout=10 * SETTLE_S) as http:
        resident = Resident((await look(http))["pid"])
        await fill_slots(http, arguments.streams + 1, arguments.context)
        await asyncio.gather(*(read_all(url, raw) for _ in range(arguments.streams)))
        await settle(http)
        before = resident.sample()
        sockets = [await stalled_reader(url, raw) for _ in range(arguments.streams)]
        began_s = loop.time()
        most, most_paused, served_ms = before, 0, []
        while loop.time() < began_s + arguments.stall_s:
            most = max(most, resident.sample())
            now = await look(http)
            most_paused = max(most_paused, now["paused"])
            asked_s = time.perf_counter()
            small = {"prompt": prompt, "max_tokens": 4, "temperature": 0}
            (await http.post(COMPLETIONS, json=small)).raise_for_status()
            served_ms.append(1e3 * (time.perf_counter() - asked_s))
            progress.update(task, completed=loop.time() - began_s)
            await asyncio.sleep(arguments.sample_s)
        for one in sockets:
            one.close()
        left = await settle(http)
        after = resident.sample()
    return {
        "readers": arguments.streams,
        "new_tokens": new_tokens,
        "before_mib": before,
        "most_mib": most,
        "after_mib": after,
        "cost_mb": (most - before) * MIB / 1e6,
        "most_paused": most_paused,
        "served_meanwhile": len(served_ms),
        "served_median_ms": float(np.median(served_ms)),
        "left": left,
    }


async def look(http: httpx.AsyncClient) -> Record:
    """How the engine stands."""
    found: Record = (await http.get(PATH)).raise_for_status().json()["faults"]
    return found


async def settle(http: httpx.AsyncClient) -> Record:
    """Wait until nothing runs and leases are over, or too long; how the engine stands after one more small request.

    It lets go of what is over at its next step: a session that was closed last keeps its slot until then.
    """
    loop = asyncio.get_running_loop()
    due_s = loop.time() + SETTLE_S
    now = await look(http)
    while any(now[name] for name in ("waiting", "running", "sessions")) and loop.time() < due_s:
        await asyncio.sleep(0.2)
        now = await look(http)
    (await http.post(COMPLETIONS, json={"prompt": "What is it?", "max_tokens": 1})).raise_for_status()
    return await look(http) | {"slots_before_a_step": now["slots_owned"]}


async def fill_slots(http: httpx.AsyncClient, slots: int, context: int) -> None:
    """Write keys and values of every slot once, as long as it is: memory that is kept, and no stalled reader's."""
    text = "What is it? " * context
    ids = (await http.post("/v1/tokenize", json={"prompt": text})).raise_for_status().json()["tokens"]
    body: Record = {"prompt": ids[: context - 2], "max_tokens": 1, "temperature": 0}
    sessions = []
    for _ in range(slots):  # a session stays in its slot while nobody else wants it
        sessions.append((await http.post(SESSIONS, json={})).raise_for_status().json()["id"])
        (await http.post(COMPLETIONS, json=body | {"session": sessions[-1]})).raise_for_status()
    for session in sessions:
        (await http.delete(f"{SESSIONS}/{session}")).raise_for_status()


async def read_all(url: str, raw: bytes) -> None:
    """One stream, read to its end."""
    caller = await Caller.open(url)
    async for _ in caller.events(raw):
        pass
    await caller.close()


async def stalled_reader(url: str, raw: bytes) -> socket.socket:
    """A connection that has asked, and will read nothing; its own buffer is small."""
    there = urlsplit(url)
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    found.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(found, (there.hostname, there.port))
    await loop.sock_sendall(found, raw)
    return found


LEFT = ("waiting", "running", "sessions", "slots_owned", "slots_filled")
"""What must be nothing when everybody has gone."""


def requirements(found: Record) -> list[Requirement]:
    """What was asked for."""
    soaked, stalled = found["soak"], found["stalled"]
    left = sum(one["left"][name] for one in (soaked, stalled) for name in LEFT)
    cancelled = soaked["left"]["finished"].get("cancelled", 0)
    trend = soaked["memory"]["slope_mib_a_minute"]
    unseen = soaked["steps_told_to_break"] - soaked["left"]["planted"]
    return [
        Requirement("requests, sessions and slots left over", left, "", most=0),
        Requirement("streams that were not whole", soaked["problems"], "streams", most=0),
        Requirement(
            "streams read to the end and held against the rules",
            soaked["counts"].get("read to the end", 0),
            "streams",
            least=1,
        ),
        Requirement("steps broken", soaked["left"]["planted"], "steps", least=1),
        Requirement("steps told to break that did not", unseen, "steps", most=0),
        Requirement(
            "streams that ended by them, as clients saw",
            soaked["counts"].get("ended by an error", 0),
            "streams",
            least=1,
        ),
        Requirement("generations that the server cancelled", cancelled, "generations", least=1),
        Requirement("health at the end", soaked["health"], "", most=200),
        *(
            [
                Requirement(
                    "memory, upper end of its slope", trend.high, "MiB a minute", most=FLAT_MIB_A_MINUTE
                )
            ]
            if trend is not None
            else []
        ),
        Requirement(f"{stalled['readers']} stalled readers", stalled["cost_mb"], "MB", most=STALLED_MOST_MB),
    ]


def write(report: Record, out: Path) -> list[Path]:
    """Write the report's files; returns their paths."""
    drawn = {picture_name(out, name): svg for name, svg in pictures(report).items()}
    return write_report(out, json=json_text(report), page=markdown(report, sorted(drawn)), pictures=drawn)


def summary(report: Record) -> Record:
    """What the last line says."""
    soaked, stalled = report["soak"], report["stalled"]
    return {
        "quick": report["quick"],
        "counts": soaked["counts"],
        "problems": soaked["problems"],
        "planted": soaked["left"]["planted"],
        "left": {name: soaked["left"][name] for name in LEFT},
        "slope_mib_a_minute": soaked["memory"]["slope_mib_a_minute"],
        "stalled_mb": stalled["cost_mb"],
        "requirements": report["requirements"],
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    options = Options(__doc__, "reports/soak", quick="few streams, seconds")
    add_options(options.parser)
    options.add("streams", STREAMS, QUICK_STREAMS, "at once")
    options.add("minutes", MINUTES, QUICK_MINUTES)
    options.add("stall-s", STALL_S, QUICK_STALL_S, "seconds that readers stall")
    options.parser.add_argument(
        "--max-sequences", type=int, default=32, help="of the server that is soaked; others wait"
    )
    options.fix("new_tokens", NEW_TOKENS, QUICK_NEW_TOKENS)
    options.fix("fault_s", FAULT_S, QUICK_FAULT_S)
    options.fix("lease_s", LEASE_S, QUICK_LEASE_S)
    options.fix("context", CONTEXT, QUICK_CONTEXT)
    options.fix("sample_s", SAMPLE_S, 0.05)
    return options.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; exit code 2 and one line for what the user can mend."""
    return make_report("scripts/soak_server.py", argv, parse(argv), build=build, write=write, summary=summary)


if __name__ == "__main__":
    sys.exit(main())
