"""What can go wrong. The native half raises these classes too, by these names."""


class SulcusError(Exception):
    """Every error of this package: an engine or a device that can't be had, memory that doesn't suffice, a mask that can't
    be written, an option that means nothing. Its text says what was expected, what was found and what to do."""


class InputError(SulcusError, ValueError):
    """A scan that can't be segmented: its array, its affine, or its file."""


class ModelError(SulcusError, ValueError):
    """A model that can't be used: no model at all, a newer format, models that don't go together."""
