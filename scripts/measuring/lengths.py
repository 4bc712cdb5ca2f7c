"""What a run costs before its first item and what each item adds, from runs of two lengths.

    per item   (median of the long runs - median of the short ones) / (items of the long - items of the short)
    fixed      median of the short runs - their items x per item

With intervals: rounds are drawn anew with replacement, both lengths' together. It holds where an item costs the same
wherever it stands; a third length, held against `FixedAndPerItem.expected_ms`, shows whether it does.

Shape: R rounds.
"""

from dataclasses import dataclass

import numpy as np

from lenses.errors import ConfigError
from lenses.metrics import Doubles, Estimate
from measuring.comparing import draws, interval


@dataclass(frozen=True, slots=True)
class FixedAndPerItem:
    """The two parts of a cost."""

    fixed_ms: Estimate
    per_item_ms: Estimate

    def expected_ms(self, items: int) -> float:
        """What a run of so many items should take."""
        return self.fixed_ms.value + items * self.per_item_ms.value

    def to_json(self) -> dict[str, object]:
        """As one JSON object, each part as [value, low, high]."""
        return {
            name: [found.value, found.low, found.high]
            for name, found in (("fixed_ms", self.fixed_ms), ("per_item_ms", self.per_item_ms))
        }


def two_lengths(
    short_ms_R: Doubles, long_ms_R: Doubles, *, short_items: int, long_items: int, seed: int = 0
) -> FixedAndPerItem:
    """The parts of a cost out of runs of two lengths that took turns; raises ConfigError for lengths that are none."""
    if not 0 <= short_items < long_items or len(short_ms_R) != len(long_ms_R):
        raise ConfigError(
            f"{len(short_ms_R)} runs of {short_items} items and {len(long_ms_R)} of {long_items}; give as many of "
            "each, and two lengths, the shorter first"
        )
    drawn_WR = draws(len(short_ms_R), seed)
    short_W, long_W = (np.median(ms_R[drawn_WR], axis=1) for ms_R in (short_ms_R, long_ms_R))
    short, long = float(np.median(short_ms_R)), float(np.median(long_ms_R))
    items = long_items - short_items
    per_item, per_item_W = (long - short) / items, (long_W - short_W) / items
    return FixedAndPerItem(
        interval(short - short_items * per_item, short_W - short_items * per_item_W),
        interval(per_item, per_item_W),
    )
