"""A session's status: 18 values, derived from facts and clocks, never set by hand.

Nothing here reads or writes anything. Because a status is a function of stored facts, it cannot flap while they hold
still and cannot get stuck when a transition was missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lib.clock import Clock

Session = Mapping[str, Any]

ENDED = ("exited", "gone")  # runtime states in which no agent runs
IDLE_LONGER_THAN = 300.0  # seconds


class Rung(NamedTuple):
    status: str
    when: str  # for people: `ao-status --why` and lib/README.md
    holds: Callable[[Session, Clock], bool]
    terminal: bool = False
    restorable: bool = False


def has_open_pr(session: Session) -> bool:
    return (session.get("pr") or {}).get("state") == "open"


def is_merged(session: Session) -> bool:
    return (session.get("pr") or {}).get("state") == "merged"


def has_ended(session: Session) -> bool:
    """Whether no agent runs: a definite fact, not a look that failed."""
    return session.get("runtime_state") in ENDED


def is_doing(session: Session, effect: str) -> bool:
    """Whether an effect on the session's life has an intent and no result yet."""
    return (session.get("doing") or {}).get("effect") == effect


def is_over(session: Session) -> bool:
    """Whether nothing more is wanted of the session: it is merged, or an outcome is recorded."""
    return bool(session.get("outcome")) or is_merged(session)


def _held(session: Session, *reasons: str) -> bool:
    return (session.get("hold") or {}).get("reason") in reasons


def _outcome(name: str) -> Callable[[Session, Clock], bool]:
    return lambda session, clock: session.get("outcome") == name


def _open_pr(field: str, *values: object) -> Callable[[Session, Clock], bool]:
    return lambda session, clock: has_open_pr(session) and session["pr"].get(field) in values


def _is_terminated(session: Session, clock: Clock) -> bool:
    """As long as it is not known whether there is a pull request, there may be an open one."""
    is_unknown = session.get("pr_unknown_since") and not session.get("pr")
    return has_ended(session) and not has_open_pr(session) and not is_unknown


def _merge_failed(session: Session, clock: Clock) -> bool:
    failure = session.get("merge_failure") or {}
    return has_open_pr(session) and bool(failure) and failure.get("head_sha") == session["pr"].get("head_sha")


def _is_idle(session: Session, clock: Clock) -> bool:
    long = clock.elapsed(session.get("activity_since")) > IDLE_LONGER_THAN
    return _held(session, "usage-limit", "person") or (session.get("activity") == "idle" and long)


# The ladder: the first rung that holds is the status.
LADDER = (
    Rung(
        "cleanup",
        "merged, the agreed cleaning is under way",
        lambda s, c: is_merged(s) and is_doing(s, "cleanup"),
        True,
    ),
    Rung("merged", "the pull request is merged", lambda s, c: is_merged(s), True),
    Rung("killed", "a person ended it", _outcome("killed"), True, True),
    Rung("done", "the agent reported that a task without pull request is complete", _outcome("done"), True, True),
    Rung("errored", "its spawn or its workspace failed", _outcome("errored"), True, True),
    Rung(
        "spawning",
        "it was reserved, and no look has seen its agent yet",
        lambda s, c: s.get("runtime_state") == "starting",
    ),
    Rung("terminated", "the agent has ended and there is no open pull request", _is_terminated, True, True),
    Rung(
        "needs_input",
        "the agent waits for an answer, or its budget is used up",
        lambda s, c: s.get("activity") == "waiting_input" or _held(s, "budget"),
    ),
    Rung(
        "stuck",
        "it is the agent's turn and nothing has moved for too long",
        lambda s, c: "agent-stuck" in (s.get("conditions") or {}),
    ),
    Rung("merge_failed", "a merge of this head was tried and failed", _merge_failed),
    Rung("mergeable", "the pull request is ready: approved, green, clean, settled", _open_pr("blockers", [])),
    Rung("ci_failed", "a check of the pull request is red", _open_pr("ci_status", "failing")),
    Rung("changes_requested", "a reviewer asked for changes", _open_pr("review_decision", "changes_requested")),
    Rung("approved", "a reviewer approved, something else is missing", _open_pr("review_decision", "approved")),
    Rung("review_pending", "a reviewer is asked and has not answered", _open_pr("review_decision", "pending")),
    Rung("pr_open", "a pull request is open", lambda s, c: has_open_pr(s)),
    Rung("idle", "no pull request and the agent idle for over 5 minutes, or parked on purpose", _is_idle),
    Rung("working", "nothing else is the matter, so its agent is taken to be at work", lambda s, c: True),
)
TERMINAL = frozenset(rung.status for rung in LADDER if rung.terminal)
RESTORABLE = frozenset(rung.status for rung in LADDER if rung.restorable)


def rung(session: Session, clock: Clock) -> Rung:
    """The first rung of the ladder that holds for these facts."""
    return next(rung for rung in LADDER if rung.holds(session, clock))


def derive(session: Session, clock: Clock) -> str:
    return rung(session, clock).status


def is_live(session: Session) -> bool:
    """Whether the stored status is not terminal."""
    return session.get("status") not in TERMINAL


def can_work(session: Session) -> bool:
    """Whether an agent runs that is neither parked nor waiting for a person."""
    is_free = not session.get("hold") and session.get("activity") != "waiting_input"
    return is_free and session.get("runtime_state") == "alive" and not is_over(session)


def needs_looking(session: Session) -> bool:
    """Live, or with an agent that still runs, a cleaning that is not finished, or a word that was not heard yet."""
    if is_live(session) or session.get("doing") or not has_ended(session):
        return True
    if is_over(session):  # an effect on its way may keep a condition open until its result is there
        return bool(session.get("conditions"))
    return any(message.get("state") in ("queued", "sending", "delivered") for message in session.get("inbox") or ())


def attention(session: Session) -> str:
    """How much a person is wanted: done, merge, respond, review, pending or working."""
    status, pr = session.get("status"), session.get("pr") or {}
    is_open = pr.get("state") == "open"
    if status in TERMINAL:
        return "done"
    if status in ("mergeable", "merge_failed"):
        return "merge"
    if is_open and pr.get("mergeable") and pr.get("ci_status") == "passing":
        return "merge"
    if status in ("needs_input", "stuck") or session.get("activity") in ("waiting_input", "blocked"):
        return "respond"
    if is_open and (pr.get("review_decision") == "changes_requested" or pr.get("ci_status") == "failing"):
        return "respond"
    if is_open and pr.get("review_decision") == "pending":
        return "review"
    if is_open and pr.get("ci_status") == "pending":
        return "pending"
    return "review" if is_open else "working"
