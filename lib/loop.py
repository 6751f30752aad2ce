"""loop.yaml: when somebody last looked and acted, and whether a person has paused it all.

The clock that timers go by is read from here, so that every script measures the same time.
"""

from __future__ import annotations

from typing import Any

from lib import clock as clocks
from lib import paths, store
from lib.clock import Clock
from lib.errors import Unreadable

SHAPE: store.Shape = {"look?": {"wall?": (int, float)}, "paused_at?": str}


def read(home: str) -> dict[str, Any]:
    """What loop.yaml holds, or held before it was damaged; {} when there is none, and the next look builds it again."""
    try:
        return store.read(paths.loop(home), SHAPE) or {}
    except Unreadable:
        return store.earlier(paths.loop(home), SHAPE) or {}


def clock(home: str) -> Clock:
    """The clock for a script that does not look."""
    return clocks.read(read(home))


def look(home: str) -> Clock:
    """The clock for a tick, which notes that somebody looks now."""
    found: list[Clock] = []
    _update(home, lambda loop: found.append(clocks.look(loop)))
    return found[0]


def note(home: str, what: str, clock: Clock, seconds: float, problems: int) -> None:
    """Note a finished `tick` or `react`."""
    _update(home, lambda loop: loop.update({what: {"at": clock.iso, "seconds": round(seconds, 3), "errors": problems}}))


def pause(home: str, clock: Clock, paused: bool) -> None:
    """Pause the acting of the whole fleet, or go on."""
    _update(home, lambda loop: loop.update(paused_at=clock.iso if paused else None))


def _update(home: str, change: Any) -> None:
    path = paths.loop(home)
    try:
        store.update(path, change, SHAPE)
    except Unreadable:
        store.set_aside(path, clocks.read({}).iso, shape=SHAPE)
        store.update(path, change, SHAPE)
