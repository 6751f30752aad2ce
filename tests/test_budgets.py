"""Budgets: a warning, then a pause that only a person ends."""

from __future__ import annotations

import pytest
from records import BUDGET, at, session

from lib import facts, status
from lib.agent import Story
from lib.budgets import Budget
from lib.facts import Seen
from lib.rules import Rules

LIMITS = {"session_usd": 10.0, "day_usd": 20.0, "month_usd": 50.0, "warn_at": 0.8}
TODAY = "2027-01-15"


def costing(usd, **fields):
    return session(cost={"cost_usd": usd, "days": {}}, **fields)


@pytest.mark.parametrize(
    ("usd", "spent", "raised", "near", "exceeded"),
    [
        (None, {}, {}, "", ""),
        (7.99, {}, {}, "", ""),
        (8.0, {}, {}, "session_usd", ""),
        (10.0, {}, {}, "session_usd", "session_usd"),
        (1.0, {TODAY: 16.0}, {}, "day_usd", ""),
        (1.0, {TODAY: 20.0}, {}, "day_usd", "day_usd"),
        (1.0, {TODAY: 20.0}, {TODAY: 10.0}, "", ""),
        (1.0, {TODAY: 1.0, "2027-01-01": 39.0}, {}, "month_usd", ""),
        (1.0, {TODAY: 1.0, "2027-01-01": 49.0}, {}, "month_usd", "month_usd"),
        (1.0, {TODAY: 1.0, "2027-01-01": 49.0}, {"2027-01": 50.0}, "", ""),
        (1.0, {TODAY: 1.0, "2026-12-31": 99.0}, {}, "", ""),  # of last month
        (10.0, {TODAY: 20.0}, {}, "session_usd", "session_usd"),
    ],
)
def test_a_limit_is_near_and_then_used_up(usd, spent, raised, near, exceeded):
    budget = Budget(LIMITS, spent, raised, TODAY)
    assert budget.near(costing(usd)) == near
    assert budget.exceeded(costing(usd)) == exceeded


def test_a_person_raises_what_a_session_may_spend():
    assert BUDGET.exceeded(costing(12.0)) == "session_usd"
    assert BUDGET.exceeded(costing(12.0, budget_raised=5.0)) == ""


def test_without_limits_nothing_is_ever_used_up():
    assert Budget().exceeded(costing(1e9)) == Budget().near(costing(1e9)) == ""


def test_a_model_without_a_price_is_no_news_where_nothing_is_limited():
    unpriced = session(cost={"cost_usd": None, "unpriced": ["new-model"]})
    assert Budget({"session_usd": None, "warn_at": 0.8}).uncounted(unpriced) == []
    assert Budget({"month_usd": 5.0}).uncounted(unpriced) == ["new-model"]


def look(record, seconds, usd, **fields):
    """Fold a look at which the agent has spent that much of a model at 2 USD per million."""
    days = {TODAY: {"claude-sonnet-5": {"input_tokens": int(usd * 500_000)}}}
    seen = Seen(facts.basis(record), "alive", story=Story("active", 1.0, days=days, **fields))
    facts.fold(record, seen, Rules({}, {}, BUDGET), at(seconds))
    record["status"] = status.derive(record, at(seconds))
    return record


def test_at_its_limit_a_session_is_parked_until_a_person_raises_it():
    record = look(session(), 1, 8.5)
    assert "budget-warning" in record["conditions"] and record["hold"] is None
    look(record, 2, 10.5)
    assert record["hold"]["reason"] == "budget" and record["hold"]["limit"] == "session_usd"
    assert "budget-exceeded" in record["conditions"] and record["status"] == "needs_input"
    look(record, 90_000, 10.5)
    assert record["hold"]["reason"] == "budget" and "agent-stuck" not in record["conditions"]
    record["budget_raised"] = 5.0
    look(record, 90_001, 10.5)
    assert record["hold"] is None and "budget-exceeded" not in record["conditions"]
    assert [one["text"] for one in record["inbox"]] == [facts.GO_ON["budget"]]
    look(record, 90_002, 10.5)
    assert len(record["inbox"]) == 1


def test_a_usage_limit_parks_until_its_end_and_then_the_agent_is_told_once():
    """F16: never stuck, and nobody need do anything."""
    until = at(7200).now
    record = look(session(), 1, 0, until=until)
    assert record["hold"] == {"reason": "usage-limit", "until": at(7200).iso}
    look(record, 7199, 0, until=until)
    assert record["status"] == "idle" and "agent-stuck" not in record["conditions"] and record["inbox"] == []
    look(record, 7201, 0, until=until)
    assert record["hold"] is None
    assert [one["text"] for one in record["inbox"]] == [facts.GO_ON["usage-limit"]]
    look(record, 7202, 0, until=until)
    assert len(record["inbox"]) == 1


def test_a_usage_limit_that_only_the_screen_tells_of_parks_too():
    """F16"""
    notice = {"activity": "blocked", "question": "limit", "is_sure": True, "since": at(0).iso, "until": at(7200).iso}
    record = look(session(screen=notice), 1, 0)
    assert record["hold"] == {"reason": "usage-limit", "until": at(7200).iso}
    look(record, 7201, 0)
    assert record["hold"] is None and [one["text"] for one in record["inbox"]] == [facts.GO_ON["usage-limit"]]


def test_what_a_person_parked_stays_parked():
    record = look(session(hold={"reason": "person", "until": None}), 1, 50)
    assert record["hold"]["reason"] == "person"
