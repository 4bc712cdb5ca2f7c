"""What ways of scoring cost: one position at a time through the engine, everything hot, the ways taking turns.

Shapes: P positions, D hidden size.
"""

from collections.abc import Mapping
from contextlib import ExitStack

from measuring.floor import MemoryFloor
from measuring.positions import time_positions
from measuring.samples import Summary

from lenses.lens import SHARED, Floats
from lenses.pack import LensPack
from runtime.config import MonitorConfig
from runtime.engine import Engine

Record = dict[str, object]
_FLOOR_EVERY = 50


def cost(
    ways: Mapping[str, tuple[LensPack, MonitorConfig]], states_PD: Floats
) -> tuple[dict[str, Record], Record]:
    """Of each way: milliseconds a position, bytes read for it and their floor, bytes to hold; and the floor itself."""
    with ExitStack() as opened, MemoryFloor() as floor:
        engines = {name: opened.enter_context(Engine(*way)) for name, way in ways.items()}
        timed = time_positions(
            engines, states_PD, lambda position: None if position % _FLOOR_EVERY else floor.sample()
        )
        records: dict[str, Record] = {}
        for name, (pack, _) in ways.items():
            lens_bytes, shared_bytes = bytes_of(pack)
            read = timed[name].scored * lens_bytes + shared_bytes
            records[name] = {
                "milliseconds": Summary.of(timed[name].ms_P).to_json(),
                "lenses": timed[name].scored,
                "bytes_a_position": read,
                "floor_ms": floor.floor_ms(int(read)),
                "bytes_to_hold": lens_bytes * len(pack.hierarchy) + shared_bytes,
            }
        return records, floor.to_json()


def bytes_of(pack: LensPack) -> tuple[float, int]:
    """Bytes of one lens, its head included, and bytes that all lenses share."""
    first = sum(pack.family_bytes(family.index) for family in pack.hierarchy.families)
    arrays = pack.heads.tensors()
    shared = sum(array.nbytes for name, array in arrays.items() if name in SHARED)
    heads = sum(array.nbytes for array in arrays.values()) - shared
    return (first + heads) / len(pack.hierarchy), shared
