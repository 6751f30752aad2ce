"""Workspaces: where an agent edits files. A workspace is a module with the functions of `Workspace`."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from lib.config import Project
from lib.errors import AoError


class State(NamedTuple):
    """What would be lost with a workspace."""

    exists: bool
    dirty: bool  # changed, staged or untracked files that are not ignored
    unmerged: int  # commits that are on no base branch and on no remote


class Taken(AoError):
    """Somebody else has a branch of that name, perhaps since a moment ago."""


class Workspace(Protocol):
    # Make a workspace with a new branch at base_sha and return its path. Leaves nothing behind when it fails. Raises
    # Taken for a branch that exists.
    def create(self, home: str, project: Project, id: str, branch: str, base_sha: str) -> str: ...

    # What is in it. Raises Unknown.
    def state(self, home: str, project: Project, path: str) -> State: ...

    # Save everything in it, committed or not, under refs/ao/backup/<project>-<id>-<time> and return that ref, None when
    # nothing would be lost. Never moves an existing ref.
    def backup(self, home: str, project: Project, id: str, path: str, now: str) -> str | None: ...

    # Remove it and return the bytes that were freed; absent is success. Refuses a path that is not under worktrees/.
    def remove(self, home: str, project: Project, path: str) -> int: ...

    # Bring back the workspace of a branch that still exists, at the same path.
    def reopen(self, home: str, project: Project, id: str, branch: str) -> str: ...

    # Check out another existing branch in it. AoError when that would lose changes, or it is checked out elsewhere.
    def switch(self, home: str, project: Project, path: str, branch: str) -> None: ...

    # (branch, or "" when detached; head SHA), read from git's files without starting git; None when it is gone.
    def head(self, path: str) -> tuple[str, str] | None: ...
