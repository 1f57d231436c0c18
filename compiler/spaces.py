"""The space discretisations by the names that specifications use."""

from __future__ import annotations

from .discretise import FiniteDifference, FiniteVolume
from .filter_bank import FilterBank

Space = FiniteDifference | FiniteVolume | FilterBank
SPACES: dict[str, type[Space]] = {
    "finite-difference": FiniteDifference,
    "finite-volume": FiniteVolume,
    "filter-bank": FilterBank,
}
