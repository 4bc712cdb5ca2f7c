"""Alarms of a watched generation: which lenses alarm at an event, how often they did, and how often they were to.

An alarm is a (token, lens) pair whose log-odds are above the lens's threshold for a budget (`lenses.alarms`). Lenses
that were not scored at a token cannot alarm there, so a walk alarms at most as often as was promised of scoring
everything. Knows nothing about how alarms are shown.
"""

from typing import TYPE_CHECKING

import numpy as np

from lenses.alarms import alarm_budget
from lenses.calibration import log_odds

if TYPE_CHECKING:
    from lenses.pack import LensPack
    from runtime.events import Event, Score


class Alarms:
    """Thresholds for `budget` alarms per 1,000 tokens at the most, and a count of those that came.

    Raises ConfigError for a budget that the pack cannot promise; where no lens may alarm, none ever does.
    """

    def __init__(self, pack: "LensPack", budget: float) -> None:
        self.promise = alarm_budget(pack.hierarchy, pack.heads, budget)
        """The thresholds, and what is promised of them."""
        self._at: dict[tuple[int, int], int] = {}

    def of(self, event: "Event") -> list["Score"]:
        """The concepts that alarm at an event, those furthest above their thresholds first."""
        heads, scored = event.pack.heads, event.scored
        odds = log_odds(event.logits, heads.platt_slope[scored], heads.platt_offset[scored])
        above = odds - self.promise.threshold_N[scored]
        places = np.flatnonzero(above > 0)
        ids = [event.pack.hierarchy.concepts[int(scored[at])].id for at in places[np.argsort(-above[places])]]
        return [score for score in map(event.score_of, ids) if score is not None]

    def add(self, event: "Event") -> None:
        """Count an event's alarms; a later revision's take the place of the earlier one's."""
        if event.state == "ok":
            self._at[event.sequence, event.position] = len(self.of(event))

    @property
    def tokens(self) -> int:
        """Tokens at which lenses were scored."""
        return len(self._at)

    @property
    def count(self) -> int:
        """Alarms at all of them."""
        return sum(self._at.values())

    def __str__(self) -> str:
        promise = self.promise
        if not promise.lenses:
            return "no alarms: no lens of this pack is graded A to D and has a threshold from a null corpus"
        rate = f", {1000 * self.count / self.tokens:.1f} per 1,000" if self.tokens else ""
        return (
            f"{self.count} alarms in {self.tokens} tokens{rate}; promised at most {promise.at_most:.3g} per 1,000 on "
            f"texts of the null corpus's kind (budget {promise.budget:g}, {promise.lenses} lenses)"
        )
