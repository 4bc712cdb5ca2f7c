"""What a concept lens is, and how many are stored, stacked and scored. Never imports `runtime`.

LensPack    the trained lenses of one concept hierarchy for one host model at one site
Hierarchy   the concepts of a pack, and the families that they form
Concept     a named idea with a place in the hierarchy
"""

from typing import TYPE_CHECKING, Any

from lenses.concept import Concept, Hierarchy
from lenses.errors import PhoropterError

if TYPE_CHECKING:
    from lenses.pack import LensPack

__all__ = ["Concept", "Hierarchy", "LensPack", "PhoropterError"]


def __getattr__(name: str) -> Any:
    # torch takes a second to import, and neither a command's help nor a list of packs needs it.
    if name == "LensPack":
        from lenses.pack import LensPack

        return LensPack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
