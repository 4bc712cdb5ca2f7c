"""What a concept lens is, and how many are stored, stacked and scored. Never imports `runtime`.

LensPack    the trained lenses of one concept hierarchy for one host model at one site
Hierarchy   the concepts of a pack, and the families that they form
Concept     a named idea with a place in the hierarchy
"""

from lenses.concept import Concept, Hierarchy
from lenses.errors import PhoropterError
from lenses.pack import LensPack

__all__ = ["Concept", "Hierarchy", "LensPack", "PhoropterError"]
