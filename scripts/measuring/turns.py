"""Variants that take turns, the memory floor read between the rounds, a bar for who waits."""

from collections.abc import Sequence

from rich.progress import Progress

from measuring.floor import MemoryFloor
from measuring.rounds import Rounds, Variant, alternate


def turns(
    variants: Sequence[Variant],
    *,
    rounds: int,
    warm_up: int,
    seed: int,
    title: str,
    progress: Progress,
    floor: MemoryFloor,
) -> Rounds:
    """All variants in turns, the memory floor read between the rounds."""
    task = progress.add_task(title, total=rounds)

    def between() -> None:
        floor.sample()
        progress.advance(task)

    return alternate(variants, rounds=rounds, warm_up=warm_up, seed=seed, between=between)
