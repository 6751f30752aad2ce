"""Session records: one YAML file each, changed field by field under its own lock.

Nobody writes a whole record back: `update` reads the newest one under its lock and applies a change to that, so that
what another process wrote in the meantime survives. The status follows from the facts at every write.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lib import events, paths, status, store
from lib.clock import Clock
from lib.errors import AoError, Unreadable

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
        if any(any(_files(home, folder, record["id"] + ".yaml")) for folder in ("sessions", "archive")):
            return False
        if not store.reserve(path, record):
            return False
    events.append(home, clock, events.between({}, record))
    return True


def update(home: str, session: Session, change: Callable[[Session], Any], clock: Clock) -> Session:
    """Apply `change` to the newest state of a record and return it; nothing is written when nothing differs.

    `change` edits the record in place and may return further events for the log. Raises Vanished.
    """
    path = paths.session(home, session["project_id"], session["id"])
    with store.lock(path):
        before = store.read(path)
        if before is None:
            raise Vanished(f"session '{session['id']}' is no more")
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
        if os.path.exists(path):
            os.unlink(path)


def archive(home: str, session: Session) -> None:
    """Move a record to the archive, where `find` still has it."""
    path, target = (place(home, session["project_id"], session["id"]) for place in (paths.session, paths.archived))
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    with store.lock(path):
        os.replace(path, target)


def everything(home: str, project: str | None = None) -> Fleet:
    """All records that are not archived, through the cache: a file is parsed only when it has changed."""
    known = _read_cache(home)
    records, damaged, fresh, misses = [], {}, {}, 0
    for path in _files(home):
        signature = _signature(path)
        if signature is None:
            continue
        entry = known.get(path)
        if entry is None or entry[0] != signature:
            misses += 1
            try:
                record = store.read(path)
            except Unreadable as error:
                damaged[path] = str(error)
                continue
            if record is None:
                continue
            problem = _problem(path, record)
            if problem:
                damaged[path] = f"cannot read '{path}': {problem}"
                continue
            entry = (signature, record)
        fresh[path] = entry
        if project in (None, entry[1]["project_id"]):
            records.append(entry[1])
    if misses or len(fresh) != len(known):
        _write_cache(home, fresh)
    return Fleet(records, damaged)


def find(home: str, text: str) -> Session:
    """The record of an exact id (also an archived one), else of an unambiguous prefix."""
    for folder in ("sessions", "archive"):
        for path in _files(home, folder, text + ".yaml"):
            record = store.read(path)
            if record is not None:
                return record
    matches = [record for record in everything(home).records if text and str(record["id"]).startswith(text)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(record["id"] for record in matches[:5])
        raise AoError(f"'{text[:80]}' can mean several sessions: {ids}; write the whole id")
    raise AoError(f"there is no session '{text[:80]}'; see: ao-status --all")


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


def _files(home: str, folder: str = "sessions", name: str | None = None) -> Iterator[str]:
    root = os.path.join(home, folder)
    try:
        projects = sorted(entry.path for entry in os.scandir(root) if entry.is_dir())
    except FileNotFoundError:
        return
    for project in projects:
        if name is not None:
            path = os.path.join(project, name)
            if os.path.dirname(path) == project and os.path.isfile(path):
                yield path
            continue
        for file in sorted(os.listdir(project), key=_by_number):
            if file.endswith(".yaml") and not file.startswith("."):
                yield os.path.join(project, file)


def _by_number(file: str) -> tuple[str, int]:
    name, _, number = file.removesuffix(".yaml").rpartition("-")
    return (name, int(number)) if number.isdigit() else (file, 0)


def _signature(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _problem(path: str, record: Session) -> str:
    """Why a mapping is not a session record, "" when it is."""
    for field in ("id", "project_id", "status"):
        if not isinstance(record.get(field), str):
            return f"its '{field}' is {type(record.get(field)).__name__}, not text"
    if record["id"] != os.path.basename(path).removesuffix(".yaml"):
        return f"its id is '{record['id']}'"
    for field, kind in (("conditions", dict), ("told", dict), ("inbox", list)):
        if not isinstance(record.get(field, kind()), kind):
            return f"its '{field}' is not a {kind.__name__}"
    return "" if isinstance(record.get("rev"), int) else "its 'rev' is not a number"


def _read_cache(home: str) -> dict[str, tuple[tuple[int, int, int], Session]]:
    import marshal

    try:
        with open(paths.cache(home, "records"), "rb") as file:
            found = marshal.load(file)
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, EOFError, TypeError):
        return {}


def _write_cache(home: str, entries: dict[str, tuple[tuple[int, int, int], Session]]) -> None:
    import marshal

    store.replace(paths.cache(home, "records"), marshal.dumps(entries), durable=False)
