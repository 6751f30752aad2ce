"""What is due for a session without an open condition: its issue, its checks, a budget that is used up, its end."""

from __future__ import annotations

import contextlib
import glob
import os
import threading
from collections.abc import Sequence

from lib import config, effects, lives, plugins, sessions, status, store
from lib.errors import AoError, Unknown
from lib.place import Done, Place, Session, detach, note

INTERRUPT_AGAIN = 60.0  # seconds after which an agent that works on is interrupted once more
TURN_OVER_WITHIN = 300.0  # seconds after the end of its work in which an agent may finish its turn


def attend(place: Place, session: Session, slots: threading.Semaphore, done: Done) -> bool:
    """Do what is due; False when the session has come to its end, or an effect on it had to be settled."""
    if session.get("doing"):
        lives.settle(place.home, place.project, session, place.clock)
        return False
    with contextlib.suppress(Unknown):  # the tracker cannot be asked now: that is still to be done, and stops nothing
        _tend_issue(place, session)
    if _must_end(place, session):
        prune_too = _must_prune(place, session)
        done.append(note(session, "cleanup"))
        lives.clean_up(place.home, place.project, session, prune_too, place.clock)
        return False
    if _must_interrupt(place, session):
        _interrupt(place, session)
        done.append(note(session, "interrupt"))
    if _wants_checks(place, session) and slots.acquire(blocking=False):
        done.append(note(session, "ci"))
        _start_checks(place, session)
    return True


def free_slots(home: str, records: Sequence[Session]) -> int:
    """How many more `ao-ci` this machine may run in this round."""
    if not any(status.has_open_pr(session) for session in records):
        return 0
    held = glob.glob(os.path.join(glob.escape(home), "locks", "effect", "*", "ci-*.lock"))
    return max(0, (os.cpu_count() or 2) - sum(store.is_held(path.removesuffix(".lock")) for path in held))


def _tend_issue(place: Place, session: Session) -> None:
    """Assign the issue where that was asked for, and close the one whose pull request is merged."""
    if session.get("assign_issue"):
        with effects.effect("issue.assign"):
            why = _ask_tracker(place, session, "assign")
        done = {"type": "issue_assigned", "issue_id": session["issue_id"], "why_not": why}
        sessions.update(place.home, session, lambda fresh: fresh.update(assign_issue=False) or [done], place.clock)
    if status.is_merged(session) and session.get("issue_id") and session.get("issue_closed") is None:
        with effects.effect("issue.close"):
            why = _ask_tracker(place, session, "close")
        done = {"type": "issue_closed", "issue_id": session["issue_id"], "why_not": why}
        sessions.update(place.home, session, lambda fresh: fresh.update(issue_closed=not why) or [done], place.clock)


def _ask_tracker(place: Place, session: Session, verb: str) -> str | None:
    """Let the tracker do something to the session's issue; why it refuses, as of one that is not its own."""
    try:
        tracker = plugins.load("tracker", config.setting(place.project, "tracker"))
        getattr(tracker, verb)(place.home, place.project, session["issue_id"])
    except Unknown:
        raise
    except AoError as error:
        return str(error)
    return None


def _must_end(place: Place, session: Session) -> bool:
    """Whether its work is over and its agent or its worktree should go: once the turn is over, but not never."""
    is_over = status.is_merged(session) or session.get("outcome") == "done"
    if not is_over or session.get("runtime_state") != "alive":
        return is_over and _must_prune(place, session)
    at_rest = session.get("activity") in ("ready", "idle", "exited")
    return at_rest or place.clock.elapsed(session.get("over_since")) >= TURN_OVER_WITHIN


def _must_prune(place: Place, session: Session) -> bool:
    wanted = status.is_merged(session) and config.setting(place.file, "lifecycle.on_merge") == "prune"
    return wanted and os.path.isdir(session.get("workspace_path") or "")


def _must_interrupt(place: Place, session: Session) -> bool:
    """Whether an agent is at work although its budget is used up: told so by a key, and again after a while."""
    hold = session.get("hold") or {}
    is_spending = hold.get("reason") == "budget" and session.get("activity") == "active"
    if not is_spending or session.get("runtime_state") != "alive":
        return False
    at = hold.get("interrupted_at")
    return at is None or place.clock.elapsed(at) >= INTERRUPT_AGAIN


def _interrupt(place: Place, session: Session) -> None:
    key = plugins.load("agent", session["agent"]).INTERRUPT

    def change(fresh: Session) -> None:
        if fresh.get("hold"):
            fresh["hold"]["interrupted_at"] = place.clock.iso

    with effects.hold(place.home, session):
        sessions.update(place.home, session, change, place.clock)
        with effects.effect("hold.interrupt"):
            if key:
                plugins.load("runtime", session["runtime"]).press(place.home, session["runtime_handle"], key)


def _wants_checks(place: Place, session: Session) -> bool:
    """Whether `ao-ci` should be started: the forge runs no checks, some are wanted, and nobody is at it."""
    pull = session.get("pr")
    if not pull or session.get("pr_unknown_since") or not status.needs_looking(session):  # no look sees the result
        return False
    scm = plugins.load("scm", config.setting(place.project, "scm"))
    ci = {"project_id": session["project_id"], "id": f"ci-{pull['number']}"}
    return bool(scm.ci_wanted(pull, place.project)) and not effects.is_under_way(place.home, ci)


def _start_checks(place: Place, session: Session) -> None:
    """Start `ao-ci`, in a process and under a lock of its own."""
    with effects.effect("ci.start"):
        detach(place, session, "ao-ci")
