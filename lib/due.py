"""What an open condition wants done next, or the named reason why nothing is done; pure.

Tells deliveries, retries, back-off and escalation apart: a delivery that failed is due again and is not an attempt; an
escalation happens once per episode and swallows nothing, for deliveries go on as long as `retries` allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lib.clock import Clock, duration, iso, parse
from lib.conditions import CANNOT_BE_KNOWN, KEYS, Rule, digest, due_items

Session = dict[str, Any]
Reaction = Mapping[str, Any]

FIRST_BACK_OFF, LONGEST_BACK_OFF = 15.0, 600.0  # seconds
MERGE_RETRIES = 3


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


def next_step(session: Session, key: str, reaction: Reaction, clock: Clock) -> Step | Wait:
    """What an open condition wants now, or the named reason why nothing is done."""
    rule, condition = KEYS[key], session["conditions"][key]
    intent = condition.get("intent")
    if intent and not condition.get("result"):
        return Wait(f"{intent['action']} {intent['id']}, which is under way")
    if not reaction:
        return Wait("a person: no reaction is configured for it")
    if not reaction.get("auto", True):
        reaction = {**reaction, "action": "notify"}
    if session.get("config_error"):
        return Wait(f"its configuration: {session['config_error']}")
    items = due_items(session, rule)
    reason = _escalation(session, rule, condition, reaction, items, clock)
    ready_at = _back_off_ends(condition)
    if (reason or items) and ready_at and clock.now < ready_at:
        return Wait(f"another try at {iso(ready_at)}: {condition.get('last_error')}")
    if reason:
        return Step("escalate", tuple(items), reason)
    return _ordinary_step(session, rule, condition, reaction, items, clock)


def _ordinary_step(
    session: Session, rule: Rule, condition: dict[str, Any], reaction: Reaction, items: list[str], clock: Clock
) -> Step | Wait:
    action = str(reaction.get("action", "notify"))
    if not items:
        return Wait(_waits_for(session, rule, condition))
    if condition.get("escalated_at") and _is_exhausted(condition, reaction, action):
        return Wait(f"a person, told at {condition['escalated_at']}")
    if action == "send-to-agent":
        if session.get("runtime_state") != "alive":
            return Wait("the agent, which does not run; see: ao-restore")
        if session.get("hold"):
            return Wait(f"the end of its hold ({session['hold'].get('reason')})")
        wait = _next_nudge(session, rule, condition, reaction, clock)
        if wait:
            return Wait(wait)
    return Step(action, tuple(items))


def _next_nudge(session: Session, rule: Rule, condition: Mapping[str, Any], reaction: Reaction, clock: Clock) -> str:
    """An idle agent is told again only after it has been idle for another threshold."""
    result = condition.get("result")
    if rule.key != "agent-idle" or not result or not result["ok"]:
        return ""
    threshold = duration(reaction.get("threshold") or "5m")
    quiet = min(clock.elapsed(result["at"]), _idle_for(session, clock))
    return "" if quiet >= threshold else "the agent, told to go on"


def _waits_for(session: Session, rule: Rule, condition: Mapping[str, Any]) -> str:
    if condition.get("escalated_at"):
        return f"a person, told at {condition['escalated_at']}"
    if rule.is_agents_turn(session):
        return "the agent, which was told"
    if rule.key in ("changes-requested", "bugbot-comments"):
        return "reviewer"
    if rule.key == "ci-failed":
        return "CI on the current head"
    return "a person, who was told" if (condition.get("result") or {}).get("ok") else "nothing that is due"


def _is_exhausted(condition: Mapping[str, Any], reaction: Reaction, action: str) -> bool:
    if action in ("auto-merge", "restore"):
        return bool(condition.get("failures", 0) >= _retries(reaction, MERGE_RETRIES))
    retries = reaction.get("retries")
    return action == "send-to-agent" and retries is not None and bool(condition["attempts"] >= retries)


def _retries(reaction: Reaction, default: int) -> int:
    retries = reaction.get("retries")
    return default if retries is None else int(retries)


def _escalation(
    session: Session, rule: Rule, condition: Mapping[str, Any], reaction: Reaction, items: list[str], clock: Clock
) -> str:
    """Why a person must be told now, "" when not; once per episode."""
    if condition.get("escalated_at"):
        return ""
    action, attempts, after = str(reaction.get("action")), condition["attempts"], reaction.get("escalate_after")
    result = condition.get("result") or {}
    if not result.get("ok", True) and str(result.get("error")).endswith(CANNOT_BE_KNOWN):
        return f"{result['error']}: whether the agent has it cannot be known"
    if items and _is_exhausted(condition, reaction, action):
        tries = condition.get("failures", 0) if action in ("auto-merge", "restore") else attempts
        last = f": {condition['last_error']}" if condition.get("last_error") else ""
        return f"{tries} {action} attempts did not settle it{last}"
    if isinstance(after, int) and items and attempts >= after:
        return f"it is red again after {attempts} deliveries"
    if isinstance(after, str) and attempts and _spent(condition, clock) >= duration(after):
        return f"the agent was told {after} ago and has not settled it"
    return ""


def _spent(condition: Mapping[str, Any], clock: Clock) -> float:
    since = condition.get("turn_since")
    return float(condition.get("turn_spent") or 0.0) + (clock.elapsed(since) if since else 0.0)


def _back_off_ends(condition: Mapping[str, Any]) -> float | None:
    result, failures = condition.get("result") or {}, int(condition.get("failures") or 0)
    at = parse(result.get("at"))
    if not failures or result.get("ok") or at is None:
        return None
    return at + min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2.0 ** (failures - 1))


def _idle_for(session: Session, clock: Clock) -> float:
    return clock.elapsed(session.get("activity_since")) if session.get("activity") == "idle" else 0.0
