"""The event log: what happened, in order, for people, pages and replay.

One file a day under events/; each line is `- ` and one JSON mapping, so a file is a YAML sequence and a line is JSON.
An event is written before the record that it tells of, with the record's next `rev`; after a crash in between the
same event is written again, so readers drop repeats.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lib import faults, paths, status, store
from lib.clock import Clock
from lib.errors import AoError

Event = dict[str, Any]

# What JSON leaves as it is and YAML does not allow or takes for the end of a line.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
NEEDED: dict[str, Any] = {"id": int, "at": str, "type": str, "session_id": (str, type(None))}  # of each event
TAIL = 4096  # bytes read to find the last line, and more when it is longer
LONGEST_TEXT = 8192


def append(home: str, clock: Clock, events: list[Event]) -> None:
    """Write events, each with the next `id` and the time; a torn last line of a writer that died is ended first."""
    if not events:
        return
    folder = paths.events(home)
    with store.lock(folder):
        newest = [os.path.basename(path) for path in files(home)[-1:]]
        path = os.path.join(folder, max([clock.iso[:10] + ".yaml", *newest]))  # ids grow from file to file
        try:
            first = last_id(home) + 1
            lines = [line({"id": first + place, "at": clock.iso, **event}) for place, event in enumerate(events)]
            os.makedirs(folder, mode=0o700, exist_ok=True)
            with open(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "rb+") as file:
                size = file.seek(0, os.SEEK_END)
                torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
                lost = [{"type": "log_damaged", "message": f"the end of '{path}' was lost"}] * torn
                lines = [line({"id": first + n, "at": clock.iso, **event}) for n, event in enumerate(lost + events)]
                file.write(("\n" * torn + "".join(lines)).encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise AoError(f"cannot write '{path}': {error.strerror}") from error
        faults.step()


def line(event: Mapping[str, Any]) -> str:
    """An event as a line of the log; long texts are cut."""
    short = {key: _cut(value) for key, value in store.clean(event).items()}
    text = json.dumps(short, ensure_ascii=False, separators=(", ", ": "))
    return "- " + _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def parse(text: str) -> Event | None:
    """The event in a line of the log, None for a torn or foreign one."""
    try:
        event = json.loads(text[2:]) if text.startswith("- ") else None
    except ValueError:
        return None
    return event if isinstance(event, dict) and all(isinstance(event.get(key), NEEDED[key]) for key in NEEDED) else None


def last_id(home: str) -> int:
    """The id of the newest event, 0 when there is none."""
    for path in reversed(files(home)):
        with open(path, "rb") as file:
            start = size = file.seek(0, os.SEEK_END)
            while start > 0:
                start = max(0, start - max(TAIL, size - start))  # twice as much each time
                file.seek(start)
                lines = file.read().decode("utf-8", "replace").split("\n")
                newest = next((event for text in reversed(lines) if (event := parse(text))), None)
                if newest:
                    return int(newest["id"])
    return 0


def files(home: str) -> list[str]:
    """The log's files, oldest first."""
    folder = paths.events(home)
    try:
        found = sorted(name for name in os.listdir(folder) if re.fullmatch(r"\d{4}-\d\d-\d\d\.yaml", name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AoError(f"cannot read '{folder}': {error.strerror}") from error
    return [os.path.join(folder, name) for name in found]


def read(home: str, since: str = "", after: int = 0, session: str = "") -> Iterator[Event]:
    """Events in order, from an ISO time or behind an id, of one session or all, without repeats."""
    return without_repeats(_read(home, since, after, session))


def without_repeats(found: Iterable[Event]) -> Iterator[Event]:
    """Events in order without those that were written again after a crash.

    Whoever went on after it may have found other facts: its events differ, and the last are true.
    """
    newest: dict[Any, tuple[Any, list[Event]]] = {}  # session -> its revision and what was written of it
    for event in found:
        session, rev = event.get("session_id"), event.get("rev")
        if rev is not None:
            what = {name: value for name, value in event.items() if name not in ("id", "at")}
            if session not in newest or newest[session][0] != rev:
                newest[session] = rev, []
            if what in newest[session][1]:
                continue
            newest[session][1].append(what)
        yield event


def _read(home: str, since: str, after: int, session: str) -> Iterator[Event]:
    for path in files(home):
        if since and os.path.basename(path)[:10] < since[:10]:
            continue
        with open(path, encoding="utf-8", errors="replace") as file:
            for text in file:
                event = parse(text)
                if event is None or event["id"] <= after or event["at"] < since:
                    continue
                if not session or event.get("session_id") == session:
                    yield event


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    """The events that the difference between two states of a record makes."""
    found: list[Event] = []
    old, new = before.get("status"), after.get("status")
    if not before:
        found.append({"type": "spawned", "issue_id": after.get("issue_id"), "task": after.get("task")})
    elif old != new:
        found.append({"type": "status_changed", "from": old, "to": new})
        if new in status.TERMINAL and old not in status.TERMINAL:
            found.append({"type": "terminated", "reason": after.get("error") or new})
    if before and before.get("activity") != after.get("activity"):
        found.append({"type": "activity_changed", "prev": before.get("activity"), "next": after.get("activity")})
    states = {message["id"]: message["state"] for message in before.get("inbox") or ()}
    for message in after.get("inbox") or ():
        if states.get(message["id"]) != message["state"]:
            found.append(_message_changed(message))
    if before.get("pr") != after.get("pr"):
        found.append(
            {"type": "pr_enrichment_changed", "pr": after.get("pr"), "attention_level": status.attention(after)}
        )
    names = {"session_id": after["id"], "project_id": after["project_id"], "rev": after["rev"]}
    return [{**event, **names} for event in found]


def _message_changed(message: Mapping[str, Any]) -> Event:
    event = {"type": "message_changed", "message_id": message["id"], "state": message["state"]}
    if message["state"] == "queued":
        event |= {"from": message.get("from"), "text": message.get("text")}
    return event


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return value[:LONGEST_TEXT] + f" … ({len(value)} characters)"
    return value
