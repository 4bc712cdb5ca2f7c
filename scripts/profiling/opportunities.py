"""What is left to gain, largest first: each component's milliseconds above its floor, and what would remove them.

Takes rows of the component table. A component that moves no bytes worth counting has 0 as its floor.
"""

from collections.abc import Sequence
from typing import Any

from runtime.clock import Component

Record = dict[str, Any]

REMEDIES = {
    Component.HOOK: "Read rows in groups (--read-every): one copy and one call for several tokens.",
    Component.STATES: "Pool by token, or take a pack whose projection is smaller.",
    Component.DETECTION: "Store first layers in int8, or score fewer levels at every position (--base-levels); what is "
    "above the floor is arithmetic of the later layers and handing work to threads.",
    Component.EXPANSION: "Rank in the kernel that scored, or open fewer families a level (--top-k, --load-threshold).",
    Component.PREWARM: "Read while the host still works on the prompt, or more readers where the disk serves several; "
    "without it (--no-prewarm) the same reads are met one by one.",
    Component.CACHE: "Open fewer families (--top-k), which are found and pinned one by one; a hot budget that holds "
    "all that is met (--hot-budget), so that none is moved.",
    Component.COLD: "More room (--hot-budget, --warm-budget), reading ahead (pre-warming), or going on without what is "
    "missing (--missing deferred); the floor here is memory's, a disk's own is higher.",
    Component.WARM: "More room on the device (--hot-budget), or copies that run beside the host's next forward.",
    Component.CHILDREN: "Score a level's families in one call where they lie; store first layers in int8, or open "
    "fewer families (--top-k).",
    Component.EVENTS: "Make views of an event when somebody looks at it, or events for fewer positions "
    "(--prompt-events).",
}
"""What would remove a component's time, but for the host's, which is not ours."""


def opportunities(rows: Sequence[Record]) -> list[Record]:
    """The components in the order of what they would give if each came down to its floor."""
    lens_ms = sum(row["mean_ms"] for row in rows if row["component"] != Component.HOST)
    found = [
        {
            "component": row["component"],
            "ms": row["mean_ms"],
            "floor_ms": row["floor_ms"] or 0.0,
            "gain_ms": max(0.0, row["mean_ms"] - (row["floor_ms"] or 0.0)),
            "gain_share": max(0.0, row["mean_ms"] - (row["floor_ms"] or 0.0)) / lens_ms if lens_ms else 0.0,
            "remedy": REMEDIES[Component(row["component"])],
        }
        for row in rows
        if row["component"] != Component.HOST
    ]
    return sorted(found, key=lambda one: -one["gain_ms"])
