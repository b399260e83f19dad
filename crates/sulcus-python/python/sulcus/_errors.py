"""The exceptions of this package. The native half raises them too."""

from __future__ import annotations

import json

from ._warning import ScanWarning


class SulcusError(Exception):
    """Base class of all errors of this package. It is raised itself for an engine or a device that is not available, for too
    little memory, for a mask that cannot be written and for an invalid option. The message says what was expected, what was
    found and what to do."""


class InputError(SulcusError, ValueError):
    """A scan that cannot be segmented, because of its array, its affine or its file."""

    def __init__(self, message: str, warnings_json: str = "[]") -> None:
        super().__init__(message)
        self._warnings_json = warnings_json

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        return type(self), (str(self), self._warnings_json)

    @property
    def warnings(self) -> tuple[ScanWarning, ...]:
        """Why the scan was refused as implausible, for example with `strict`; empty for other errors."""
        return ScanWarning._from_json(json.loads(self._warnings_json))


class ModelError(SulcusError, ValueError):
    """A model that cannot be used: not a model, a newer format, or models that do not match each other."""
