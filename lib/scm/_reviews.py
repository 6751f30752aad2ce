"""Reviews of the local forge: what reviewers said, what of it is settled, what it adds up to.

Entries of a pull request's `reviews`: `id(pr<number>-<n>) author session decision(approved|changes_requested|commented)
body file line head_sha at resolved`. A reviewer's newest approval or request for changes counts; a comment changes
neither. A new head dismisses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib import git, render
from lib.errors import AoError
from lib.scm import Comment, Said, _pulls


def add(record: _pulls.Record, session: str, at: str, said: Said) -> None:
    """Add a review to a pull request."""
    if record["state"] != "open":
        raise AoError(f"cannot review pull request '{record['number']}': it is {record['state']}")
    if said["decision"] != "commented":
        refuse_author(record, said["author"], session, "reviews")
    reviews = record["reviews"]
    entry = {**said, "session": session, "head_sha": record["head_sha"], "resolved": False}
    newest: Mapping[str, Any] = next((one for one in reversed(reviews) if one["author"] == said["author"]), {})
    if all(newest.get(key) == value for key, value in entry.items()):
        return  # who was killed after it was saved, and writes it again, says nothing new
    reviews.append({"id": f"pr{record['number']}-{len(reviews) + 1}", "at": at, **entry})


def check_place(folder: str, record: _pulls.Record, file: str, line: int) -> None:
    """AoError when a comment would stand nowhere: the pull request leaves its file alone, or that has no such line."""
    head, number = record["head_sha"], record["number"]
    changed = git.out(folder, "diff", "--name-only", "-z", f"refs/heads/{record['base_branch']}...{head}", "--")
    if file not in changed.split("\0"):
        raise AoError(f"cannot comment on '{file}': pull request '{number}' does not change it")
    text = git.run(folder, "show", f"{head}:{file}").out
    lines = len(text.split("\n")) - text.endswith("\n")
    if line and not 0 < line <= lines:
        has = render.counted(lines, "line")
        raise AoError(f"cannot comment on line {line} of '{file}': in pull request '{number}' it has {has}")


def resolve(record: _pulls.Record, thread: str) -> None:
    """Settle a thread; one that is settled already stays so."""
    for entry in record["reviews"]:
        if entry["id"] == thread:
            entry["resolved"] = True
            return
    known = ", ".join(entry["id"] for entry in open_threads(record)) or "none is open"
    raise AoError(f"there is no thread '{thread}' in pull request '{record['number']}' (open: {known})")


def refuse_author(record: _pulls.Record, author: str, session: str, verb: str) -> None:
    """AoError when the actor is the session whose work this is."""
    if record.get("session") and record["session"] in (author, session):
        number = record["number"]
        raise AoError(f"session '{record['session']}' never {verb} its own pull request '{number}'; ask someone else")


def decisions(record: _pulls.Record) -> dict[str, str]:
    """The newest approval or request for changes of each reviewer."""
    entries = (entry for entry in record["reviews"] if not _is_own(record, entry))
    return {entry["author"]: entry["decision"] for entry in entries if entry["decision"] != "commented"}


def verdict(record: _pulls.Record, required: bool) -> str:
    """approved, changes_requested, pending (an approval is required and missing) or none."""
    said = decisions(record).values()
    if "changes_requested" in said:
        return "changes_requested"
    return "approved" if "approved" in said else "pending" if required else "none"


def open_threads(record: _pulls.Record) -> list[Mapping[str, Any]]:
    """What waits for an answer: unresolved comments, and requests for changes whose reviewer has not approved since."""
    reviews = record["reviews"]
    approved = {entry["author"]: place for place, entry in enumerate(reviews) if entry["decision"] == "approved"}
    return [
        entry
        for place, entry in enumerate(reviews)
        if not entry.get("resolved")
        and not _is_own(record, entry)
        and (entry["decision"] == "commented" or place > approved.get(entry["author"], -1))
        and entry["decision"] != "approved"
    ]


def comments(record: _pulls.Record, url: str) -> list[Comment]:
    """The open threads as comments, in the order in which they were written."""
    return [_comment(entry, url) for entry in open_threads(record)]


def approvals(record: _pulls.Record, url: str) -> list[Comment]:
    """The newest word of each reviewer who approves."""
    newest = {entry["author"]: entry for entry in record["reviews"] if entry["decision"] != "commented"}
    approve = [name for name, decision in decisions(record).items() if decision == "approved"]
    return [_comment(newest[name], url) for name in approve]


def _comment(entry: Mapping[str, Any], url: str) -> Comment:
    id, author = entry["id"], entry["author"]
    place = entry["file"], entry.get("line") or 0
    return Comment(id, author, author.endswith("[bot]"), entry["body"], f"{url}#{id}", *place)


def _is_own(record: _pulls.Record, entry: Mapping[str, Any]) -> bool:
    session = record.get("session")
    return bool(session and session in (entry["author"], entry["session"]))
