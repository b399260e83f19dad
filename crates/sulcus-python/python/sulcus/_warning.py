"""Reasons to doubt a mask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ScanWarning:
    """A reason to doubt a mask."""

    kind: str
    """The stable name of its kind: `unknown_orientation`, `constant_channel`, `nearly_constant_channel`, `identical_channels`,
    `voxel_size`, `field_of_view`, `intensities`, `negative_intensities` or `nothing_located`. Later versions may have more."""
    message: str
    """The warning for people, in one sentence."""
    data: dict[str, Any]
    """Its numbers and names, which depend on the kind, such as `found_mm` and `training_max_mm`."""

    def __str__(self) -> str:
        return self.message

    @staticmethod
    def _from_json(found: Iterable[dict[str, Any]]) -> tuple[ScanWarning, ...]:
        def one(kind: str, message: str, **data: Any) -> ScanWarning:
            return ScanWarning(kind, message, data)

        return tuple(one(**warning) for warning in found)
