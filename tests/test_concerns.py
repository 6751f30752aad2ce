"""What concerns a whole project: told once, however the fleet around it changes."""

from __future__ import annotations

import os

import pytest
from records import START, ago, at, session

from lib import concerns, events, paths, store
from lib.clock import Clock
from lib.config import Project

REACTIONS = {
    key: {"priority": "info", "message": None, "include_summary": True} for key in ("all-complete", "cannot-look")
}
APP = Project("app", "/app", "/app/ao.yaml", {"reactions": REACTIONS})
ENDED = {"status": "merged", "runtime_state": "exited"}


def one(number, **fields):
    return session(id=f"app-{number}", created_at=ago(1000 - number), **fields)


def look(home, members, seconds=0.0, problems=()):
    concerns.evaluate(home, members, list(problems), {}, at(seconds))
    return sorted((store.read(paths.project(home, "app")) or {}).get("conditions") or {})


def tell(home, members, error=""):
    """Tell of what is due; the keys."""
    due = concerns.due(home, APP, at(0))
    for key, condition in due.items():
        told = concerns.news(APP, key, condition, members, at(0))
        concerns.intend(home, APP, key, told, at(0))
        concerns.result(home, APP, key, told["id"], error, at(0))
    return [*due]


def test_all_complete_opens_when_every_worker_has_ended_and_is_told_once(home):
    members = [one(1, **ENDED), one(2)]
    assert look(home, members) == []
    members[1].update(ENDED)
    assert look(home, members) == ["all-complete"]
    assert (tell(home, members), tell(home, members)) == (["all-complete"], [])
    assert look(home, members[:1]) == ["all-complete"]
    assert tell(home, members[:1]) == [], "one of them was archived"
    assert look(home, [*members, one(3)]) == []
    assert look(home, [*members, one(3, **ENDED)]) == ["all-complete"]
    assert tell(home, members) == ["all-complete"]


def test_a_batch_that_came_and_went_between_two_looks_is_told_too(home):
    members = [one(1, **ENDED)]
    look(home, members)
    tell(home, members)
    look(home, [*members, one(2, **ENDED)])
    assert tell(home, members) == ["all-complete"]


@pytest.mark.parametrize("fields", [{"role": "orchestrator"}, {"role": "orchestrator", **ENDED}])
def test_orchestrators_alone_complete_nothing(home, fields):
    assert look(home, [one(1, **fields)]) == []


def test_what_nobody_could_be_told_is_due_again(home):
    """F29"""
    members = [one(1, **ENDED)]
    look(home, members)
    assert tell(home, members, error="time-out") == ["all-complete"]
    assert [*concerns.due(home, APP, at(1))] == []
    assert [*concerns.due(home, APP, at(60))] == ["all-complete"]


@pytest.mark.parametrize("axis", ["runtime_unknown_since", "pr_unknown_since"])
def test_a_person_hears_when_nothing_can_be_learned_for_a_quarter_of_an_hour(home, axis):
    members = [one(1, **{axis: ago(0)})]
    assert look(home, members, 899) == []
    assert look(home, members, 900) == ["cannot-look"]
    due = concerns.due(home, APP, at(900))["cannot-look"]
    assert "app-1" in concerns.news(APP, "cannot-look", due, members, at(900))["message"]
    members[0][axis] = None
    assert look(home, members, 905) == []


def test_hours_in_which_nobody_looked_are_not_unknown(home):
    members = [one(1, pr_unknown_since=ago(0))]
    concerns.evaluate(home, members, [], {}, Clock(START + 9000, ((START + 5, START + 9000),)))
    assert store.read(paths.project(home, "app"))["conditions"] == {}


def test_each_problem_is_logged_once_and_again_when_it_comes_back(home):
    wrong = [
        {"session_id": id, "project_id": "app", "message": why}
        for id, why in [("app-1", "a"), (None, "b"), (None, "c")]
    ]
    for problems in (wrong, wrong, [], wrong[:1]):
        look(home, [one(1)], problems=problems)
    said = [(event["session_id"], event["message"]) for event in events.read(home)]
    assert said == [("app-1", "a"), (None, "b"), (None, "c"), ("app-1", "a")]


def test_an_idle_project_is_not_rewritten(home):
    members = [one(1, **ENDED), one(2)]
    look(home, members)
    before = os.stat(paths.project(home, "app"))
    look(home, members, 5000)
    assert os.stat(paths.project(home, "app")) == before
