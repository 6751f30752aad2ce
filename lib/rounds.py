"""One round of the loop: a look, then an act, each by one process at a time.

`ao-tick`, `ao-react` and `ao-watch` call these; whoever comes second while one is under way leaves quietly.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from lib import cli, fleet, loop, observe, paths, react, store
from lib.clock import Clock
from lib.errors import Busy

Found = list[dict[str, Any]]


def look(home: str, only: str | None = None, fresh: bool = False) -> Found:
    """Look once; returns what could not be looked at: [{session_id, project_id, message}].

    A `fresh` look asks the forges about everything, also about what they would be asked later.
    """

    def work(clock: Clock) -> Found:
        for folder in paths.written(home):
            store.sweep(folder)
        return observe.run(home, clock, only, fresh)

    return _alone(home, "tick", loop.look, work)


def act(home: str, only: str | None = None) -> Found:
    """Act once, unless the fleet is paused; returns what was done: [{session_id, project_id, reaction_key, action}]."""
    if loop.read(home).get("paused_at"):
        return []
    return _alone(home, "react", loop.clock, lambda clock: react.run(home, clock, only) + fleet.tell(home, clock, only))


def sentence(one: dict[str, Any]) -> str:
    """What was done, or why not, in a line."""
    what = one.get("error") or one.get("action") or f"waits for {one.get('waiting_for')}"
    words = [one["session_id"] or one["project_id"], one.get("reaction_key"), cli.one_line(str(what))]
    return ": ".join(str(word) for word in words if word)


def _alone(home: str, what: str, start: Callable[[str], Clock], work: Callable[[Clock], Found]) -> Found:
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(store.lock(paths.lock(home, what), patience=0))
        except Busy:
            return []
        clock, started = start(home), time.monotonic()
        found = work(clock)
        errors = sum("error" in one or "message" in one for one in found)
        loop.note(home, what, clock, time.monotonic() - started, errors)
        return found
