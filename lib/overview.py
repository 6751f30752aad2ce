"""The fleet as people read it: the table of sessions, and why one of them is as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lib import conditions, render, status
from lib.clock import Clock, age

Session = Mapping[str, Any]
COLOURS = {
    "respond": "yellow",
    "merge": "green",
    "review": "cyan",
    "pending": "blue",
}


def table(
    records: Iterable[Session], clock: Clock, room: int | None = None, colour: bool = False, pr: bool = False
) -> str:
    """One line a session: id, status, agent's activity, pull request, age, and what it works on."""
    head = ["session", "status", "activity", "pr", *(["ci", "review"] if pr else []), "age", "branch", "about"]
    return render.table([_row(one, clock, pr) for one in records], head, room, colour)


def _row(one: Session, clock: Clock, pr: bool) -> list[Any]:
    pull = one.get("pr") or {}
    number = f"#{one['claimed_pr_number']}" if one.get("claimed_pr_number") else "-"
    details = [pull.get("ci_status") or "-", pull.get("review_decision") or "-"] if pr else []
    waiting = [c["waiting_for"] for c in (one.get("conditions") or {}).values() if c.get("escalated_at")]
    about = one.get("issue_title") or one.get("task") or ""
    return [
        one["id"],
        (one["status"], COLOURS.get(status.attention(one), "")),
        one.get("activity") or "-",
        number,
        *details,
        render.ago(clock, one.get("created_at")),
        one.get("branch") or "-",
        f"! {about}" if waiting else about,
    ]


def is_shown(session: Session) -> bool:
    """Whether it belongs into the default view: live, or lost and in need of being restored."""
    return status.is_live(session) or bool(session.get("is_lost") and not session.get("outcome"))


def why(session: dict[str, Any], clock: Clock) -> list[str]:
    """Which rule gave the status, what stands in the way, what is open and what it waits for; a line each."""
    rung = status.rung(session, clock)
    lines = [f"{session['id']} is {rung.status}: {rung.when}"]
    lines += [f"  {text}" for text in _facts(session, clock)]
    for key, condition in (session.get("conditions") or {}).items():
        lasts = age(clock.elapsed(condition["since"]))
        lines.append(f"  open: {key} for {lasts}, {condition['attempts']} delivered; {_next(condition)}")
        lines.append(f"    it closes when: {conditions.KEYS[key].closes_when}")
    for message in session.get("inbox") or ():
        if message["state"] != "confirmed":
            waits = f", waits for: {message['waiting_for']}" if message.get("waiting_for") else ""
            lines.append(f"  message {message['id']} from {message['from']} is {message['state']}{waits}")
    return [render.plain(line) for line in lines]


def _facts(session: Session, clock: Clock) -> list[str]:
    found = [f"runtime: {session.get('runtime_state')}"]
    if session.get("exit_code") is not None:
        found[0] += f", exit code {session['exit_code']}"
    if session.get("activity"):
        since = age(clock.elapsed(session.get("activity_since")))
        found.append(f"activity: {session['activity']} for {since}, by {session.get('activity_source')}")
    pull = session.get("pr")
    if pull:
        found.append(
            f"pull request {pull['number']}: {pull['state']}, CI {pull['ci_status']}, review {pull['review_decision']}"
        )
        found += [f"not ready: {blocker}" for blocker in pull.get("blockers") or () if pull["state"] == "open"]
    if session.get("merge_failure"):
        found.append(f"a merge failed: {session['merge_failure']['error']}")
    for field in ("config_error", "react_error", "error"):
        if session.get(field):
            found.append(f"{field.replace('_', ' ')}: {session[field]}")
    for axis in ("runtime", "pr"):
        if session.get(f"{axis}_unknown_since"):
            found.append(f"{axis}: unknown since {session[f'{axis}_unknown_since']}")
    return found


def _next(condition: Mapping[str, Any]) -> str:
    intent = condition.get("intent")
    if intent and not condition.get("result"):
        return f"{intent['action']} is under way ({intent['id']})"
    return f"waits for: {condition['waiting_for']}" if condition.get("waiting_for") else "due now"
