"""Open conditions: what needs a reaction, from its opening to its closing, by the table in lib/rules.py.

Nothing here reads or writes anything; `evaluate` edits the record that it is given. Conditions are levels and not
edges: a reaction that failed, crashed or came late is simply still due. Facts that are unknown neither open nor close
anything. What was delivered is remembered in `told`, which outlives the episode, so that nothing is said twice.
"""

from __future__ import annotations

from typing import Any

from lib import ready, status
from lib.clock import Clock
from lib.rules import AXES, IDLE_AFTER, KEYS, OUTCOMES, RULES, TO_PERSON, Now, Rule, Rules, digest, head_of, told_of

Session = dict[str, Any]

TOLD_KEPT = 300  # items per key that are not current any more


def evaluate(session: Session, rules: Rules, clock: Clock) -> None:
    """Bring everything that follows from the facts up to date: results, blockers, turns, open conditions."""
    session.setdefault("conditions", {})
    now = Now(session, rules, clock)
    if now.lasts("ready") >= IDLE_AFTER:
        session["activity"] = "idle"
    _settle_messages(now)
    if session.get("pr") and not session.get("pr_unknown_since"):
        session["pr"]["blockers"] = ready.blockers(session, rules.merge, clock)
    _count_turns(session, clock)
    for rule in RULES:
        if status.is_over(session) or not any(session.get(f"{axis}_unknown_since") for axis in AXES[rule.about]):
            _open_or_close(rule, now)


def is_agents_turn(session: Session) -> bool:
    """Whether the next move is the agent's: not ours, CI's, a reviewer's or a person's."""
    pr = session.get("pr")
    if not status.can_work(session) or not pr:
        return status.can_work(session)
    is_told = any(is_with_agent(session, key) for key in session["conditions"])
    return bool(pr["state"] == "open" and (pr.get("is_draft") or is_told))


def is_with_agent(session: Session, key: str) -> bool:
    """Whether the agent was told of all there is about an open condition, and has not pushed anything since."""
    told_at, rule = session["conditions"][key].get("delivered_head"), KEYS[key]
    if told_at is None or told_at != head_of(session) or not rule.items(session):
        return False
    return rule.about != "open pr" or not due_items(session, key)


def due_items(session: Session, key: str, action: str = "") -> list[str]:
    """What of an open condition was not acted upon yet; what a person was told of may still be acted upon."""
    told = [*told_of(session, key), *(told_of(session, key + TO_PERSON) if action == "notify" else ())]
    return [item for item in KEYS[key].items(session) if item not in told]


def forget_told(session: Session) -> None:
    """For an agent that begins anew: of what is no open condition now it has not been told when that comes back."""
    for rule in RULES:
        if rule.about == "open pr" and rule.key not in session["conditions"]:
            session["told"].pop(rule.key, None)


def record_result(session: Session, key: str, clock: Clock, error: str = "", is_known: bool = True) -> None:
    """Note how the intent of a condition ended; what has failed is no attempt.

    Where it cannot be known whether a message arrived it counts: a person hears of it, it is not sent again.
    """
    condition = session["conditions"][key]
    intent, ok = condition["intent"], not error if is_known else None
    is_late = bool(condition.get("result")) and condition["result"]["ok"] is None  # and was counted as unsure
    condition["result"] = {"fingerprint": intent["fingerprint"], "ok": ok, "error": error or None, "at": clock.iso}
    if intent["action"] == "escalate":
        condition["failures"] = condition.get("failures", 0) + (not ok)
        condition["escalated_at"] = clock.iso if ok else None
        return
    condition.update(failures=condition.get("failures", 0) + 1 if error else 0, last_error=error, is_unsure=ok is None)
    if ok is not False:
        _note_told(session, key, TO_PERSON * (intent["action"] == "notify"), intent.get("items") or ())
        condition["attempts"] += not is_late
    if ok and intent["action"] == "send-to-agent":
        condition["delivered_head"] = intent.get("head_sha") or ""


def _note_told(session: Session, key: str, to: str, items: Any) -> None:
    """Remember what was told; what is still the matter is never forgotten, of the rest the newest."""
    told = [*dict.fromkeys([*told_of(session, key + to), *items])]
    current = set(KEYS[key].items(session))
    past = [item for item in told if item not in current]
    session.setdefault("told", {})[key + to] = past[-TOLD_KEPT:] + [item for item in told if item in current]


def _open_or_close(rule: Rule, now: Now) -> None:
    session, conditions = now.session, now.session["conditions"]
    if rule.key in conditions and _closes(rule, now):
        del conditions[rule.key]
    elif rule.key not in conditions and not _is_over(rule, session) and _opens(rule, now):
        conditions[rule.key] = _opened(now)
    if rule.key in conditions:
        conditions[rule.key]["fingerprint"] = digest(*rule.items(session))


def _closes(rule: Rule, now: Now) -> bool:
    condition = now.session["conditions"][rule.key]
    closes = _would_close(rule, now)
    set_since(condition, "quiet_since", closes, now.clock)
    calm = 0.0 if _is_over(rule, now.session) or status.has_ended(now.session) else rule.calm
    in_flight = condition.get("intent") and not condition.get("result")
    return closes and not in_flight and now.clock.elapsed(condition["quiet_since"]) >= calm


def _would_close(rule: Rule, now: Now) -> bool:
    return _is_over(rule, now.session) or (rule.closes(now) if rule.closes else not _opens(rule, now))


def _is_over(rule: Rule, session: Session) -> bool:
    return status.is_over(session) or (rule.about == "open pr" and not status.has_open_pr(session))


def _opens(rule: Rule, now: Now) -> bool:
    return rule.opens(now) if rule.opens else bool(rule.items(now.session))


def _opened(now: Now) -> dict[str, Any]:
    return {
        "since": now.clock.iso,
        "head": now.session.get("head_sha"),
        "attempts": 0,
        "fingerprint": None,
        "intent": None,
        "result": None,
        "escalated_at": None,
        "waiting_for": None,
    }


def _settle_messages(now: Now) -> None:
    """Turn what became of a condition's message into the condition's result; it may be confirmed late."""
    messages = {message["id"]: message for message in now.session.get("inbox") or ()}
    for key, condition in now.session["conditions"].items():
        intent, result = condition.get("intent"), condition.get("result")
        if not intent or intent["action"] != "send-to-agent" or (result and result["ok"] is not None):
            continue
        message = messages.get(intent["id"]) or {"state": "failed", "attempts": 0}
        state = message["state"]
        if state == "queued" and not message["attempts"] and _is_past(KEYS[key], now):
            message.update(state="failed", waiting_for="it was withdrawn: what it says is out of date")
            condition.update(intent=None, result=None)  # nothing was tried
        elif state == "confirmed" or (state in OUTCOMES and not result):
            error = "" if state == "confirmed" else f"its message {intent['id']} is {state}"
            record_result(now.session, key, now.clock, error, is_known=OUTCOMES[state] is not None)


def _is_past(rule: Rule, now: Now) -> bool:
    """Whether nothing that an open condition is about to tell the agent is the matter any more."""
    items = set(rule.items(now.session)) & set(now.session["conditions"][rule.key]["intent"]["items"])
    return not items or _would_close(rule, now)


def _count_turns(session: Session, clock: Clock) -> None:
    """Keep since when it is the agent's turn, and for each condition the seconds of it since the first delivery.

    Both change only when the turn does: an idle fleet is not rewritten.
    """
    set_since(session, "turn_since", is_agents_turn(session), clock)
    for key, condition in session["conditions"].items():
        counts, since = status.can_work(session) and is_with_agent(session, key), condition.get("turn_since")
        if since and not counts:
            condition["turn_spent"] = round(condition.get("turn_spent", 0.0) + clock.elapsed(since), 3)
        set_since(condition, "turn_since", counts, clock)


def set_since(mapping: dict[str, Any], field: str, holds: bool, clock: Clock) -> None:
    """Keep in `field` since when something holds, None when it does not."""
    if bool(mapping.get(field)) != holds:
        mapping[field] = clock.iso if holds else None
