"""Which pull request from a branch's name is a session's own: one with a commit that was made here, after its start.

Names are used again, by old pull requests and by other repositories; commits are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lib import git
from lib.config import Project
from lib.errors import Unknown
from lib.scm import Session


def is_possible(session: Session) -> bool:
    """Whether there can be one at all: it needs a branch, and a commit on it."""
    base = session.get("base_sha")
    return bool(session.get("branch") and base and head(session) != base)


def head(session: Session) -> str:
    """The commit that the session's worktree is at, as it is now: the record learns of it with this very look."""
    path = session.get("workspace_path")
    found = git.head(path) if path else None
    return str(found[1] if found and found[1] else session.get("head_sha") or "")


def newest(
    project: Project, session: Session, found: Sequence[Mapping[str, Any]], strangers: list[str]
) -> Mapping[str, Any] | None:
    """The session's own of what has its branch's name: an open one first, else the newest. Raises Unknown."""
    mine = []
    for raw in found:
        stranger = f"{session['id']} {raw['number']} {raw['headRefOid']}"
        if raw["isCrossRepository"] or stranger in strangers:
            continue
        if _is_own(project, session, raw):
            mine.append(raw)
        else:
            strangers.append(stranger)
    is_open = [raw for raw in mine if raw["state"] == "OPEN"]
    return next(iter(is_open or mine), None)


def _is_own(project: Project, session: Session, raw: Mapping[str, Any]) -> bool:
    path, base, ref = project.path, str(session["base_sha"]), git.HEADS + str(session["branch"])
    head, tip = str(raw["headRefOid"]), git.commit(project.path, ref)
    if git.commit(path, head) is None and raw["state"] == "OPEN":  # somebody has pushed to it from elsewhere
        git.run(path, "fetch", "--quiet", "--end-of-options", "origin", ref, limit="git-network")
        if git.commit(path, head) is None:
            raise Unknown(f"commit {head[:12]} of pull request {raw['number']} cannot be fetched")
    if tip is None or git.commit(path, head) is None:
        return False
    shared = git.merge_base(path, head, tip)
    if shared and shared != base and git.contains(path, shared, base):
        return True
    return head != base and was_made_here(path, head, ref) and git.contains(path, head, base)


def was_made_here(folder: str, commit: str, ref: str) -> bool:
    """Whether this branch was at the commit once; it may have been amended since."""
    return commit in git.run(folder, "rev-list", "--walk-reflogs", ref).out.split()
