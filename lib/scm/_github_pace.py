"""Who is looked at when: often while checks run or something has just changed, seldom where nothing moves.

What was seen when is kept in the cache; without it everybody is looked at. A look that is due takes along those whose
turn is near, because a request for one costs as much as one for many.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lib import cache, config, paths
from lib.clock import Clock, duration
from lib.config import Project
from lib.scm import Pull, Session
from lib.scm._github_find import head

LONGEST = 60.0  # seconds between two looks at one pull request, while the budget allows
MOST, LEAST = 25, 5  # pull requests in one request
LONGEST_RUN = 20.0  # the same while its checks run


class Seen(NamedTuple):
    """When a session's pull request was looked at, is to be looked at next, and has changed last."""

    at: float
    next_at: float
    moved_at: float
    mark: str
    head: str  # of the worktree


class Memory:
    """What is remembered about a project's looks from one process to the next."""

    def __init__(self, home: str, project: Project, clock: Clock) -> None:
        self._home, self._name = home, f"github-{project.id}"[: paths.LONGEST_NAME]
        self._now, self.shortest = clock.now, duration(config.setting(project, "poll_interval"))
        kept = cache.load(home, self._name)
        self._round_at: float = kept.get("round_at", 0.0)
        self._seen = {id: Seen(*fields) for id, fields in kept.get("seen", {}).items()}
        self.size: int = kept.get("size", MOST)  # of a batch; smaller after one that was too much for GitHub
        self.strangers: list[str] = kept.get("strangers", [])  # pull requests that are known to be another's

    def due(self, sessions: Sequence[Session], pause: float) -> list[Session]:
        """Those whose turn it is; nobody's when the last round was less than `pause` seconds ago."""
        if self._now - self._round_at < max(self.shortest, pause) and self._round_at <= self._now:
            return []
        if not any(self._is_due(session, 1.0) for session in sessions):
            return []
        return [session for session in sessions if self._is_due(session, 0.5)]

    def _is_due(self, session: Session, part: float) -> bool:
        seen = self._seen.get(session["id"])
        is_done = (session.get("report") or {}).get("is_done")  # which counts once there is known to be none
        if seen is None or is_done or session.get("pr_unknown_since") or seen.head != head(session):
            return True
        return self._now >= seen.at + (seen.next_at - seen.at) * part

    def note(self, session: Session, pull: Pull | None) -> None:
        """Remember what a look showed, and when the next one is wanted."""
        old, mark, at = self._seen.get(session["id"]), _mark(pull), head(session)
        is_same = old and (old.mark, old.head) == (mark, at)
        moved_at = old.moved_at if old and is_same else self._now
        wait = interval(pull, self._now - moved_at, self.shortest)
        self._seen[session["id"]] = Seen(self._now, self._now + wait, moved_at, mark, at)

    def save(self, sessions: Sequence[Session], is_round: bool, was_too_much: bool) -> None:
        known = {session["id"] for session in sessions} if is_round else set(self._seen)
        kept: dict[str, Any] = {"seen": {id: tuple(seen) for id, seen in self._seen.items() if id in known}}
        kept["round_at"] = self._now if is_round else self._round_at
        kept["size"] = max(LEAST, self.size // 2) if was_too_much else min(MOST, self.size * 2)
        cache.save(self._home, self._name, {**kept, "strangers": self.strangers[-200:]})


def interval(pull: Mapping[str, Any] | None, quiet: float, shortest: float) -> float:
    """Seconds until the next look at a pull request about which nothing has changed for `quiet` seconds."""
    if pull and pull["state"] != "open":
        return LONGEST
    waits = pull and (pull["ci_status"] == "pending" or pull["mergeable"] is None)
    return max(shortest, min(quiet / 60, LONGEST_RUN) if waits else min(quiet / 8, LONGEST))


def _mark(pull: Pull | None) -> str:
    return hashlib.sha256(json.dumps(pull, sort_keys=True).encode()).hexdigest()[:16]
