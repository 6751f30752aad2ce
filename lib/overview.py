"""The fleet at a glance: every record through the cache, as JSON and as a row of the table.

ao-status starts with this module, so nothing here imports what takes long, not even `json` or `re`: a record is parsed
only when its file has changed, and whoever had to keeps its JSON text and its row in cache/sessions for all others.
"""

from __future__ import annotations

import os

from lib import ROOT, cache, paths, render
from lib.errors import Unreadable

TYPE_CHECKING = False  # see render
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    Record = dict[str, Any]
    Entry = dict[str, Any]  # {signature: of the file, json: of the record, project, is_shown, row}

CACHE = "sessions"
PAUSED = "the fleet is paused: nothing is sent, checked or merged until: ao-stop --resume"
OLD = 90.0  # seconds since the last look: clock.LONGEST_LOOK_GAP, which takes longer to import than to repeat
HEAD = ("session", "status", "activity", "pr", "ci", "review", "age", "branch", "about")
PR_ONLY = ("ci", "review")  # columns that are shown when they are asked for
UNSETTLED = ("terminated", "errored")  # until they are restored, killed or pruned
WAITING = ("needs_input", "stuck", "merge_failed")  # statuses in which nothing goes on without a person
SPARE = ("branch", "age", "activity", "about", "review", "ci", "pr")  # columns that give way to the others, in turn
COLOURS = {
    **dict.fromkeys(("needs_input", "stuck", "merge_failed"), "red"),
    **dict.fromkeys(("ci_failed", "changes_requested"), "yellow"),
    **dict.fromkeys(("mergeable", "approved"), "green"),
    **dict.fromkeys(("review_pending", "pr_open"), "cyan"),
    **dict.fromkeys(("merged", "done", "killed", "errored", "terminated", "cleanup", "idle"), "grey"),
}

NEEDED = {"id": str, "project_id": str, "status": str, "rev": int}
OPTIONAL = {"conditions": dict, "told": dict, "inbox": list}
MAPPINGS = ("pr", "doing", "hold", "merge_failure", "report", "screen", "agent_config")  # or null


def entries(home: str) -> tuple[list[Entry], dict[str, str]]:
    """Every record that can be read and is not archived, in the order of ids, and why the others cannot, by path."""
    code = [cache.signature(os.path.join(ROOT, "lib", name)) for name in ("overview.py", "status.py")]
    kept = cache.load(home, CACHE)
    known: dict[str, Entry] = kept["entries"] if kept.get("code") == code else {}
    found: dict[str, Entry] = {}
    damaged: dict[str, str] = {}
    for path in files(home):
        signature = cache.signature(path)
        if path in known and known[path]["signature"] == signature:
            found[path] = known[path]
        elif signature:
            try:
                record = _record(path)
            except Unreadable as error:
                damaged[path] = str(error)
                continue
            if record:
                found[path] = entry(record, signature)
    if found != known:
        cache.save(home, CACHE, {"code": code, "entries": found})
    return list(found.values()), damaged


def entry(record: Mapping[str, Any], signature: tuple[int, int, int] = (0, 0, 0)) -> Entry:
    """What is kept of a record."""
    import json

    return {
        "signature": signature,
        "json": json.dumps(record, ensure_ascii=False).encode(),  # bytes: to be printed as they are
        "project": record["project_id"],
        "is_shown": is_shown(record),
        "row": _row(record),
    }


def files(home: str) -> Iterator[str]:
    """The paths of all records, by project and by number."""
    for folder in folders(paths.sessions(home)):
        names = [name for name in os.listdir(folder) if name.endswith(".yaml") and name[0] != "."]
        for name in sorted(names, key=_by_number):
            yield f"{folder}/{name}"


def folders(root: str) -> list[str]:
    """The folders of the projects in sessions/ or archive/."""
    try:
        return sorted(one.path for one in os.scandir(root) if one.is_dir())
    except FileNotFoundError:
        return []


def table(entries: Iterable[Entry], now: float, room: int | None = None, colour: bool = False, pr: bool = False) -> str:
    """A line a session; `now`, in seconds since the epoch, gives the ages."""
    names = [name for name in HEAD if pr or name not in PR_ONLY]
    rows = []
    for entry in entries:
        cells = dict(zip(HEAD, entry["row"], strict=True))
        cells["age"] = "-" if cells["age"] is None else render.age(now - cells["age"])
        rows.append([cells[name] for name in names])
    return render.table(rows, names, room, colour, SPARE)


def array(entries: Iterable[Entry]) -> bytes:
    """A JSON array with a line for each record."""
    return b"[" + b",\n".join([entry["json"] for entry in entries]) + b"]\n"


def silence(home: str, now: float) -> str:
    """That the fleet is paused, or that nobody has looked for so long that what is shown may be old; "" otherwise.

    By the date of loop.yaml, which each look writes, and one line of it: parsing it would take longer than all else.
    """
    path = paths.loop(home)
    try:
        ago = now - os.stat(path).st_mtime
        with open(path, "rb") as file:
            is_paused = b"\npaused_at: '" in b"\n" + file.read()
    except FileNotFoundError:
        return "nobody has looked yet; start: ao-watch"
    if is_paused:
        return PAUSED
    return f"nobody has looked for {render.age(ago)}; start: ao-watch" if ago > OLD else ""


def is_shown(record: Mapping[str, Any]) -> bool:
    """Whether it belongs into the default view: live, or ended in a way that a person has not settled yet."""
    from lib import status

    return status.is_live(record) or (record["status"] in UNSETTLED and not record.get("pruned_at"))


def _record(path: str) -> Record | None:
    from lib import store

    record = store.read(path)
    problem = _problem(path, record) if record is not None else ""
    if problem:
        raise Unreadable(f"cannot read '{path}': {problem}")
    return record


def _problem(path: str, record: Mapping[str, Any]) -> str:
    """Why a mapping is not a session record, "" when it is."""
    wrong = [field for field, kind in NEEDED.items() if not isinstance(record.get(field), kind)]
    wrong += [field for field, kind in OPTIONAL.items() if not isinstance(record.get(field, kind()), kind)]
    wrong += [field for field in MAPPINGS if not isinstance(record.get(field) or {}, dict)]
    if wrong:
        return f"its '{wrong[0]}' is {type(record.get(wrong[0])).__name__}"
    if not all(isinstance(one, dict) for one in (*record.get("conditions", {}).values(), *record.get("inbox", []))):
        return "an entry of its 'conditions' or 'inbox' is not a mapping"
    return "" if f"{record['id']}.yaml" == os.path.basename(path) else f"its id is '{record['id']}'"


def _by_number(file: str) -> tuple[str, int]:
    name, _, number = file[: -len(".yaml")].rpartition("-")
    return (name, int(number)) if number.isdigit() else (file, 0)


def _row(one: Mapping[str, Any]) -> tuple[Any, ...]:
    """The cells in the order of HEAD; instead of the age, when it began, in seconds since the epoch."""
    from lib import clock

    pull = one.get("pr") or {}
    about = render.brief(str(one.get("issue_title") or one.get("task") or ""))
    return (
        one["id"],
        (one["status"], COLOURS.get(one["status"], "")),
        _activity(one),
        f"#{one['claimed_pr_number']}" if one.get("claimed_pr_number") else "-",
        pull.get("ci_status") or "-",
        pull.get("review_decision") or "-",
        clock.parse(one.get("created_at")),
        one.get("branch") or "-",
        f"! {about}" if _waits_for_person(one) else about,
    )


def _activity(one: Mapping[str, Any]) -> tuple[str, str]:
    activity = "lost" if one.get("is_lost") else one.get("activity") or "-"
    return activity, "red" if activity in ("lost", "exited") and is_shown(one) else ""


def _waits_for_person(one: Mapping[str, Any]) -> bool:
    told = any(condition.get("escalated_at") for condition in (one.get("conditions") or {}).values())
    return is_shown(one) and (told or bool(one.get("is_lost")) or one["status"] in WAITING)
