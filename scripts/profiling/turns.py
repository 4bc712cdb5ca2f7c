"""The same texts with lenses off, off again, on, and on with a clock, in turns; every run is compared with the first.

`off` and `off again` are the same: what they differ by means nothing. `on` has no clock, so that its difference from
`off` is what watching costs; `clocked` says where that goes, and its difference from `on` is what the clock costs.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from measuring.rounds import Variant, alternate

from profiling.runs import Run, Task, check_same, generate
from profiling.watching import Watched, Watching
from runtime.host import Host

OFF, AGAIN, ON, CLOCKED = "off", "off again", "on", "on, clocked"


@dataclass(frozen=True, slots=True)
class Turns:
    """What came of all timed rounds."""

    runs: dict[str, list[list[Run]]]
    """Variant to its runs: by task, then by round."""
    clocked: list[list[Watched]]
    """The runs of `CLOCKED` once more, with the counters before each."""


def take_turns(
    host: Host,
    tasks: Sequence[Task],
    watching: Watching,
    clocked: Watching,
    *,
    rounds: int,
    between: Callable[[], object],
) -> Turns:
    """Run each task in each way once a round, after one round that is thrown away.

    Raises Differs where a run did not write or see what the first one of its task did.
    """
    found: dict[str, list[list[Run]]] = defaultdict(lambda: [[] for _ in tasks])
    counted: list[list[Watched]] = [[] for _ in tasks]
    first: dict[tuple[int, bool], Run] = {}

    def keep(name: str, at: int, ran: Run | Watched) -> None:
        run = ran.run if isinstance(ran, Watched) else ran
        check_same(name, run, first.setdefault((at, False), run))
        if run.contents is not None:
            check_same(name, run, first.setdefault((at, True), run))
        found[name][at].append(run)
        if isinstance(ran, Watched) and name == CLOCKED:
            counted[at].append(ran)

    variants: list[Variant] = []
    for at, task in enumerate(tasks):
        for name in (OFF, AGAIN):
            run = partial(generate, host, task)
            variants.append(Variant(f"{name}, text {at}", run, check=partial(keep, name, at)))
        for name, one in ((ON, watching), (CLOCKED, clocked)):
            watched = partial(one.run, host, task)
            variants.append(Variant(f"{name}, text {at}", watched, one.prepare, partial(keep, name, at)))
    alternate(variants, rounds=rounds, warm_up=1, between=between)
    runs = {name: [by_round[-rounds:] for by_round in found[name]] for name in (OFF, AGAIN, ON, CLOCKED)}
    return Turns(runs, [by_round[-rounds:] for by_round in counted])
