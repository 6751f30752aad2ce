"""Trackers: where issues come from. A tracker is a module with the functions of `Tracker`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from lib.config import Project


class Issue(NamedTuple):
    id: str
    title: str
    body: str
    url: str
    state: str  # open or closed
    labels: list[str]
    assignees: Sequence[str] = ()
    milestone: str = ""
    comments: int = 0


class Tracker(Protocol):
    # One issue. AoError when there is none of that id; Unknown when it cannot tell.
    def get(self, home: str, project: Project, id: str) -> Issue: ...

    # Issues in order of their number; state is open, closed or all.
    def list(
        self, home: str, project: Project, state: str = "open", labels: Sequence[str] = (), limit: int = 30
    ) -> list[Issue]: ...

    def create(self, home: str, project: Project, title: str, body: str, labels: Sequence[str] = ()) -> Issue: ...

    # Goal-state: an issue that is closed already stays so.
    def close(self, home: str, project: Project, id: str) -> None: ...

    # Goal-state: assign it to whoever uses ao. AoError where issues have no assignees.
    def assign(self, home: str, project: Project, id: str) -> None: ...

    # The program that must be installed, for ao-doctor; None when there is none.
    def program(self, project: Project) -> str | None: ...
