"""Rules: a concept's probability above or below a bound for some positions in a row, and what is done then.

    animal.n.01 > 0.9 for 3 -> mark
    └ concept ┘ │ └ bound  │    └ mark: the event says so · stop: generation ends · call: a function gets the event
                │          └ positions in a row, 1 if left out
                └ or <

A rule is *met* at a position where its condition holds there and at the positions before it, so many in a row; while
the run goes on it is met at each. What is a position:

- Every row that is `ok` of one sequence, of the prompt and of generation alike: a run may begin in the prompt and be
  met behind it. Each sequence of a batch is counted alone.
- The BOS token is none. A row that is not finite ends every run: nothing is known of it, for `<` no more than for `>`.
- Where the prompt has no events (`prompt_events = off`), its positions are none.

A rule's concept is scored at every position, whether or not the walk down the hierarchy comes to it, from memory that
is set aside in the hot budget. So what a rule sees never depends on what else is scored, nor on what is in memory, and
it is never late for a family (`deferred`). What an event says of other concepts does not change.

Knows nothing about events, hosts, or who marks, calls and stops.

Shapes: R rules.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from lenses.errors import ConfigError
from lenses.grade import UNMEASURED, grade
from lenses.text import is_plain, quoted

if TYPE_CHECKING:  # imports torch, which a rule need not wait for
    from lenses.pack import LensPack

Side = Literal[">", "<"]
Action = Literal["mark", "stop", "call"]

GRAMMAR = "CONCEPT > BOUND for POSITIONS -> ACTION, such as: animal.n.01 > 0.9 for 3 -> mark"
_BEYOND = re.compile(
    r"(?P<side>[<>])\s*(?P<bound>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\s+for\s+(?P<positions>\d{1,9}))?\s*"
)
"""What stands behind the concept and before the arrow."""
_WORST = "F"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `str(rule)` is its text, and `Rule.parse` reads it."""

    concept: str
    """The concept's id."""
    side: Side
    bound: float
    """A calibrated probability. The condition holds beyond it, not at it."""
    positions: int = 1
    """In a row."""
    action: Action = "mark"
    call: Callable[[Any], object] | None = None
    """What gets the event, for the action `call`: in the thread that generates, after all sinks had it. What it raises
    comes out of `generate`."""

    def __post_init__(self) -> None:
        if not isinstance(self.concept, str) or not self.concept.strip() or not is_plain(self.concept):
            raise ConfigError(f"a rule's concept is {quoted(self.concept)}; expected the id of a concept")
        if self.side not in (">", "<"):
            raise ConfigError(f"a rule has {quoted(self.side)} between concept and bound; expected > or <")
        if not 0 <= self.bound <= 1 or self.bound == (self.side == ">"):
            raise ConfigError(
                f"no probability is {self.side} {self.bound:g}; give a rule a bound from 0 to 1"
            )
        if self.positions < 1:
            raise ConfigError(f"a rule is for {self.positions} positions; give 1 or more")
        if self.action not in ("mark", "stop", "call"):
            raise ConfigError(f"a rule's action is {quoted(self.action)}; expected mark, stop or call")
        if (self.action == "call") != (self.call is not None):
            raise ConfigError(
                "a rule that calls has no function; in Python: Rule.parse(text, call=function)"
                if self.call is None
                else f"a rule with a function has the action {self.action}; expected call"
            )

    @classmethod
    def parse(cls, text: str, *, call: Callable[[Any], object] | None = None) -> Self:
        """The rule of a text, see GRAMMAR; `call` is the function of a rule that ends in `-> call`.

        A concept whose id begins with a quote or has spaces around it is written as a JSON string. Raises ConfigError.
        """
        condition, arrow, action = text.rpartition("->")
        action = action.strip()
        if not arrow:
            raise _misread(text, "has no arrow")
        if action not in ("mark", "stop", "call"):
            raise _misread(text, f"has {quoted(action)} behind the arrow, expected mark, stop or call")
        at = max(condition.rfind(">"), condition.rfind("<"))  # the last one: an id may hold anything
        if at < 0:
            raise _misread(text, "has no > or < before the arrow")
        found = _BEYOND.fullmatch(condition[at:])
        if found is None:
            raise _misread(text, f"has {quoted(condition[at:].strip())} behind the concept")
        concept = _unquoted(condition[:at].strip())
        if not concept.strip():
            raise _misread(text, "names no concept")
        side: Any = found["side"]
        bound, positions = float(found["bound"]), int(found["positions"] or 1)
        return cls(concept, side, bound, positions, action, call)  # type: ignore[arg-type]  # it was compared above

    def __str__(self) -> str:
        concept = self.concept
        if concept != concept.strip() or concept.startswith('"'):
            concept = json.dumps(concept, ensure_ascii=False)
        run = f" for {self.positions}" if self.positions > 1 else ""
        return f"{concept} {self.side} {float(self.bound)!r}{run} -> {self.action}"

    def holds(self, probability: float) -> bool:
        """Whether the condition holds at a position where the concept has this probability."""
        return probability > self.bound if self.side == ">" else probability < self.bound


def _misread(text: str, found: str) -> ConfigError:
    return ConfigError(f"the rule {quoted(text)} {found}; expected {GRAMMAR}")


def _unquoted(concept: str) -> str:
    if not concept.startswith('"'):
        return concept
    try:
        value = json.loads(concept)
    except ValueError:
        return concept
    return value if isinstance(value, str) else concept


@dataclass(frozen=True, slots=True)
class Met:
    """A rule that is met at one position."""

    rule: Rule
    run: int
    """Positions in a row at which the condition has held: `rule.positions` where the run has just become long
    enough."""
    probability: float
    """The concept's, at this position."""
    stops: bool = False
    """Generation ends with the token that follows, because of this."""

    def to_json(self) -> dict[str, object]:
        """As one JSON object."""
        said = {"rule": str(self.rule), "run": self.run, "probability": round(self.probability, 6)}
        return said | ({"stops": True} if self.stops else {})


class Runs:
    """How long the conditions of some rules have held at the end of one sequence."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._run_R = [0] * len(rules)

    def push(self, probability_R: Sequence[float]) -> tuple[Met, ...]:
        """Go on by one position, at which the rules' concepts have these probabilities; the rules that are met."""
        met = []
        for at, (rule, probability) in enumerate(zip(self._rules, probability_R, strict=True)):
            self._run_R[at] = self._run_R[at] + 1 if rule.holds(probability) else 0
            if self._run_R[at] >= rule.positions:
                met.append(Met(rule, self._run_R[at], probability))
        return tuple(met)

    def end(self) -> None:
        """A position of which nothing is known: every run is over."""
        self._run_R = [0] * len(self._rules)


def check_rules(rules: Sequence[Rule], pack: "LensPack") -> list[str]:
    """What there is to be warned of, a line each: rules on lenses that nobody measured, or that are bad.

    Raises ConceptNotFound, and ConfigError for a lens that is not calibrated: what it says is no probability.
    """
    warnings = []
    for rule in rules:
        index = pack.hierarchy.index(rule.concept)
        if not pack.heads.calibrated[index]:
            raise ConfigError(
                f"the rule {quoted(str(rule))} is on a lens that is not calibrated, so its number is no probability; "
                "give a concept whose lens is, see: phoropter pack show"
            )
        found = grade(pack.hierarchy.concepts[index].metrics)
        if found == UNMEASURED:
            warnings.append(f"the rule {quoted(str(rule))} is on a lens that was not measured")
        elif found == _WORST:
            warnings.append(f"the rule {quoted(str(rule))} is on a lens of grade {found}")
    return warnings
