"""Writes what `soak_server.py` found as a page to read, and its picture of memory.

It takes the report as its JSON holds it; knows nothing about how the numbers came about.
"""

from collections.abc import Sequence
from typing import Any

from experiments.page import head
from experiments.requirements import requirements_table
from measuring.tables import digits, interval_cell

from pages.pictures import Axis, Line, lines
from pages.tables import table

Record = dict[str, Any]

_LEFT = {
    "waiting": "requests that wait",
    "running": "requests that run",
    "sessions": "sessions",
    "slots_owned": "slots in use",
    "slots_filled": "slots with tokens",
    "slots_before_a_step": "slots in use before one more request (what is over goes at the next step)",
    "planted": "steps that were broken",
    "tokens": "tokens drawn",
    "positions": "positions scored",
}


def markdown(report: Record, pictures: Sequence[str] = ()) -> str:
    """The page."""
    configuration, soaked, stalled = report["run"]["configuration"], report["soak"], report["stalled"]
    memory = soaked["memory"]
    parts = [
        head(report, "A server with clients that misbehave"),
        f"{configuration['streams']} clients keep a stream open each for {configuration['minutes']:g} minutes, at "
        f"{configuration['max_sequences']} slots; answers of up to {configuration['new_tokens']} tokens. *Vanish*: "
        "closed after some events. *Reset*: the same by a reset of the connection. *Half*: half a body, then closed. "
        "One in five is in a session; who leaves early leaves it to its lease. Every so often a step of the engine is "
        f"broken ({configuration['fault_s']:g} s): who took part in it is told of an error.\n",
        "## What was asked for\n",
        requirements_table(report["requirements"]),
        "## What was done, and seen\n",
        table(("streams", ""), [(name, str(count)) for name, count in soaked["counts"].items()]),
        f"Up to {soaked['most_at_once']} requests waited or ran at once. The server's generations ended so: "
        + ", ".join(f"{name} {count}" for name, count in sorted(soaked["left"]["finished"].items()))
        + ".\n",
        f"In streams that were read to their end, {soaked['entries']} positions had an entry and {soaked['dropped']} "
        f"were declared missing (`drop-oldest`); {soaked['problems']} streams were not whole"
        + (f" ({'; '.join(soaked['first_problems'])})" if soaked["first_problems"] else "")
        + ".\n",
        "## What was left, after the leases\n",
        table(("", ""), [(name, str(soaked["left"][key])) for key, name in _LEFT.items()]),
        "## Memory\n",
        f"The server's resident set, {memory['samples']} samples: {digits(memory['first_mib'])} MiB at first, "
        f"{digits(memory['last_mib'])} at last, {digits(memory['most_mib'])} at most; "
        f"{digits(memory['growth_mib'])} MiB from the second quarter to the last, "
        f"{digits(memory['growth_bytes_a_token'])} bytes a token. Slope behind the first quarter, MiB a minute: "
        f"{interval_cell(memory['slope_mib_a_minute']) if memory['slope_mib_a_minute'] else 'too few samples'}.\n",
        *(f"![{path}]({path})\n" for path in pictures),
        "## Readers that stall\n",
        f"{stalled['readers']} readers asked for {stalled['new_tokens']} tokens each and read nothing, with slots "
        "for all (which were filled once before: keys and values are kept).\n",
        table(
            ("", ""),
            [
                ("resident MiB before", digits(stalled["before_mib"])),
                ("most, while they stalled", digits(stalled["most_mib"])),
                ("after they had gone", digits(stalled["after_mib"])),
                ("cost, MB", digits(stalled["cost_mb"])),
                ("generations held for their readers, at most", str(stalled["most_paused"])),
                ("others served meanwhile", str(stalled["served_meanwhile"])),
                ("median ms of these", digits(stalled["served_median_ms"])),
                ("slots in use after they had gone", str(stalled["left"]["slots_owned"])),
            ],
        ),
    ]
    return "\n".join(parts)


def pictures(report: Record) -> dict[str, str]:
    """Memory over time, by the picture's name."""
    soaked = report["soak"]
    first = soaked["mib_S"][0]
    line = Line("server", soaked["seconds_S"], [mib - first for mib in soaked["mib_S"]])
    x, y = Axis.up_to("seconds", max(line.x)), Axis.up_to("MiB above the first sample", max(1.0, *line.y))
    return {"memory": lines("The server's memory while clients misbehave", [line], x, y)}
