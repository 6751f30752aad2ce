"""One round of the loop: a look, then an act, each by one process at a time.

`ao-tick`, `ao-react` and `ao-watch` call these; whoever comes second while one is under way leaves quietly.
"""

from __future__ import annotations

import time
from typing import Any

from lib import fleet, loop, observe, paths, react, store
from lib.errors import Busy

Found = list[dict[str, Any]]


def look(home: str, only: str | None = None) -> Found:
    """Look once; returns what could not be looked at: [{session_id, project_id, message}]."""
    try:
        with store.lock(paths.lock(home, "tick"), patience=0):
            started = time.monotonic()
            clock = loop.look(home)
            problems = observe.run(home, clock, only)
            loop.note(home, "tick", clock, time.monotonic() - started, len(problems))
            return problems
    except Busy:
        return []


def act(home: str, only: str | None = None) -> Found:
    """Act once, unless the fleet is paused; returns what was done: [{session_id, project_id, reaction_key, action}]."""
    if loop.read(home).get("paused_at"):
        return []
    try:
        with store.lock(paths.lock(home, "react"), patience=0):
            started = time.monotonic()
            clock = loop.clock(home)
            done = react.run(home, clock, only) + fleet.tell(home, clock, only)
            loop.note(home, "react", clock, time.monotonic() - started, sum("error" in one for one in done))
            return done
    except Busy:
        return []
