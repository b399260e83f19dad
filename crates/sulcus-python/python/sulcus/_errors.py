"""The exceptions of this package. The native half raises them too."""


class SulcusError(Exception):
    """Base class of all errors of this package. It is raised itself for an engine or a device that is not available, for too
    little memory, for a mask that cannot be written and for an invalid option. The message says what was expected, what was
    found and what to do."""


class InputError(SulcusError, ValueError):
    """A scan that cannot be segmented, because of its array, its affine or its file."""


class ModelError(SulcusError, ValueError):
    """A model that cannot be used: not a model, a newer format, or models that do not match each other."""
