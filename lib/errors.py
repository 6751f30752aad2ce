"""The ways in which ao fails on purpose.

Library code raises one of these with a sentence for a person: what could not be done, to what (in quotes), why,
then the command that helps. Only cli.run prints and exits. Any other exception is a bug and keeps its traceback.
"""


class AoError(Exception):
    """Something could not be done. Exit code 1."""

    code = 1


class UsageError(AoError):
    """The command was not used as its help says. Exit code 2."""

    code = 2


class Unknown(AoError):
    """A probe could not tell: time-out, rate limit, network, anything unforeseen. Never to be read as no."""


class Unreadable(AoError):
    """A file is there and cannot be read."""


class Damaged(Unreadable):
    """A file can be read and does not hold what it should."""


class Busy(AoError):
    """Another process holds the lock that this needs."""
