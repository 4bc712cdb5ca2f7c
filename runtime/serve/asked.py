"""Concepts that requests ask for themselves: scored at every row of theirs, whatever the walk opens.

Lenses are scored by families, so what is asked for is a bank of some families. Banks of the sets that were asked for
lately are kept. What one request asks for is not seen by another, and changes nothing of what the walk says.

Shapes: P rows, D hidden size, A concepts.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Sequence

import numpy as np

from lenses.bank import Bank
from lenses.lens import Floats
from lenses.pack import LensPack
from runtime.rows import Row

_KEPT = 16
"""Banks."""


class Asked:
    """Scores what the sequences of rows ask for."""

    def __init__(self, pack: LensPack) -> None:
        self._pack = pack
        self._banks: OrderedDict[tuple[int, ...], Bank] = OrderedDict()

    def __call__(self, rows: Sequence[Row], states_PD: Floats) -> None:
        """Fill `Scores.asked_A` of each row; rows with the same wishes are scored together."""
        together: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for at, row in enumerate(rows):
            if len(row.sequence.asked_A) and row.scores is not None:
                together[tuple(row.sequence.asked_A.tolist())].append(at)
        for asked, places in together.items():
            bank = self._bank(asked)
            scores_PN = bank.score_base(bank.inputs(states_PD[places]))
            columns = np.searchsorted(bank.base_ids, np.array(asked))
            for at, scores_N in zip(places, scores_PN, strict=True):
                scores = rows[at].scores
                assert scores is not None, "these were chosen so"
                scores.asked_A = scores_N[columns]

    def _bank(self, asked: tuple[int, ...]) -> Bank:
        families = tuple(sorted({self._pack.hierarchy.concepts[index].family for index in asked}))
        if families in self._banks:
            self._banks.move_to_end(families)
            return self._banks[families]
        bank = self._banks[families] = Bank(self._pack, families)
        if len(self._banks) > _KEPT:
            self._banks.popitem(last=False)[1].close()
        return bank

    def close(self) -> None:
        """End the banks."""
        for bank in self._banks.values():
            bank.close()
