"""What an open condition wants done next, or the named reason why nothing is done; pure.

Tells deliveries, retries, back-off and escalation apart: a delivery that failed is due again and is not an attempt; an
escalation happens once per episode and swallows nothing, for deliveries go on as long as `retries` allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lib import status
from lib.clock import Clock, duration, iso, parse
from lib.conditions import due_items, is_with_agent
from lib.rules import KEYS, digest, head_of, told_of

Session = dict[str, Any]
Reaction = Mapping[str, Any]

FIRST_BACK_OFF, LONGEST_BACK_OFF = 15.0, 600.0  # seconds
FAILURES = 3  # deliveries that failed in a row before a person is told
ENDED_FOR = 600.0  # seconds in which an agent that has ended may be brought back, before a person is told in its place
CRASHES_WITHIN = 600.0  # seconds; agents that end again and again within them are not restored any more


class Step(NamedTuple):
    """Something to do now for an open condition."""

    action: str  # send-to-agent, notify, auto-merge, restore, escalate
    items: tuple[str, ...]
    why: str = ""

    @property
    def fingerprint(self) -> str:
        return digest(*self.items)


class Wait(NamedTuple):
    """Nothing to do now, and why."""

    why: str


class _Case(NamedTuple):
    session: Session
    key: str
    condition: Mapping[str, Any]
    reaction: Reaction
    action: str
    items: list[str]  # what is due now
    clock: Clock


def next_step(session: Session, key: str, reaction: Reaction, clock: Clock) -> Step | Wait:
    """What an open condition wants now, or the named reason why nothing is done."""
    condition = session["conditions"][key]
    intent, result = condition.get("intent"), condition.get("result")
    if intent and not result:
        return Wait(f"{intent['action']} {intent['id']}, which is under way")
    if not reaction:
        return Wait("a person: no reaction is configured for it")
    if session.get("config_error"):
        return Wait(f"its configuration: {session['config_error']}")
    action = str(reaction.get("action") or "notify") if reaction.get("auto", True) else "notify"
    case = _Case(session, key, condition, reaction, action, _due_now(session, key, reaction, action, clock), clock)
    reason = "" if condition.get("escalated_at") else _escalation(case)
    ready_at = _back_off_ends(condition)
    if (reason or case.items) and ready_at and clock.now < ready_at:
        return Wait(f"another try at {iso(ready_at)}: {result['error']}")
    if reason:
        return Step("escalate", tuple(case.items), reason)
    obstacle = _obstacle(case)
    return Wait(obstacle) if obstacle else Step(action, tuple(case.items))


def _due_now(session: Session, key: str, reaction: Reaction, action: str, clock: Clock) -> list[str]:
    """What was not told yet. An idle agent is told whenever it has been idle for another threshold."""
    if key == "agent-idle":
        result = session["conditions"][key].get("result") or {}
        idle = clock.elapsed(session.get("activity_since")) if session.get("activity") == "idle" else 0.0
        quiet = min(idle, clock.elapsed(result["at"])) if result.get("ok") else idle
        if quiet < duration(reaction.get("threshold") or "5m"):
            return []
    return due_items(session, key, action)


def _obstacle(case: _Case) -> str:
    """What keeps the ordinary action from being taken now, "" when nothing does."""
    session, told_at = case.session, case.condition.get("escalated_at")
    if told_at and (not case.items or _is_exhausted(case)):
        return f"a person, told at {told_at}"
    if not case.items:
        return _waits_for(session, case.key)
    if case.action == "send-to-agent" and session.get("runtime_state") != "alive":
        return "the agent, which does not run; see: ao-restore"
    if case.action == "send-to-agent" and session.get("hold"):
        return f"the end of its hold ({session['hold'].get('reason')})"
    return ""


def _waits_for(session: Session, key: str) -> str:
    """Who has the next move when everything about a condition was told."""
    if is_with_agent(session, key):
        return "the agent, which was told"
    others = {"ci-failed": "CI on the current head", "changes-requested": "a reviewer", "bugbot-comments": "a reviewer"}
    was_told = (session["conditions"][key].get("result") or {}).get("ok")
    return others.get(key) or ("a person, who was told" if was_told else "nothing that is due")


def _escalation(case: _Case) -> str:
    """Why a person must be told now, "" when not."""
    condition, items, attempts = case.condition, case.items, case.condition["attempts"]
    error, after, sends = (
        condition.get("last_error"),
        case.reaction.get("escalate_after"),
        case.action == "send-to-agent",
    )
    has_pushed = not head_of(case.session) or condition.get("delivered_head") != head_of(case.session)
    reasons = (
        (condition.get("is_unsure"), f"{error}: whether the agent has it cannot be known"),
        (
            items and _is_exhausted(case),
            f"{_tries(case)} {case.action} attempts did not settle it" + (f": {error}" if error else ""),
        ),
        (sends and items and condition.get("failures", 0) >= FAILURES, f"the agent could not be told: {error}"),
        (sends and items and _has_been_gone(case), "the agent has ended and cannot be told"),
        (sends and not attempts and _was_told_before(case), "it is back, and the agent was told of it before"),
        (
            isinstance(after, int) and items and attempts >= after and has_pushed,
            f"it is red again after {attempts} deliveries",
        ),
        (
            isinstance(after, str) and attempts and _turn_spent(case) >= duration(after),
            f"the agent was told {after} ago and has not settled it",
        ),
    )
    return next((why for holds, why in reasons if holds), "")


def _is_exhausted(case: _Case) -> bool:
    retries = case.reaction.get("retries")
    return case.action != "notify" and retries is not None and _tries(case) >= retries


def _tries(case: _Case) -> int:
    """How often the action has been tried: deliveries that arrived, merges that failed, restores in a short time."""
    failures = int(case.condition.get("failures") or 0)
    if case.action == "restore":
        exits = told_of(case.session, case.key)
        return failures + sum(case.clock.elapsed(item.split()[-1]) < CRASHES_WITHIN for item in exits)
    return failures if case.action == "auto-merge" else int(case.condition["attempts"])


def _has_been_gone(case: _Case) -> bool:
    session = case.session
    is_gone = status.has_ended(session) and not session.get("is_lost")
    return is_gone and case.clock.elapsed(session.get("ended_at")) >= ENDED_FOR


def _was_told_before(case: _Case) -> bool:
    """Whether everything about it was told in an earlier episode: it went away and has come back unchanged."""
    return bool(KEYS[case.key].items(case.session)) and not due_items(case.session, case.key)


def _turn_spent(case: _Case) -> float:
    """Seconds of the agent's own turn since the first delivery."""
    since = case.condition.get("turn_since")
    return float(case.condition.get("turn_spent") or 0.0) + (case.clock.elapsed(since) if since else 0.0)


def _back_off_ends(condition: Mapping[str, Any]) -> float | None:
    result, failures = condition.get("result") or {}, int(condition.get("failures") or 0)
    at = parse(result.get("at"))
    if result.get("ok") is not False or at is None:
        return None
    return at + min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2.0 ** min(failures - 1, 10))
