"""The pull requests of the local forge: one file each, $AO_HOME/forge/<project>/prs/<number>.yaml.

A pull request belongs to the session that opened it, not to a branch name: names are used again. Fields of a file:
`number title body branch base_branch session author is_draft state(open|merged|closed) created_at ended_at note
head_sha head_seen_at tip` (the branch tip of the last look; it becomes the head when the next look finds it unchanged)
`against{head_sha base_sha mergeable additions deletions}` (what git said about exactly these two commits)
`planned` (the last merge commit that was built) `merged_sha runs[]` (see _checks) `reviews[]` (see _reviews).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from lib import cache, git, paths, store
from lib.config import Project
from lib.errors import AoError, Unknown, Unreadable

Record = dict[str, Any]
WORDS = ("title", "body", "branch", "base_branch", "state", "created_at", "note", "head_sha", "head_seen_at", "tip")
RUN = ("name", "head_sha", "base_sha", "status", "conclusion", "log", "lines", "at")
REVIEW = ("id", "author", "session", "decision", "body", "file", "at")
SHAPE: store.Shape = {
    **dict.fromkeys(WORDS, str),
    "number": int,
    "session": str,
    "is_draft": bool,
    "ended_at?": str,
    "against": {"head_sha?": str, "base_sha?": str, "mergeable?": bool},
    "runs": [dict.fromkeys(RUN, str)],
    "reviews": [dict.fromkeys(REVIEW, str)],
}


class Shelf(NamedTuple):
    """The pull requests of a project that can be read, newest first, and why the others cannot, by number."""

    records: list[Record]
    damaged: dict[int, str]
    by_number: dict[int, Record]
    by_session: dict[str, Record]  # the newest that each session opened
    by_branch: dict[str, list[Record]]  # those that people opened, newest first


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
    file = path(home, project_id, number)
    found = store.read(file, SHAPE)
    if found is None:
        raise AoError(f"there is no pull request '{number}' in project '{project_id}'; see: ao-pr list")
    if found["number"] != number:
        raise Unreadable(f"cannot read '{file}': its number is {found['number']}")
    return found


def everything(home: str, project_id: str) -> Shelf:
    """Every pull request of a project through the cache: a file is parsed only when it has changed."""
    kept = f"pulls-{project_id}"[: paths.LONGEST_NAME]
    known, fresh, damaged = cache.load(home, kept), {}, {}
    for number in numbers(home, project_id):
        try:
            signature = cache.signature(path(home, project_id, number))
            entry = known.get(number)
            fresh[number] = entry if entry and entry[0] == signature else (signature, read(home, project_id, number))
        except Unreadable as error:
            damaged[number] = str(error)
    if fresh != known:
        cache.save(home, kept, fresh)
    shelf = Shelf([record for _, record in fresh.values()], damaged, {}, {}, {})
    for record in shelf.records:
        shelf.by_number[record["number"]] = record
        if record["session"]:
            shelf.by_session.setdefault(record["session"], record)
        else:
            shelf.by_branch.setdefault(record["branch"], []).append(record)
    return shelf


def mend(home: str, project_id: str, damaged: Iterable[int], now: str) -> bool:
    """Put what damaged files held before in their place; whether there was any.

    One of which nothing is known stays where it is: without it there would seem to be no pull request.
    """
    paths = [path(home, project_id, number) for number in damaged]
    for one in paths:
        store.set_aside(one, now, store.UNFINISHED, only_for_another=True)
    return any(map(store.is_whole, paths))


def open_for(home: str, project_id: str, branch: str) -> Record | None:
    """The open pull request of a branch; there is at most one. Unknown when a damaged file may hold it."""
    shelf = everything(home, project_id)
    found = (record for record in shelf.records if record["state"] == "open" and record["branch"] == branch)
    answer = next(found, None)
    if answer is None and shelf.damaged:
        raise Unknown(next(iter(shelf.damaged.values())))
    return answer


def create(home: str, project_id: str, fields: Mapping[str, Any]) -> tuple[Record, bool]:
    """Save a new pull request under the next free number; the one that its branch has already, and False."""
    with store.lock(os.path.join(paths.forge(home, project_id), "prs")):
        existing = open_for(home, project_id, fields["branch"])
        if existing:
            return existing, False
        record = {"number": max([0, *numbers(home, project_id)]) + 1, **fields}
        if not store.reserve(path(home, project_id, record["number"]), record):
            raise AoError(f"cannot save a pull request: '{path(home, project_id, record['number'])}' exists already")
    return record, True


def change(home: str, project_id: str, number: int, edit: Callable[[Record], None]) -> Record:
    """Edit a pull request under its lock and return it as it is now."""
    read(home, project_id, number)
    return store.update(path(home, project_id, number), edit, SHAPE)[1]


def find(project: Project, shelf: Shelf, session: Mapping[str, Any]) -> Record | None:
    """The session's pull request, None when it definitely has none; Unknown when a damaged file hides the answer.

    The claimed number is the key, until that one is closed and the session opens another. Before there is a number: the
    newest that the session opened, else the newest that a person opened from its branch with a commit made after its
    base, so that no old one on a reused name is taken for it.
    """
    number = session.get("claimed_pr_number")
    if number in shelf.damaged:
        raise Unknown(shelf.damaged[number])
    mine = shelf.by_session.get(session["id"])
    if number:
        claimed = shelf.by_number.get(number)
        is_replaced = claimed and mine and claimed["state"] == "closed" and mine["state"] == "open"
        return mine if is_replaced else claimed
    others = shelf.by_branch.get(session.get("branch") or "", ())
    mine = mine or next((record for record in others if _fits(project.path, record, session)), None)
    if mine is None and shelf.damaged:
        raise Unknown(next(iter(shelf.damaged.values())))
    return mine


def _fits(repository: str, record: Record, session: Mapping[str, Any]) -> bool:
    base, head = session.get("base_sha"), record["head_sha"]
    return bool(base) and head != base and git.contains(repository, head, str(base))
