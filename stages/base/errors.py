"""Errors that a user can act on: one line, naming the place and the remedy."""


class TrainyardError(Exception):
    """Base of all expected failures; `base.record.stage` and the CLI print it as one line and exit with 2."""


class ParamError(TrainyardError):
    """A parameter is unknown, of the wrong type, or out of bounds."""


class InputError(TrainyardError):
    """Something from outside (file, page, archive, reply) can't be used as it is."""


class DataLossError(TrainyardError):
    """Row counts don't add up, or more was dropped than the bound in params allows."""


class ResourceError(TrainyardError):
    """Not enough disk or memory, or a folder is in use by another process."""
