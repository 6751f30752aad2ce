"""The pull requests of the local forge: one file each, $AO_HOME/forge/<project>/prs/<number>.yaml.

A pull request belongs to the session that opened it, not to a branch name: names are used again. Fields of a file:
`number title body branch base_branch session author is_draft state(open|merged|closed) created_at ended_at note
head_sha head_seen_at tip` (the branch tip of the last look; it becomes the head when the next look finds it unchanged)
`against{head_sha base_sha mergeable additions deletions}` (what git said about exactly these two commits)
`planned` (the last merge commit that was built) `merged_sha runs[]` (see _checks) `reviews[]` (see _reviews).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from lib import git, paths, store
from lib.config import Project
from lib.errors import AoError, Unknown, Unreadable

Record = dict[str, Any]


def path(home: str, project_id: str, number: int) -> str:
    return os.path.join(paths.forge(home, project_id), "prs", f"{int(number)}.yaml")


def numbers(home: str, project_id: str) -> list[int]:
    """The number of every pull request of a project, newest first."""
    try:
        files = os.listdir(os.path.join(paths.forge(home, project_id), "prs"))
    except FileNotFoundError:
        return []
    stems = (file.removesuffix(".yaml") for file in files if file.endswith(".yaml"))
    return sorted((int(stem) for stem in stems if stem.isdecimal()), reverse=True)


def read(home: str, project_id: str, number: int) -> Record:
    """One pull request; AoError when there is none of that number, Unreadable when its file is damaged."""
    found = store.read(path(home, project_id, number))
    if found is None:
        raise AoError(f"there is no pull request '{number}' in project '{project_id}'; see: ao-pr list")
    return found


def everything(home: str, project_id: str) -> tuple[list[Record], list[Unreadable]]:
    """Every pull request of a project that can be read, newest first, and the errors of those that cannot."""
    found, errors = [], []
    for number in numbers(home, project_id):
        try:
            found.append(read(home, project_id, number))
        except Unreadable as error:
            errors.append(error)
    return found, errors


def create(home: str, project_id: str, fields: Mapping[str, Any]) -> Record:
    """Save a new pull request under the next free number."""
    number = max([0, *numbers(home, project_id)])
    while True:
        number += 1
        record = {"number": number, **fields}
        if store.reserve(path(home, project_id, number), record):
            return record


def change(home: str, project_id: str, number: int, edit: Callable[[Record], None]) -> Record:
    """Edit a pull request under its lock and return it as it is now."""
    read(home, project_id, number)
    return store.update(path(home, project_id, number), edit)[1]


def find(home: str, project: Project, session: Mapping[str, Any]) -> Record | None:
    """The session's pull request, None when it definitely has none; Unknown when a damaged file hides the answer.

    The claimed number is the key. Before there is one: the newest that the session opened, else the newest that a
    person opened from its branch with a commit made after its base: no old one on a reused name is taken for it.
    """
    claimed = session.get("claimed_pr_number")
    if claimed:
        return _claimed(home, project.id, claimed)
    found, errors = everything(home, project.id)
    mine = next((record for record in found if record.get("session") == session["id"]), None)
    if mine is None:
        mine = next((record for record in found if _fits(project.path, record, session)), None)
    if mine is None and errors:
        raise Unknown(str(errors[0]))
    return mine


def _claimed(home: str, project_id: str, number: int) -> Record | None:
    try:
        return store.read(path(home, project_id, number))
    except Unreadable as error:
        raise Unknown(str(error)) from error


def _fits(repository: str, record: Record, session: Mapping[str, Any]) -> bool:
    branch, base, head = session.get("branch"), session.get("base_sha"), record.get("head_sha")
    if record.get("session") or not branch or record.get("branch") != branch or not base or not head or head == base:
        return False
    return git.contains(repository, head, base)
