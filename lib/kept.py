"""What one look keeps for the next one: how far the agents' own records were read, and which screens were read when.

All of it is in cache/: without it everything is read again, and what was counted counts once.
"""

from __future__ import annotations

import marshal
import time
from collections.abc import Callable, Iterable
from typing import Any

from lib import cache, config, plugins, status
from lib.agent import Reading, Story
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError
from lib.runtime import Pane

Session = dict[str, Any]

WHOLE_SECOND = 1.5  # seconds; the time of the last output has no fractions
COST_EVERY = 60.0  # seconds between two writes of a record for nothing but its cost
COSTS_AT_ONCE = 20  # of these in one look


class Kept:
    """What a look keeps of each session for the next one: of those that it did not come to, what was kept before."""

    name = ""  # under which it is kept

    def __init__(self, home: str) -> None:
        self._old = cache.load(home, self.name)
        self._new = dict(self._old)

    def __contains__(self, session: Session) -> bool:
        return session["id"] in self._old

    def keep_only(self, sessions: Iterable[Session]) -> None:
        """Forget all others: they are over, or gone."""
        ids = {session["id"] for session in sessions}
        self._new = {id: value for id, value in self._old.items() if id in ids}

    def save(self, home: str) -> None:
        if self._new != self._old:
            cache.save(home, self.name, self._new)


class Tales(Kept):
    """What agents' own records say, read where they were left at the last look."""

    name = "tales"

    def __init__(self, home: str, clock: Clock) -> None:
        super().__init__(home)
        self._clock = clock
        self._cost_writes = 0

    def of(self, project: Project, session: Session) -> Story:
        before = self._old.get(session["id"]) or {}
        state = self._new[session["id"]] = marshal.loads(marshal.dumps(before))
        found: Story = plugins.load("agent", session["agent"]).recall(project, session, state)
        return found

    def close(self, session: Session) -> None:
        """All that counts of one that is over is written, which it is at the first look that finds it so."""
        if not status.needs_looking(session):
            self._new.pop(session["id"], None)

    def may_write_cost(self, session: Session) -> Callable[[], bool]:
        """Whether a record may be written only because its cost has grown: not all at once, and none too often."""

        def may() -> bool:
            if not status.needs_looking(session):
                return True
            is_old = not session.get("cost") or self._clock.elapsed(session["updated_at"]) >= COST_EVERY
            self._cost_writes += is_old
            return is_old and self._cost_writes <= COSTS_AT_ONCE

        return may


class Looks(Kept):
    """Which screens were read when: a screen on which nothing was printed since is not read again."""

    name = "looks"

    def read(self, home: str, project: Project, session: Session, pane: Pane) -> Reading | None:
        """The screen's reading, None when it cannot have changed since the last one."""
        key, now = session["id"], time.time()
        basis = (pane.pid, pane.output_at, str(config.setting(project, "agent_config")))
        known, looked = self._old.get(key, (None, 0.0))
        if known == basis and looked > pane.output_at + WHOLE_SECOND and session.get("screen"):
            return None
        try:
            screen = plugins.load("runtime", session["runtime"]).screen(home, session["runtime_handle"])
        except AoError:
            return None
        self._new[key] = (basis, now)
        found: Reading = plugins.load("agent", session["agent"]).read(project, screen)
        return found
