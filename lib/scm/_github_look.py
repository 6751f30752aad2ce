"""One look at pull requests of GitHub: what is asked about them, many at once, and what was shown.

What is not shown is unknown for those whom it concerns, and for nobody else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lib import config, gh, threads
from lib.config import Project
from lib.errors import AoError, Unknown, reason
from lib.scm import Comment, Pull, Session, _github_facts, _github_find, _github_query

WITHIN = 45.0  # seconds for all requests of one step
AT_ONCE = 4  # requests
TALKS = 4  # that one request asks for, for each pull request that it may be about
NOBODY: Session = {}  # a look for no session


class Look:
    """What one look has been shown."""

    def __init__(self, home: str, project: Project, repo: gh.Repo, strangers: list[str], size: int) -> None:
        self._home, self._project, self._repo = home, project, repo
        self._strangers, self._size = strangers, size  # see Memory
        self._pulls: dict[int, _github_query.Raw] = {}
        self._branches: dict[str, list[_github_query.Raw]] = {}
        self.threads: dict[str, _github_query.Raw] = {}
        self._remarks: dict[str, _github_query.Raw] = {}  # by the id of the pull request
        self._missing: list[int] = []
        self.unknown: dict[int | str, Exception] = {}  # by number, branch, or thread: why it could not be shown
        self.points = 0

    def ask(self, sessions: Sequence[Session]) -> None:
        """Ask for everything that is needed to tell the pull requests of these sessions."""
        numbers = {int(one["claimed_pr_number"]) for one in sessions if one.get("claimed_pr_number")}
        self._batches(sorted(numbers), sorted({str(one["branch"]) for one in sessions if _may_have_another(one)}))
        new = set()
        for session in sessions:
            try:
                new |= {self._number(session)} - {None, *numbers}
            except AoError:
                continue
        self._batches(sorted(int(number) for number in new if number), [])
        ids = [id for raw in self._pulls.values() for id in _github_facts.talked_about(raw)]
        for shown, points in self._in_parts(ids, self._size * TALKS, _github_query.talks):
            for id, raw in shown.items():
                (self.threads if "path" in raw else self._remarks)[id] = raw
            self.points += points

    def pull_of(self, session: Session) -> Pull | None:
        """The session's pull request, None for a definite none. Raises Unknown."""
        number = self._number(session)
        return self.facts(number, session) if number else None

    def facts(self, number: int, session: Session = NOBODY) -> Pull:
        raw, merge = self.raw(number), config.setting(self._project, "merge")
        return _github_facts.pull(raw, self._repo.owner, self._repo.name, self.comments(number, session), merge)

    def comments(self, number: int, session: Session) -> list[Comment]:
        raw = self.raw(number)
        ids = _github_facts.talked_about(raw)
        for id in ids:
            if id in self.unknown:
                raise self._why(id)
        threads = {id: self.threads[id] for id in ids if id in self.threads}
        remarks = self._remarks[raw["id"]]["comments"]["nodes"] if raw["id"] in self._remarks else []
        return _github_facts.comments(raw, threads, session, remarks)

    def raw(self, number: int) -> _github_query.Raw:
        if number in self._missing:
            raise AoError(f"there is no pull request '{number}' in '{self._repo}'; see: ao-pr list")
        if number not in self._pulls:
            raise self._why(number)
        return self._pulls[number]

    def _why(self, key: int | str) -> Unknown:
        """Why nothing is known of a pull request, a branch or a thread."""
        return Unknown(reason(self.unknown[key]) if key in self.unknown else f"nobody has asked about '{key}'")

    def _number(self, session: Session) -> int | None:
        """The number is the key once it is known, until that one is closed and the session has another."""
        claimed = session.get("claimed_pr_number")
        if not claimed and not _github_find.is_possible(session):
            return None
        if not _may_have_another(session):
            return int(claimed or 0)
        if session["branch"] not in self._branches:
            raise self._why(session["branch"])
        found = self._branches[session["branch"]]
        mine = _github_find.newest(self._project, session, found, self._strangers)
        if claimed and (mine is None or mine["state"] != "OPEN"):
            return int(claimed)
        return int(mine["number"]) if mine else None

    def _batches(self, numbers: Sequence[int], branches: Sequence[str]) -> None:
        for found in self._in_parts([*numbers, *branches], self._size, _github_query.batch):
            self._pulls.update(found.pulls)
            self._missing += found.missing
            self._branches.update(found.branches)
            self.unknown.update(found.unknown)
            self.points += found.points

    def _in_parts(self, items: Sequence[Any], size: int, query: Callable[..., Any]) -> Iterator[Any]:
        """What a query answers about so many at a time, side by side; one that fails leaves its own unknown."""
        parts = [tuple(items[start : start + size]) for start in range(0, len(items), size)]
        jobs = {part: functools.partial(query, self._home, self._repo, part) for part in parts}
        for part, found in threads.each(jobs, WITHIN, AT_ONCE).items():
            if isinstance(found, Exception):
                self.unknown.update(dict.fromkeys(part, found))
                self.points += 1  # at least, for what has failed
            else:
                yield found


def _may_have_another(session: Session) -> bool:
    is_closed = (session.get("pr") or {}).get("state") == "closed"
    return bool(_github_find.is_possible(session) and (is_closed or not session.get("claimed_pr_number")))
