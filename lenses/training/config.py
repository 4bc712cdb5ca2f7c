"""How lenses are trained."""

from dataclasses import dataclass

from lenses.config import LensConfig
from lenses.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How lenses are trained."""

    widths: tuple[int, ...] = (16, 8)
    """Widths of the two hidden layers; none for linear lenses."""
    rank: int | None = None
    """R, the rows of a projection that all lenses read through (compact); None: they read the state itself."""
    steps: int = 1000
    shared: int = 64
    """Samples a step that all lenses see."""
    own: int = 16
    """Samples a step of each lens's own positives, and as many of its parent's."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    sibling_weight: float = 4.0
    """Weight of a negative that is a sibling's positive, against 1 for any other."""
    dropout: float = 0.1
    """Share of the standardised input that is left out while training."""
    coherence: float = 0.1
    """Weight of the penalty on a concept that is surer than its parent: the square of what its log-odds are above."""
    span: int = 512
    """K, principal directions of the states to train in; states of no more numbers are taken as they are."""
    looks: int = 20
    """Looks at the validation states, evenly spaced over the steps."""
    patience: int = 5
    """Looks at which a lens may fail to improve before it counts as finished."""
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.widths) not in (0, 2) or (self.rank is not None and not self.widths):
            raise ConfigError(
                f"widths {list(self.widths)} with rank {self.rank} are no lens; give two widths, or none and no rank "
                "for linear lenses"
            )
        least = {"steps": 1, "shared": 2, "own": 1, "span": 1, "looks": 1, "patience": 1}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected {lowest} or more; give more")

    def lens(self) -> LensConfig:
        """What a pack of these lenses holds."""
        if self.rank is not None:
            return LensConfig("compact", (self.rank, *self.widths))
        return LensConfig("mlp" if self.widths else "linear", self.widths)
