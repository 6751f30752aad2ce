"""Session records for tests of the pure middle, and a clock that tests move by hand."""

from __future__ import annotations

from typing import Any

from lib import conditions, sessions
from lib.budgets import Budget
from lib.clock import Clock, iso
from lib.rules import Rules, digest

START = 1_800_000_000.0
MERGE = {"require_review": True, "require_checks": True, "settle": "30s"}
GREEN = [{"name": "test", "status": "passed"}]
BUDGET = Budget({"session_usd": 10.0, "day_usd": None, "month_usd": None, "warn_at": 0.8})
RED = [{"name": "test", "status": "failed"}]
RUNNING = [{"name": "test", "status": "running"}]


def at(seconds: float) -> Clock:
    """The clock so many seconds after START, somebody having looked all the time."""
    return Clock(START + seconds)


def ago(seconds: float) -> str:
    return iso(START - seconds)


def session(**fields: Any) -> dict[str, Any]:
    """A worker that runs and is at work since long ago."""
    record = sessions.blank("app-1", "app", at(-100_000))
    alive = {"runtime_state": "alive", "activity": "active", "activity_since": ago(90_000), "status": "working"}
    return {**record, **alive, **fields}


def pull(checks: Any = (), **fields: Any) -> dict[str, Any]:
    """An open pull request as a record keeps it."""
    states = [check["status"] for check in checks]
    red, open_ones = states.count("failed"), {"pending", "running"} & set(states)
    return {
        "number": 7,
        "url": "file:///7",
        "state": "open",
        "head_sha": "a" * 40,
        "head_seen_at": ago(90_000),
        "branch": "feat/x",
        "base_branch": "main",
        "is_draft": False,
        "from_fork": False,
        "ci_checks": [dict(check) for check in checks],
        "ci_status": "failing" if red else "pending" if open_ones else "passing" if "passed" in states else "none",
        "review_decision": "pending",
        "approved_by": [],
        "mergeable": True,
        "threads": [],
        "bot_threads": [],
        "blockers": ["nobody has approved it"],
        **fields,
    }


def ready_pull(**fields: Any) -> dict[str, Any]:
    return pull(GREEN, **{"review_decision": "approved", "approved_by": ["ann"], "blockers": [], **fields})


def evaluate(record: dict[str, Any], seconds: float = 0.0, **reactions: Any) -> dict[str, Any]:
    """The record's open conditions after an evaluation so many seconds after START."""
    conditions.evaluate(record, Rules(reactions, MERGE, BUDGET), at(seconds))
    found: dict[str, Any] = record["conditions"]
    return found


def intend(record: Any, key: str, action: str = "send-to-agent", seconds: float = 0.0) -> None:
    """Save the intent of a reaction to everything that is due, as a reaction does."""
    items = conditions.due_items(record, key)
    intent = {"id": "m-1", "fingerprint": digest(*items), "action": action, "at": at(seconds).iso}
    intent |= {"items": items, "head_sha": (record.get("pr") or {}).get("head_sha")}
    record["conditions"][key].update(intent=intent, result=None)


def deliver(record: Any, key: str, action: str = "send-to-agent", seconds: float = 0.0, **result: Any) -> None:
    """Intend, and note the result."""
    intend(record, key, action, seconds=seconds)
    conditions.record_result(record, key, at(seconds), **result)
