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
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    Record = dict[str, Any]
    Entry = dict[str, Any]  # {signature: of the file, json: of the record, project, is_shown, row}

CACHE = "sessions"
PAUSED = "the fleet is paused: nothing is sent, checked or merged until: ao-stop --resume"
OLD = 90.0  # seconds since the last look: clock.LONGEST_LOOK_GAP, which takes longer to import than to repeat
HEAD = ("session", "status", "activity", "pr", "ci", "review", "tokens", "usd", "age", "branch", "about")
ONLY = {"ci": "pr", "review": "pr", "tokens": "cost", "usd": "cost"}  # columns that are shown when they are asked for
UNSETTLED = ("terminated", "errored")  # until they are restored, killed or pruned
WAITING = ("needs_input", "stuck", "merge_failed")  # statuses in which nothing goes on without a person
SPARE = ("branch", "age", "activity", "about", "tokens", "review", "ci", "pr", "usd")  # give way to others, in turn
COLOURS = {
    **dict.fromkeys(("needs_input", "stuck", "merge_failed"), "red"),
    **dict.fromkeys(("ci_failed", "changes_requested"), "yellow"),
    **dict.fromkeys(("mergeable", "approved"), "green"),
    **dict.fromkeys(("review_pending", "pr_open"), "cyan"),
    **dict.fromkeys(("merged", "done", "killed", "errored", "terminated", "cleanup", "idle"), "grey"),
}

# What a record must hold to be one; see store.Shape.
TEXTS = (
    *("role", "activity", "activity_since", "activity_source", "task", "issue_id", "issue_url", "issue_title"),
    *("branch", "base_branch", "base_sha", "head_sha"),
    *("runtime_state", "claimed_pr_url", "pr_unknown_since", "runtime_unknown_since", "spawned_by", "config_path"),
    *("config_error", "react_error", "outcome", "error", "question", "ended_at", "over_since", "turn_since"),
    *("created_at", "updated_at"),
)
CHECKS = [{"name": str, "status": str}]
PULL = {
    "number": int,
    "state": str,
    "ci_checks?": CHECKS,
    **dict.fromkeys(("ci_status?", "head_sha?", "red_since?", "head_seen_at?", "observed_at?"), str),
    **{key: [str] for key in ("blockers?", "approved_by?", "expected_checks?")},
    **dict.fromkeys(("threads?", "bot_threads?"), list),
}
INTENT = {"id": str, "action": str, "fingerprint": str, "at": str, "items?": list, "head_sha?": str, "told?": dict}
CONDITION = {
    "since": str,
    "attempts": int,
    "failures?": int,
    "turn_spent?": (int, float),
    "intent?": INTENT,
    **dict.fromkeys(("head?", "escalated_at?", "turn_since?", "quiet_since?", "delivered_head?", "waiting_for?"), str),
    "result?": {"at": str},
}
REPORT = {"state": str, "at": str, "text?": str}
MESSAGE = {"id": str, "state": str, "from": str, "text": str, "delivered_at?": str, "sending_at?": str}
SHAPE = {
    "id": str,
    "project_id": str,
    "status": str,
    "rev": int,
    "runtime_handle": str,
    **dict.fromkeys(("agent", "workspace", "workspace_path", "runtime"), (str, type(None))),
    "told": {"*": list},
    "inbox": [MESSAGE],
    **{name + "?": str for name in TEXTS},
    **dict.fromkeys(("exit_code?", "claimed_pr_number?", "missed_looks?", "reports_read?"), int),
    "pr?": PULL,
    "conditions": {"*": CONDITION},
    "doing?": {"effect": str, "at": str},
    "agent_config?": dict,
    "hold?": {"reason": str, **dict.fromkeys(("until?", "limit?", "interrupted_at?"), str)},
    "cost?": {
        **dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens"), int),
        "cost_usd?": (int, float),
        "unpriced": [str],
        "last_id?": str,
        "days": {"*": {"*": {"*": int}}},
    },
    "budget_raised?": (int, float),
    "published?": {"head_sha": str, "at": str, "error?": str},
    "merge_failure?": {"error": str},
    "report?": REPORT,
    "story?": REPORT,
    "screen?": {"activity?": str, "since": str},
}


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
                one = record(path)
            except Unreadable as error:
                damaged[path] = str(error)
                continue
            if one:
                found[path] = entry(one, signature)
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


def files(home: str, root: str = "sessions") -> Iterator[str]:
    """The paths of all records, or of those in the archive, by project and by number."""
    for folder in folders(os.path.join(home, root)):
        names = [name for name in os.listdir(folder) if name.endswith(".yaml") and name[0] != "."]
        for name in sorted(names, key=_by_number):
            yield f"{folder}/{name}"


def folders(root: str) -> list[str]:
    """The folders of the projects in sessions/ or archive/."""
    try:
        return sorted(one.path for one in os.scandir(root) if one.is_dir() and paths.is_name(one.name))
    except FileNotFoundError:
        return []


def table(
    entries: Iterable[Entry], now: float, room: int | None = None, colour: bool = False, extra: Sequence[str] = ()
) -> str:
    """A line a session, with the columns `pr` and `cost` of `extra`; `now`, in seconds since the epoch, for ages."""
    names = [name for name in HEAD if ONLY.get(name, "") in ("", *extra)]
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


def record(path: str) -> Record | None:
    """The session record in a file, None when there is none; Unreadable, and not Damaged, where a person's edit is to
    stay in place."""
    from lib import store

    found = store.read(path)
    problem = store.misfit(found, SHAPE) if found is not None else ""
    if found and not problem and not path.endswith(f"/{found['project_id']}/{found['id']}.yaml"):
        problem = f"it says that it is '{found['id']}' of project '{found['project_id']}'"
    if problem:
        raise Unreadable(f"cannot read '{path}': {problem}")
    return found


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
        _tokens(one.get("cost")),
        "-" if (one.get("cost") or {}).get("cost_usd") is None else f"{one['cost']['cost_usd']:.2f}",
        clock.parse(one.get("created_at")),
        one.get("branch") or "-",
        f"! {about}" if _waits_for_person(one) else about,
    )


def _tokens(cost: Mapping[str, Any] | None) -> str:
    """All tokens of a session, short: 950, 12k, 3.4M."""
    if not cost:
        return "-"
    count = sum(cost.get(f"{kind}_tokens") or 0 for kind in ("input", "output", "cache_read", "cache_creation"))
    return str(count) if count < 1000 else f"{count / 1000:.0f}k" if count < 1e6 else f"{count / 1e6:.1f}M"


def _activity(one: Mapping[str, Any]) -> tuple[str, str]:
    activity = "lost" if one.get("is_lost") else one.get("activity") or "-"
    return activity, "red" if activity in ("lost", "exited") and is_shown(one) else ""


def _waits_for_person(one: Mapping[str, Any]) -> bool:
    told = any(condition.get("escalated_at") for condition in (one.get("conditions") or {}).values())
    return is_shown(one) and (told or bool(one.get("is_lost")) or one["status"] in WAITING)
