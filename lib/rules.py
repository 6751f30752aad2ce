"""The table of conditions: what of a session is the matter, when that opens a condition and when it closes it; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lib import status
from lib.budgets import SESSION, Budget
from lib.clock import Clock, duration

Session = dict[str, Any]
Reaction = Mapping[str, Any]

IDLE_AFTER = 60.0  # seconds at the prompt before `ready` is called `idle`
COMMENTS = ("changes-requested", "bugbot-comments")  # what is due for what reviewers wrote
CALM = 60.0  # seconds without the trouble before a condition of the agent closes, so that no flicker reopens it
RED_FOR_GOOD = 120.0  # seconds after the first red check before waiting for the others ends
TO_PERSON = ".person"  # behind the key under which it is kept what a person was told of
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


def told_of(session: Session, key: str) -> list[str]:
    return (session.get("told") or {}).get(key) or []


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
    return waits and status.can_work(now.session) and _is_worker(now.session) and not now.pr


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
    Rule(
        "cost-unknown",
        "there is a budget, and the session has used a model that has no price",
        "every model has a price, or there is no budget",
        "the models",
        "costs",
        opens=lambda now: bool(now.rules.budget.uncounted(now.session)),
        items=lambda session: list((session.get("cost") or {}).get("unpriced") or ()),
    ),
)
KEYS = {rule.key: rule for rule in RULES}
