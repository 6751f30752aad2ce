"""The ways in which ao fails on purpose.

Library code raises one of these with a sentence for a person: what could not be done, to what (in quotes), why,
then the command that helps. Only cli.run prints and exits. Any other exception is a bug and keeps its traceback.
"""

import os


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


def reason(error: BaseException) -> str:
    """What an error says in a sentence; of a bug, what is not meant to be raised, also where it is."""
    if isinstance(error, AoError):
        return str(error)
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    where = f" ({os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno})" if place else ""
    return f"{type(error).__name__}: {error}{where}"
