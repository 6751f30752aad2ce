"""Session records: one YAML file each, changed field by field under its own lock.

Nobody writes a whole record back: `update` reads the newest one under its lock and applies a change to that, so that
what another process wrote in the meantime survives. The status follows from the facts at every write.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lib import events, faults, overview, paths, status, store
from lib.clock import Clock
from lib.errors import AoError, Unreadable, UsageError

Session = dict[str, Any]
INBOX_KEPT = 50
FINAL = ("confirmed", "unconfirmed", "failed")  # message states that do not change any more


class Fleet(NamedTuple):
    """Every record that can be read, and why the others cannot, by path."""

    records: list[Session]
    damaged: dict[str, str]


class Vanished(AoError):
    """The record does not exist (any more)."""


def blank(id: str, project: str, clock: Clock) -> Session:
    """A new record with every field, in the order in which people read them."""
    return {
        "version": 1,
        "rev": 0,
        "id": id,
        "project_id": project,
        "role": "worker",
        "status": "spawning",
        "activity": None,
        "activity_since": None,
        "activity_source": None,
        "hold": None,
        "agent": None,
        "agent_config": {},
        "task": None,
        "issue_id": None,
        "issue_url": None,
        "issue_title": None,
        "assign_issue": False,
        "branch": None,
        "base_branch": None,
        "base_sha": None,
        "head_sha": None,
        "workspace": None,
        "workspace_path": None,
        "runtime": None,
        "runtime_handle": id,
        "runtime_state": "starting",
        "exit_code": None,
        "claimed_pr_number": None,
        "claimed_pr_url": None,
        "pr": None,
        "pr_unknown_since": None,
        "merge_failure": None,
        "conditions": {},
        "told": {},
        "inbox": [],
        "doing": None,
        "cost": None,
        "spawned_by": None,
        "config_path": None,
        "config_error": None,
        "outcome": None,
        "error": None,
        "created_at": clock.iso,
        "updated_at": clock.iso,
    }


def create(home: str, record: Session, clock: Clock) -> bool:
    """Reserve the record's id by creating its file; False when any project has or had a session of that id."""
    path = paths.session(home, record["project_id"], record["id"])
    record["rev"] = 1
    record["status"] = status.derive(record, clock)
    with store.lock(paths.sessions(home)):
        # A record's lock outlives it, and says that there was one also where it was removed, damaged or lost.
        if any(os.path.exists(path) or os.path.exists(path + ".lock") for path in _files(home, record["id"])):
            return False
        events.append(home, clock, events.between({}, record))
        return store.reserve(path, record)


def update(home: str, session: Session, change: Callable[[Session], Any], clock: Clock) -> Session:
    """Apply `change` to the newest state of a record and return it; nothing is written when nothing differs.

    `change` edits the record in place and may return further events for the log. Raises Vanished.
    """
    path = paths.session(home, session["project_id"], session["id"])
    with store.lock(path):
        before = overview.record(path)
        if before is None:
            is_archived = os.path.exists(paths.archived(home, session["project_id"], session["id"]))
            raise Vanished(f"session '{session['id']}' is {'archived' if is_archived else 'no more'}")
        after = copy.deepcopy(before)
        extra = change(after) or []
        _archive_messages(after)
        after["status"] = status.derive(after, clock)
        if after == before and not extra:
            return after
        names = {"session_id": after["id"], "project_id": after["project_id"]}
        if after != before:
            after["rev"] = before["rev"] + 1
            after["updated_at"] = clock.iso
            names["rev"] = after["rev"]
        events.append(home, clock, events.between(before, after) + [{**names, **event} for event in extra])
        if after != before:
            store.write(path, after)
    return after


def remove(home: str, session: Session) -> None:
    """Forget a record that never became a session."""
    path = paths.session(home, session["project_id"], session["id"])
    with store.lock(path):
        store.forget(path)


def archive(home: str, session: Session) -> None:
    """Move a record to the archive, where `find` still has it."""
    path, target = (place(home, session["project_id"], session["id"]) for place in (paths.session, paths.archived))
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    with store.lock(path):
        faults.step()
        store.move(path, target)


def everything(home: str, project: str | None = None) -> Fleet:
    """All records that are not archived, through the cache: a file is parsed only when it has changed."""
    entries, damaged = overview.entries(home)
    mine = [entry for entry in entries if project in (None, entry["project"])]
    why = {path: text for path, text in damaged.items() if project in (None, os.path.basename(os.path.dirname(path)))}
    return Fleet(json.loads(overview.array(mine)), why)


def archived(home: str) -> list[Session]:
    """All records in the archive that can be read."""
    found = []
    for path in overview.files(home, "archive"):
        with contextlib.suppress(Unreadable):
            found.append(store.read(path) or {})
    return [record for record in found if record]


def set_aside(path: str, clock: Clock, rested: float) -> str:
    """Set a damaged record aside; returns what is wrong with it.

    Its last change is lost with it, so a message that was open before may have been sent by now: nobody can know.
    """

    def mend(record: Session) -> None:
        for message in record.get("inbox") or ():
            if message["state"] not in FINAL:
                message.update(state="unconfirmed", waiting_for="its session's record was damaged; see: ao-attach")
        record["status"] = status.derive(record, clock)

    return store.set_aside(path, clock.iso, rested, mend)


def find(home: str, text: str) -> Session:
    """The record of an exact id (also an archived one), else of an unambiguous prefix."""
    if not text:
        raise UsageError("say which session: its id, or the beginning of one; see: ao-status --all")
    for path in _files(home, text) if paths.is_name(text) else ():
        record = overview.record(path)
        if record is not None:
            return record
    matches = [record for record in everything(home).records if str(record["id"]).startswith(text)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(record["id"] for record in matches[:5])
        raise AoError(f"'{text[:80]}' can mean several sessions: {ids}; write the whole id")
    raise AoError(f"there is no session '{text[:80]}'; see: ao-status --all")


def _files(home: str, id: str) -> Iterator[str]:
    """Where the record of an exact id may be: in any project, or archived."""
    for folder in ("sessions", "archive"):
        for project in overview.folders(os.path.join(home, folder)):
            yield os.path.join(project, id + ".yaml")


def open_message(session: Session) -> dict[str, Any] | None:
    """The message that is next to be delivered or confirmed: they go one at a time, in order."""
    return next((message for message in session.get("inbox") or () if message["state"] not in FINAL), None)


def _archive_messages(record: Session) -> None:
    """Keep the inbox bounded; what is dropped stays in the event log, which has each message's text."""
    inbox = record.get("inbox") or []
    settled = [message for message in inbox if message["state"] in FINAL]
    wanted = {c["intent"]["id"] for c in (record.get("conditions") or {}).values() if c.get("intent")}
    surplus = [message for message in settled if message["id"] not in wanted][: max(0, len(inbox) - INBOX_KEPT)]
    for message in surplus:
        inbox.remove(message)
