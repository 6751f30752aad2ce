"""Why a session is as it is: the rule that gave its status, the facts, what is open and what that waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib import due, render, status
from lib.clock import Clock
from lib.overview import PAUSED
from lib.render import age
from lib.rules import KEYS

Session = Mapping[str, Any]


def lines(session: dict[str, Any], reactions: Mapping[str, Any] | None, paused_at: str, clock: Clock) -> list[str]:
    """Which rule gave the status, what stands in the way, what is open and what it waits for; a line each.

    `reactions` are those of the session's project, None when its configuration cannot be read.
    """
    rung = status.rung(session, clock)
    found = [f"{session['id']} is {rung.status}: {rung.when}"]
    if paused_at:
        found.append(f"  since {paused_at} {PAUSED}")
    found += [f"  {text}" for text in _facts(session, clock)]
    for key, condition in (session.get("conditions") or {}).items():
        lasts = age(clock.elapsed(condition["since"]))
        step = _next(session, key, reactions, clock)
        found.append(f"  open: {key} for {lasts}, {condition['attempts']} delivered; {step}")
        found.append(f"    it closes when: {KEYS[key].closes_when}")
    for message in session.get("inbox") or ():
        if message["state"] != "confirmed":
            is_open = message["state"] in ("queued", "sending", "delivered")
            waits = f"{', waits for' * is_open}: {message['waiting_for']}" if message.get("waiting_for") else ""
            found.append(f"  message {message['id']} from {message['from']} is {message['state']}{waits}")
    return [render.plain(line) for line in found]


def _facts(session: Session, clock: Clock) -> list[str]:
    found = [f"runtime: {session.get('runtime_state')}"]
    if session.get("exit_code") is not None:
        found[0] += f", exit code {session['exit_code']}"
    if session.get("activity"):
        since = age(clock.elapsed(session.get("activity_since")))
        found.append(f"activity: {session['activity']} for {since}, by {session.get('activity_source')}")
    elif session.get("runtime_state") == "alive" and not session.get("report"):
        found.append(
            "activity: unknown; its screen has told nothing yet, and no hook reports (agent_config: ready, busy)"
        )
    if session.get("question"):
        found.append(f"it asks: {session['question']}")
    if session.get("trouble"):
        found.append(f"it is blocked by: {session['trouble']}")
    hold = session.get("hold")
    if hold:
        until = f" until {hold['until']}" if hold.get("until") else ""
        found.append(f"parked: {hold['reason']}{until}" + (f" ({hold['limit']})" if hold.get("limit") else ""))
    if session.get("backup_ref"):
        found.append(f"work of its last worktree is saved: git log -p {session['backup_ref']}")
    if session.get("is_lost") and not session.get("outcome"):
        found.append(f"lost with all other terminals; bring it back: ao-restore {session['id']}")
    pull = session.get("pr")
    if pull:
        found.append(
            f"pull request {pull['number']}: {pull['state']}, "
            f"CI {pull.get('ci_status') or 'unknown'}, review {pull.get('review_decision') or 'unknown'}"
        )
        found += [f"not ready: {blocker}" for blocker in pull.get("blockers") or () if pull["state"] == "open"]
    if (session.get("published") or {}).get("error"):
        found.append(f"its commits cannot be published: {session['published']['error']}")
    failure = session.get("merge_failure")
    if failure and failure.get("head_sha") == (pull or {}).get("head_sha"):
        found.append(f"a merge failed: {failure['error']}")
    for field in ("config_error", "react_error", "error"):
        if session.get(field):
            found.append(f"{field.replace('_', ' ')}: {session[field]}")
    for axis in ("runtime", "pr"):
        if session.get(f"{axis}_unknown_since"):
            found.append(f"{axis}: unknown since {session[f'{axis}_unknown_since']}")
    return found


def _next(session: dict[str, Any], key: str, reactions: Mapping[str, Any] | None, clock: Clock) -> str:
    if reactions is None:
        return "waits for: a configuration that can be read"
    step = due.next_step(session, key, reactions.get(key) or {}, clock)
    return f"waits for: {step.why}" if isinstance(step, due.Wait) else f"due now: {step.action}"
