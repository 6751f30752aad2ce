"""Open conditions: what needs a reaction, when it opens and when it closes.

Nothing here reads or writes anything; `evaluate` edits the record that it is given. Conditions are levels and not
edges: a reaction that failed, crashed or came late is simply still due. Facts that are unknown neither open nor close
anything. What was delivered is remembered in `told`, which outlives the episode, so that nothing is said twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lib import ready, status
from lib.clock import Clock, duration

Session = dict[str, Any]
Reaction = Mapping[str, Any]

IDLE_AFTER = 60.0  # seconds at the prompt before `ready` is called `idle`
CALM = 60.0  # seconds without the trouble before a condition of the agent closes, so that no flicker reopens it
RED_FOR_GOOD = 120.0  # seconds after the first red check before waiting for the others ends
TOLD_KEPT = 300  # ids per key
CANNOT_BE_KNOWN = "is unconfirmed"  # how the error of a message ends that may or may not have arrived


class Rules(NamedTuple):
    """What one project configured, as far as it matters here."""

    reactions: Mapping[str, Reaction]
    merge: Mapping[str, Any]

    def threshold(self, key: str, default: str) -> float:
        return duration(self.reactions.get(key, {}).get("threshold") or default)


class Rule(NamedTuple):
    key: str
    opens_when: str
    closes_when: str
    due_for: str
    opens: Callable[[Session, Clock, Rules], bool]
    closes: Callable[[Session, Clock, Rules], bool]
    items: Callable[[Session], list[str]]  # what a delivery would cover, as ids
    is_agents_turn: Callable[[Session], bool]
    once_per: str = "episode"  # `ever`: an item that was told stays told when the condition opens again


def digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "replace")).hexdigest()[:12]


def _pr(session: Session) -> dict[str, Any]:
    return session.get("pr") or {}


def _pr_is_known(session: Session) -> bool:
    return not session.get("pr_unknown_since")


def _open_pr(session: Session) -> bool:
    return status.has_open_pr(session) and _pr_is_known(session)


def _pr_ended(session: Session) -> bool:
    return _pr_is_known(session) and not status.has_open_pr(session)


def _is_over(session: Session) -> bool:
    return bool(session.get("outcome")) or status.is_merged(session)


def _runs(session: Session) -> bool:
    return session.get("runtime_state") == "alive"


def _for(session: Session, clock: Clock, *activities: str) -> float:
    """Seconds for which the agent has been in one of these activities, -1 when it is in another."""
    return clock.elapsed(session.get("activity_since")) if session.get("activity") in activities else -1.0


def _calm(session: Session, clock: Clock, *troubles: str) -> bool:
    activity = session.get("activity")
    return bool(activity) and activity not in troubles and clock.elapsed(session.get("activity_since")) >= CALM


def _ci_is_red(session: Session, clock: Clock, rules: Rules) -> bool:
    pr = _pr(session)
    if not _open_pr(session) or pr.get("ci_status") != "failing":
        return False
    running = [check for check in pr.get("ci_checks", ()) if check.get("status") in ("pending", "running")]
    return not running or clock.elapsed(pr.get("red_since")) >= RED_FOR_GOOD


def _ci_is_green(session: Session, clock: Clock, rules: Rules) -> bool:
    return _pr_ended(session) or (_open_pr(session) and _pr(session).get("ci_status") == "passing")


def _red_items(session: Session) -> list[str]:
    pr = _pr(session)
    red = sorted(check["name"] for check in pr.get("ci_checks", ()) if check.get("status") == "failed")
    return [f"{str(pr.get('head_sha'))[:12]}:{digest(*red)}"] if red else []


def _threads(field: str) -> dict[str, Any]:
    def settled(session: Session, clock: Clock, rules: Rules) -> bool:
        return _pr_ended(session) or (_pr_is_known(session) and not _pr(session).get(field))

    return {
        "opens": lambda s, c, r: _open_pr(s) and bool(_pr(s).get(field)),
        "closes": settled,
        "items": lambda s: sorted(str(id) for id in _pr(s).get(field) or ()),
        "once_per": "ever",
    }


def _unanswered(key: str) -> Callable[[Session], bool]:
    """After a delivery it is the agent's turn until it pushes; then it is the reviewer's."""

    def turn(session: Session) -> bool:
        told_at = session["conditions"].get(key, {}).get("delivered_head")
        return told_at is not None and told_at == _pr(session).get("head_sha")

    return turn


def _stuck(session: Session, clock: Clock, rules: Rules) -> bool:
    threshold = rules.threshold("agent-stuck", "10m")
    still = _for(session, clock, "idle", "blocked")
    turn = clock.elapsed(session.get("turn_since")) if session.get("turn_since") else -1.0
    return _is_worker(session) and bool(min(still, turn) >= threshold)


def _troubled_messages(session: Session) -> list[str]:
    """Those a person should know of: late ones, and lost ones that no condition answers for."""
    found = []
    for message in session.get("inbox") or ():
        is_lost = message["state"] in ("unconfirmed", "failed") and message.get("from") not in KEYS
        is_late = message.get("is_late") and message["state"] in ("queued", "sending", "delivered")
        if is_lost or is_late:
            found.append(f"{message['id']} {'lost' if is_lost else 'late'}")
    return found


def _is_worker(session: Session) -> bool:
    return bool(session.get("role", "worker") == "worker")


def _idles(session: Session, clock: Clock, rules: Rules) -> bool:
    waits = _for(session, clock, "idle") >= rules.threshold("agent-idle", "5m")
    no_pr = _pr_is_known(session) and not session.get("pr")
    return _is_worker(session) and _runs(session) and no_pr and waits and not session.get("hold")


def _moved_on(session: Session, clock: Clock, rules: Rules) -> bool:
    seen = session["conditions"]["agent-idle"].get("head")
    return bool(session.get("pr")) or bool(session.get("hold")) or session.get("head_sha") != seen


RULES = (
    Rule(
        "ci-failed",
        "a check of the current head is red and none pending (or 2 min after the first red)",
        "CI passes on the current head, or the pull request ends",
        "a new (head SHA, set of failed checks)",
        opens=_ci_is_red,
        closes=_ci_is_green,
        items=_red_items,
        is_agents_turn=lambda s: _pr(s).get("ci_status") == "failing",
        once_per="ever",
    ),
    Rule(
        "changes-requested",
        "unresolved comments or a request for changes by people",
        "none left, or the pull request ends",
        "ids that were not told yet",
        is_agents_turn=_unanswered("changes-requested"),
        **_threads("threads"),
    ),
    Rule(
        "bugbot-comments",
        "unresolved comments by bots",
        "none left, or the pull request ends",
        "ids that were not told yet",
        is_agents_turn=_unanswered("bugbot-comments"),
        **_threads("bot_threads"),
    ),
    Rule(
        "merge-conflicts",
        "the forge says that it conflicts",
        "known to be clean, or the pull request ends",
        "a new head SHA",
        opens=lambda s, c, r: _open_pr(s) and _pr(s).get("mergeable") is False,
        closes=lambda s, c, r: _pr_ended(s) or (_open_pr(s) and _pr(s).get("mergeable") is True),
        items=lambda s: [str(_pr(s).get("head_sha"))],
        is_agents_turn=lambda s: _pr(s).get("mergeable") is False,
    ),
    Rule(
        "approved-and-green",
        "the pull request is ready",
        "no longer ready, or the pull request ends",
        "a new head SHA",
        opens=lambda s, c, r: _open_pr(s) and _pr(s).get("blockers") == [],
        closes=lambda s, c, r: _pr_ended(s) or (_pr_is_known(s) and bool(_pr(s).get("blockers"))),
        items=lambda s: [str(_pr(s).get("head_sha"))],
        is_agents_turn=lambda s: False,
    ),
    Rule(
        "pr-closed",
        "the pull request was closed without being merged",
        "reopened, or an outcome",
        "the pull request's number",
        opens=lambda s, c, r: _pr_is_known(s) and _pr(s).get("state") == "closed",
        closes=lambda s, c, r: _pr_is_known(s) and _pr(s).get("state") != "closed",
        items=lambda s: [str(_pr(s).get("number"))],
        is_agents_turn=lambda s: False,
    ),
    Rule(
        "agent-idle",
        "a worker without pull request whose turn is over is idle past its threshold (5m)",
        "a new commit, a pull request, or done",
        "each threshold",
        opens=_idles,
        closes=_moved_on,
        items=lambda s: [f"nudge {s['conditions'].get('agent-idle', {}).get('attempts', 0) + 1}"],
        is_agents_turn=lambda s: True,
    ),
    Rule(
        "agent-stuck",
        "it is a worker's turn and it is idle or blocked past its threshold (10m)",
        "60 s of activity, or its turn ends",
        "once",
        opens=_stuck,
        closes=lambda s, c, r: not s.get("turn_since") or _for(s, c, "active") >= CALM,
        items=lambda s: ["stuck"],
        is_agents_turn=lambda s: False,
    ),
    Rule(
        "agent-needs-input",
        "the agent waits for an answer",
        "60 s without waiting",
        "the question's text",
        opens=lambda s, c, r: s.get("activity") == "waiting_input",
        closes=lambda s, c, r: _calm(s, c, "waiting_input"),
        items=lambda s: [digest(str(s.get("question") or ""))] if s.get("activity") == "waiting_input" else [],
        is_agents_turn=lambda s: False,
    ),
    Rule(
        "agent-exited",
        "the agent exited or its terminal is gone, without an outcome",
        "it runs again, or an outcome",
        "the exit",
        opens=lambda s, c, r: status.has_ended(s) and not s.get("doing"),
        closes=lambda s, c, r: s.get("runtime_state") in ("alive", "starting"),
        items=lambda s: [f"{s.get('exit_code')} {s.get('ended_at')}"],
        is_agents_turn=lambda s: False,
    ),
    Rule(
        "message-waiting",
        "a message was not delivered for 10 minutes, or it cannot be known whether it was",
        "none left",
        "the message's id",
        opens=lambda s, c, r: bool(_troubled_messages(s)),
        closes=lambda s, c, r: not _troubled_messages(s),
        items=lambda s: _troubled_messages(s),
        is_agents_turn=lambda s: False,
    ),
)
KEYS = {rule.key: rule for rule in RULES}
_REPAIRS = ("ci-failed", "changes-requested", "bugbot-comments", "merge-conflicts")


def evaluate(session: Session, rules: Rules, clock: Clock) -> None:
    """Bring everything that follows from the facts up to date: results, turns, blockers, open conditions."""
    session.setdefault("conditions", {})
    if session.get("activity") == "ready" and clock.elapsed(session.get("activity_since")) >= IDLE_AFTER:
        session["activity"] = "idle"
    _settle_messages(session, clock)
    if session.get("pr"):
        session["pr"]["blockers"] = ready.blockers(session, rules.merge, clock)
    _set_since(session, "turn_since", is_agents_turn(session), clock)
    for rule in RULES:
        _open_or_close(session, rule, rules, clock)
    for key, condition in session["conditions"].items():
        _count_turn(session, KEYS[key], condition, clock)


def is_agents_turn(session: Session) -> bool:
    """Whether the next move is the agent's: not ours, CI's, a reviewer's or a person's."""
    parked = session.get("hold") or session.get("activity") == "waiting_input" or _is_over(session)
    if parked or not _runs(session) or not _pr_is_known(session):
        return False
    if not status.has_open_pr(session):
        return True
    told = [key for key in _REPAIRS if key in session["conditions"] and not due_items(session, KEYS[key])]
    return bool(_pr(session).get("is_draft")) or any(KEYS[key].is_agents_turn(session) for key in told)


def due_items(session: Session, rule: Rule) -> list[str]:
    """What of an open condition was not told yet."""
    condition = session["conditions"][rule.key]
    told = (session.get("told") or {}).get(rule.key) or ()
    return [item for item in rule.items(session) if _told_as(rule, condition, item) not in told]


def _told_as(rule: Rule, condition: Mapping[str, Any], item: str) -> str:
    return item if rule.once_per == "ever" else f"{condition['since']} {item}"


def _open_or_close(session: Session, rule: Rule, rules: Rules, clock: Clock) -> None:
    conditions = session["conditions"]
    condition = conditions.get(rule.key)
    if condition is None:
        if not _is_over(session) and rule.opens(session, clock, rules):
            conditions[rule.key] = {
                "since": clock.iso,
                "attempts": 0,
                "fingerprint": None,
                "intent": None,
                "result": None,
                "escalated_at": None,
                "waiting_for": None,
            }
            if rule.key == "agent-idle":
                conditions[rule.key]["head"] = session.get("head_sha")
        return
    in_flight = condition.get("intent") and not condition.get("result")
    if not in_flight and (_is_over(session) or rule.closes(session, clock, rules)):
        del conditions[rule.key]
    elif condition.get("fingerprint") != (current := digest(*rule.items(session))):
        condition["fingerprint"] = current


def _settle_messages(session: Session, clock: Clock) -> None:
    """Turn what became of a condition's message into the condition's result."""
    inbox = {message["id"]: message for message in session.get("inbox") or ()}
    for condition in session["conditions"].values():
        intent = condition.get("intent")
        if not intent or condition.get("result") or intent["action"] != "send-to-agent":
            continue
        message = inbox.get(intent["id"])
        state = message["state"] if message else "failed"
        if state == "confirmed":
            record_result(session, condition, clock)
        elif state in ("unconfirmed", "failed"):
            record_result(session, condition, clock, error=f"its message {intent['id']} is {state}")


def record_result(session: Session, condition: dict[str, Any], clock: Clock, error: str = "") -> None:
    """Note how the intent of a condition ended; only a success counts as an attempt and as told."""
    intent = condition["intent"]
    condition["result"] = {
        "fingerprint": intent["fingerprint"],
        "ok": not error,
        "error": error or None,
        "at": clock.iso,
    }
    if error:
        condition["failures"] = condition.get("failures", 0) + 1
        condition["last_error"] = error
        if error.endswith(CANNOT_BE_KNOWN):
            _note_told(session, condition)  # it may have arrived: a person is told, and it is never sent again
        return
    condition["failures"] = 0
    if intent["action"] == "escalate":
        condition["escalated_at"] = clock.iso
        return
    condition["attempts"] += 1
    condition.setdefault("first_at", clock.iso)
    condition["delivered_head"] = intent.get("head_sha")
    _note_told(session, condition)


def _note_told(session: Session, condition: dict[str, Any]) -> None:
    key = next(key for key, open_one in session["conditions"].items() if open_one is condition)
    told = session.setdefault("told", {}).setdefault(key, [])
    told += [_told_as(KEYS[key], condition, item) for item in condition["intent"].get("items") or ()]
    del told[:-TOLD_KEPT]


def _count_turn(session: Session, rule: Rule, condition: dict[str, Any], clock: Clock) -> None:
    """Keep the agent's own time since the first delivery: `turn_spent` seconds plus the time since `turn_since`."""
    counts = bool(condition.get("attempts")) and _runs(session) and rule.is_agents_turn(session)
    since = condition.get("turn_since")
    if since and not counts:
        condition["turn_spent"] = round(condition.get("turn_spent", 0.0) + clock.elapsed(since), 3)
    _set_since(condition, "turn_since", counts, clock)


def _set_since(mapping: dict[str, Any], field: str, holds: bool, clock: Clock) -> None:
    if not holds:
        if mapping.get(field):
            mapping[field] = None
    elif not mapping.get(field):
        mapping[field] = clock.iso
