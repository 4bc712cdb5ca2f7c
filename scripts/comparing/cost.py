"""What ways of scoring cost: one position at a time through the engine, everything hot, the ways taking turns.

Shapes: P positions, D hidden size.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
from measuring.floor import MemoryFloor
from measuring.rounds import collector_off
from measuring.samples import Summary

from lenses.lens import Floats
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
        for engine in engines.values():
            engine.score(states_PD, "prompt")
        ms = {name: np.zeros(len(states_PD)) for name in ways}
        scored = dict.fromkeys(ways, 0)
        rng = np.random.default_rng(0)
        names = list(ways)
        with collector_off():
            for position in range(len(states_PD)):
                if position % _FLOOR_EVERY == 0:
                    floor.sample()
                for name in rng.permutation(names).tolist():
                    begin = time.perf_counter()
                    (found,) = engines[name].score(states_PD[position : position + 1], "generation")
                    ms[name][position] = 1e3 * (time.perf_counter() - begin)
                    scored[name] += found.coverage.scored
        records: dict[str, Record] = {}
        for name, (pack, _) in ways.items():
            lens_bytes, shared_bytes = bytes_of(pack)
            read = scored[name] / len(states_PD) * lens_bytes + shared_bytes
            records[name] = {
                "milliseconds": Summary.of(ms[name]).to_json(),
                "lenses": scored[name] / len(states_PD),
                "bytes_a_position": read,
                "floor_ms": floor.floor_ms(int(read)),
                "bytes_to_hold": lens_bytes * len(pack.hierarchy) + shared_bytes,
            }
        return records, floor.to_json()


def bytes_of(pack: LensPack) -> tuple[float, int]:
    """Bytes of one lens, its head included, and bytes that all lenses share."""
    first = sum(pack.family_bytes(family.index) for family in pack.hierarchy.families)
    arrays = pack.heads.tensors()
    shared = arrays.pop("projection", None)
    heads = sum(array.nbytes for array in arrays.values())
    return (first + heads) / len(pack.hierarchy), 0 if shared is None else shared.nbytes
