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
from lib.budgets import SESSION, Budget
from lib.clock import Clock, duration

Session = dict[str, Any]
Reaction = Mapping[str, Any]

IDLE_AFTER = 60.0  # seconds at the prompt before `ready` is called `idle`
COMMENTS = ("changes-requested", "bugbot-comments")  # what is due for what reviewers wrote
CALM = 60.0  # seconds without the trouble before a condition of the agent closes, so that no flicker reopens it
RED_FOR_GOOD = 120.0  # seconds after the first red check before waiting for the others ends
TO_PERSON = ".person"  # behind the key under which it is kept what a person was told of
TOLD_KEPT = 300  # items per key that are not current any more
AXES = {  # what a condition is about -> the facts that must be known for it to open or close
    "open pr": ("pr",),  # it also closes when the pull request ends
    "pr": ("pr",),
    "agent": ("runtime",),
    "work": ("pr", "runtime"),
    "messages": (),
    "costs": (),
}
OUTCOMES = {"confirmed": True, "failed": False, "unconfirmed": None}  # state of a message -> whether the agent has it


class Rules(NamedTuple):
    """What one project configured, as far as it matters here."""

    reactions: Mapping[str, Reaction]
    merge: Mapping[str, Any]
    budget: Budget = Budget()

    def threshold(self, key: str, default: str) -> float:
        return duration(self.reactions.get(key, {}).get("threshold") or default)


class Now(NamedTuple):
    """A session at this moment, and what its project configured."""

    session: Session
    rules: Rules
    clock: Clock

    @property
    def pr(self) -> Mapping[str, Any]:
        return pr_of(self.session)

    def lasts(self, *activities: str) -> float:
        """Seconds for which the agent has been in one of these activities, -1 when it is in another."""
        is_in = self.session.get("activity") in activities
        return self.clock.elapsed(self.session.get("activity_since")) if is_in else -1.0


class Rule(NamedTuple):
    key: str
    opens_when: str
    closes_when: str
    due_for: str
    about: str  # a key of AXES
    items: Callable[[Session], list[str]]  # what is the matter, as ids: each is told once; [] when nothing is
    opens: Callable[[Now], bool] | None = None  # None: when something is the matter
    closes: Callable[[Now], bool] | None = None  # None: when it would not open
    calm: float = 0.0  # seconds for which that must have been so


def digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "replace")).hexdigest()[:12]


def pr_of(session: Session) -> Mapping[str, Any]:
    return session.get("pr") or {}


def head_of(session: Session) -> str:
    """The head of the pull request, "" without one."""
    return str(pr_of(session).get("head_sha") or "")


def _since(session: Session, key: str) -> str:
    return str((session["conditions"].get(key) or {}).get("since"))


def _ci_is_red(now: Now) -> bool:
    running = any(check["status"] in ("pending", "running") for check in now.pr.get("ci_checks") or ())
    is_red = now.pr.get("ci_status") == "failing"
    return is_red and (not running or now.clock.elapsed(now.pr.get("red_since")) >= RED_FOR_GOOD)


def _red_checks(session: Session) -> list[str]:
    red = sorted(one["name"] for one in pr_of(session).get("ci_checks") or () if one["status"] == "failed")
    return [f"{head_of(session)[:12]}:{digest(*red)}"] if red else []


def _items_of_pr(field: str) -> Callable[[Session], list[str]]:
    return lambda session: sorted(str(id) for id in pr_of(session).get(field) or ())


def _head_if(field: str, value: object) -> Callable[[Session], list[str]]:
    return lambda session: [head_of(session)] if pr_of(session).get(field) == value else []


def _is_worker(session: Session) -> bool:
    return bool(session.get("role", "worker") == "worker")


def _idles(now: Now) -> bool:
    waits = now.lasts("idle") >= now.rules.threshold("agent-idle", "5m")
    return waits and can_work(now.session) and _is_worker(now.session) and not now.pr


def _moved_on(now: Now) -> bool:
    return bool(now.pr) or now.session.get("head_sha") != now.session["conditions"]["agent-idle"].get("head")


def _is_stuck(now: Now) -> bool:
    since = now.session.get("turn_since")
    still = min(now.lasts("idle", "blocked"), now.clock.elapsed(since) if since else -1.0)
    return _is_worker(now.session) and still >= now.rules.threshold("agent-stuck", "10m")


def _open_question(session: Session) -> list[str]:
    question = digest(str(session.get("question") or ""))
    return [f"{_since(session, 'agent-needs-input')} {question}"] if session.get("activity") == "waiting_input" else []


def _troubled_messages(session: Session) -> list[str]:
    """Late ones, and lost ones that no person has heard of and no other condition answers for."""
    inbox = session.get("inbox") or ()
    told = told_of(session, "message-waiting") + told_of(session, "message-waiting" + TO_PERSON)
    late = [f"{one['id']} late" for one in inbox if one.get("is_late") and one["state"] not in OUTCOMES]
    is_lost = ("unconfirmed", "failed")
    lost = [f"{one['id']} lost" for one in inbox if one["state"] in is_lost and not _is_answered_for(session, one)]
    return late + [item for item in lost if item not in told]


def _is_answered_for(session: Session, message: Mapping[str, Any]) -> bool:
    """Whether the condition that sent a message sees to it that a person hears of it, which it does once an episode."""
    condition = session["conditions"].get(message.get("from")) or {}
    is_its_last = (condition.get("intent") or {}).get("id") == message["id"]
    return message.get("from") in KEYS and not (is_its_last and condition["escalated_at"])


RULES = (
    Rule(
        "ci-failed",
        "a check of the current head is red and none pending (or 2 min after the first red)",
        "CI passes on the current head, or the pull request ends",
        "a new (head SHA, set of failed checks)",
        "open pr",
        opens=_ci_is_red,
        closes=lambda now: now.pr.get("ci_status") == "passing",
        items=_red_checks,
    ),
    Rule(
        "changes-requested",
        "unresolved comments or a request for changes by people",
        "no comment is left open, or the pull request ends",
        "ids that were not told yet",
        "open pr",
        items=_items_of_pr("threads"),
    ),
    Rule(
        "bugbot-comments",
        "unresolved comments by bots",
        "no comment is left open, or the pull request ends",
        "ids that were not told yet",
        "open pr",
        items=_items_of_pr("bot_threads"),
    ),
    Rule(
        "merge-conflicts",
        "the forge says that it conflicts",
        "it is known to merge cleanly, or the pull request ends",
        "a new head SHA",
        "open pr",
        closes=lambda now: now.pr.get("mergeable") is True,
        items=_head_if("mergeable", False),
    ),
    Rule(
        "approved-and-green",
        "the pull request is ready",
        "it is no longer ready, or the pull request ends",
        "a new head SHA",
        "open pr",
        items=_head_if("blockers", []),
    ),
    Rule(
        "pr-closed",
        "the pull request was closed without being merged",
        "it is reopened, or an outcome is recorded",
        "the pull request's number",
        "pr",
        items=lambda s: [str(s["pr"]["number"])] if pr_of(s).get("state") == "closed" else [],
    ),
    Rule(
        "agent-idle",
        "a worker without pull request whose turn is over is idle past its threshold (5m)",
        "a new commit, a pull request, or done",
        "each threshold",
        "work",
        opens=_idles,
        closes=_moved_on,
        items=lambda s: [f"{_since(s, 'agent-idle')} {s['conditions']['agent-idle']['attempts'] + 1}"],
    ),
    Rule(
        "agent-stuck",
        "it is a worker's turn and it is idle or blocked past its threshold (10m)",
        "60 s of activity, or 60 s in which it is not its turn",
        "once",
        "work",
        opens=_is_stuck,
        closes=lambda now: now.session.get("activity") == "active" or not now.session.get("turn_since"),
        items=lambda session: [_since(session, "agent-stuck")],
        calm=CALM,
    ),
    Rule(
        "agent-needs-input",
        "the agent waits for an answer",
        "60 s without waiting",
        "the question's text",
        "agent",
        items=_open_question,
        calm=CALM,
    ),
    Rule(
        "agent-exited",
        "the agent exited or its terminal is gone, without an outcome",
        "it runs again, or an outcome is recorded",
        "the exit",
        "agent",
        opens=lambda now: status.has_ended(now.session) and not now.session.get("doing"),
        items=lambda s: [f"{s.get('exit_code')} {s.get('ended_at')}"] if status.has_ended(s) else [],
    ),
    Rule(
        "message-waiting",
        "a message was not delivered for 10 minutes, or it cannot be known whether it was",
        "it is delivered, or a person was told that it is lost",
        "the message's id",
        "messages",
        items=_troubled_messages,
    ),
    Rule(
        "budget-warning",
        "more than `budget.warn_at` of what the session may cost is used",
        "what it may cost is raised, or the session ends",
        "the cost that is allowed",
        "costs",
        opens=lambda now: now.rules.budget.near(now.session) == SESSION != now.rules.budget.exceeded(now.session),
        items=lambda session: [f"{SESSION} {session.get('budget_raised') or 0}"],
    ),
    Rule(
        "budget-exceeded",
        "the session has cost what it may cost, and is parked",
        "what it may cost is raised, or the session ends",
        "the cost that is allowed",
        "costs",
        opens=lambda now: now.rules.budget.exceeded(now.session) == SESSION,
        items=lambda session: [f"{SESSION} {session.get('budget_raised') or 0}"],
    ),
)
KEYS = {rule.key: rule for rule in RULES}


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


def can_work(session: Session) -> bool:
    """Whether an agent runs that is neither parked nor waiting for a person."""
    is_free = not session.get("hold") and session.get("activity") != "waiting_input"
    return is_free and session.get("runtime_state") == "alive" and not status.is_over(session)


def is_agents_turn(session: Session) -> bool:
    """Whether the next move is the agent's: not ours, CI's, a reviewer's or a person's."""
    pr = session.get("pr")
    if not can_work(session) or not pr:
        return can_work(session)
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


def told_of(session: Session, key: str) -> list[str]:
    return (session.get("told") or {}).get(key) or []


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
            message.update(state="failed", waiting_for="nothing of what it says is the matter any more")
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
        counts, since = can_work(session) and is_with_agent(session, key), condition.get("turn_since")
        if since and not counts:
            condition["turn_spent"] = round(condition.get("turn_spent", 0.0) + clock.elapsed(since), 3)
        set_since(condition, "turn_since", counts, clock)


def set_since(mapping: dict[str, Any], field: str, holds: bool, clock: Clock) -> None:
    """Keep in `field` since when something holds, None when it does not."""
    if bool(mapping.get(field)) != holds:
        mapping[field] = clock.iso if holds else None
