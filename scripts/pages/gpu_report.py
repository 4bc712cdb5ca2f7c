"""Writes what `benchmark_gpu.py` found as a page to read. Knows nothing about how the numbers came about."""

from typing import Any

from pages.tables import made_with, table

Record = dict[str, Any]

_UNMEASURED = (
    "a step with families hot, one position and several, as written, as a graph and compiled, beside the memory floor",
    "a lens on its way from pinned memory to the arena, beside a plain pinned copy",
    "whether the walk on the GPU and the engine agree, with a control that must not",
)
_NEVER = "a host's own time beside the walk, and one graph of the host's forward and the walk together"


def markdown(report: Record) -> str:
    """The page."""
    measured = report["measured"]
    parts = [_head(report), _measured(measured) if measured else _missing(), _layouts(report), _known()]
    return "\n".join(parts)


def _head(report: Record) -> str:
    run = report["run"]
    rows = [
        ("command", f"`{run['command']}`"),
        ("run", f"`{run['run']}`"),
        ("configuration", f"sha256 `{run['configuration_sha256'][:16]}`"),
        ("GPU", report["gpu"] or "none"),
        *made_with(run),
    ]
    return "# The walk in one step on a GPU\n\n" + table(("", ""), rows)


def _missing() -> str:
    return (
        "## Not measured\n\nNo GPU was at hand, so these are **not measured**:\n\n"
        + "".join(f"- {one}: not measured\n" for one in (*_UNMEASURED, _NEVER))
        + "\nWith a GPU, at Gemma-3-4b's shape:\n\n"
        "    python scripts/make_synthetic_pack.py --hidden-size 2560 --out runs/synthetic-4b\n"
        "    python scripts/benchmark_gpu.py --pack runs/synthetic-4b\n"
    )


def _measured(measured: Record) -> str:
    agreement, promotion = measured["agreement"], measured["promotion"]
    same = agreement["positions"] - agreement["other_sets"]
    difference = agreement["largest_difference"]
    text = (
        "## Measured\n\n"
        f"{same} of {agreement['positions']} positions got the same lenses as from the engine on the CPU, their logits "
        f"within {'nothing' if difference is None else f'{difference:.1e}'} of max(1, the largest). Moved states: "
        f"{agreement['control_differs']} of {agreement['positions']} differ, as they must. Most memory on the device: "
        f"{measured['peak_device_bytes'] / 2**30:.1f} GiB. Not measured: {_NEVER}.\n"
    )
    for one in measured["steps"]:
        rows = [
            (name, *_times(way), f"{way['median_ms'] / one['floor_ms']:.2f}")
            for name, way in one["ways"].items()
        ]
        text += (
            f"\n### {one['at_once']} at once\n\nFrom states on the device to results on the host, all hot: "
            f"{one['lenses']} different lenses, at {one['bandwidth_gb_s']:.0f} GB/s a floor of {one['floor_ms']:.4f} "
            "ms.\n\n" + table(("step", "n", "median ms", "p95 ms", "spread ms", "of the floor"), rows)
        )
    rows = [(name, *_times(promotion[name])) for name in ("bring", "copy")]
    return (
        text
        + f"\n### Warm to hot\n\nMilliseconds a lens of {promotion['lens_bytes']} bytes, and what one pinned copy of "
        "all of them takes a lens.\n\n" + table(("", "n", "median ms", "p95 ms", "spread ms"), rows)
    )


def _times(way: Record) -> tuple[str, ...]:
    return (str(way["n"]), *(f"{way[name]:.4f}" for name in ("median_ms", "p95_ms", "spread_ms")))


def _layouts(report: Record) -> str:
    rows = [
        (str(one["lenses_a_slot"]), str(one["room_lenses"]), f"{100 * one['empty']:.1f} %")
        for one in report["layouts"]
    ]
    return (
        "## Slots of the arena\n\nCounted on a tree of the reference's shape, all families beyond the base. A family "
        "takes whole slots, any that are free; the last row has one slot a family.\n\n"
        + table(("lenses a slot", "room in lenses", "empty"), rows)
        + "\nA lens of 2560-128 in bf16 is 655 KB, enough for a copy of its own: the arena has a slot a lens.\n"
    )


def _known() -> str:
    return (
        "## What is known without a GPU\n\n"
        "`tests/runtime/test_device_walk.py` runs the step, the arena, the warm pages and the ring on a CPU: equal to "
        "one lens at a time whatever is hot, to the last bit where sums are exact, ties included; one graph that "
        "decides nothing in Python and is never compiled anew; the same addresses at every step. The order in which "
        "copies and steps wait for each other is tested with events that pass when the test says so. Streams, pinned "
        "memory and the recording of a graph are the lines that only CUDA runs.\n"
    )
