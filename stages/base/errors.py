"""Errors that a user can act on: one line, naming the place and the remedy."""

from stages.base.terminal import harmless


class TrainyardError(Exception):
    """Base of all expected failures; `base.record.stage` and the CLI print it as one line and exit with 2.

    It quotes names from outside: what would break the line, or a terminal would obey, is U+FFFD.
    """

    def __str__(self) -> str:
        return harmless(super().__str__())


class ParamError(TrainyardError):
    """A parameter is unknown, of the wrong type, or out of bounds."""


class InputError(TrainyardError):
    """Something from outside (file, page, archive, reply) can't be used as it is."""


class DataLossError(TrainyardError):
    """Row counts don't add up, or more was dropped than the bound in params allows."""


class ResourceError(TrainyardError):
    """Not enough disk or memory, or a folder is in use by another process."""
