"""The ladder: which facts give which status, and how much a person is wanted."""

from __future__ import annotations

import itertools

import pytest
import records
from records import GREEN, RED, ago, at, pull, ready_pull, session

from lib import status

OPEN = pull()
MERGED = pull(state="merged")
CLOSED = pull(state="closed")
FAILED_MERGE = {"head_sha": OPEN["head_sha"], "error": "base checkout has local changes"}
STUCK = {"agent-stuck": {"since": ago(9)}}

CASES = {  # what is special about a session -> its status
    "nothing": ({}, "working"),
    "reserved": ({"runtime_state": "starting", "activity": None}, "spawning"),
    "before the first look at the screen": ({"activity": None}, "working"),
    "idle for five minutes": ({"activity": "idle", "activity_since": ago(300)}, "working"),
    "idle for longer": ({"activity": "idle", "activity_since": ago(301)}, "idle"),
    "at the prompt": ({"activity": "ready", "activity_since": ago(301)}, "working"),
    "idle with an open PR": ({"activity": "idle", "pr": OPEN}, "review_pending"),
    "parked by a person": ({"hold": {"reason": "person"}}, "idle"),
    "parked by a usage limit": ({"hold": {"reason": "usage-limit"}}, "idle"),
    "parked with an open PR": ({"hold": {"reason": "person"}, "pr": OPEN}, "review_pending"),
    "budget used up": ({"hold": {"reason": "budget"}, "pr": OPEN}, "needs_input"),
    "a question": ({"activity": "waiting_input", "conditions": STUCK, "pr": OPEN}, "needs_input"),
    "stuck with an open PR": ({"conditions": STUCK, "pr": pull(RED)}, "stuck"),
    "a merge failed": ({"pr": ready_pull(), "merge_failure": FAILED_MERGE}, "merge_failed"),
    "a merge of an older head failed": (
        {"pr": ready_pull(head_sha="b" * 40), "merge_failure": FAILED_MERGE},
        "mergeable",
    ),
    "a failed merge of a PR that was closed": (
        {"pr": CLOSED, "merge_failure": FAILED_MERGE, "runtime_state": "exited"},
        "terminated",
    ),
    "ready": ({"pr": ready_pull()}, "mergeable"),
    "red": ({"pr": pull(RED, review_decision="approved")}, "ci_failed"),
    "changes requested": ({"pr": pull(GREEN, review_decision="changes_requested")}, "changes_requested"),
    "approved and not ready": ({"pr": pull(review_decision="approved")}, "approved"),
    "a review is pending": ({"pr": pull(GREEN)}, "review_pending"),
    "an open PR": ({"pr": pull(GREEN, review_decision="none")}, "pr_open"),
    "a closed PR and an agent": ({"pr": CLOSED}, "working"),
    "exited": ({"runtime_state": "exited", "activity": "exited"}, "terminated"),
    "gone": ({"runtime_state": "gone", "activity": "exited"}, "terminated"),
    "exited with a closed PR": ({"runtime_state": "exited", "pr": CLOSED}, "terminated"),
    "exited with an open PR": ({"runtime_state": "exited", "pr": pull(RED)}, "ci_failed"),
    "exited, PR not known": ({"runtime_state": "exited", "pr_unknown_since": ago(5)}, "working"),
    "exited, closed PR not known now": (
        {"runtime_state": "exited", "pr": CLOSED, "pr_unknown_since": ago(5)},
        "terminated",
    ),
    "terminal not known": ({"runtime_unknown_since": ago(5)}, "working"),
    "killed": ({"outcome": "killed", "runtime_state": "exited", "pr": OPEN}, "killed"),
    "done": ({"outcome": "done"}, "done"),
    "errored": ({"outcome": "errored", "runtime_state": "gone"}, "errored"),
    "merged": ({"pr": MERGED}, "merged"),
    "merged, then killed": ({"pr": MERGED, "outcome": "killed", "runtime_state": "exited"}, "merged"),
    "merged, terminal gone": ({"pr": MERGED, "runtime_state": "gone"}, "merged"),
    "merged, being cleaned": ({"pr": MERGED, "doing": {"effect": "cleanup", "at": ago(1)}}, "cleanup"),
    "merged, being killed": ({"pr": MERGED, "doing": {"effect": "kill", "at": ago(1)}}, "merged"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_follows_from_the_facts(case):
    fields, expected = CASES[case]
    assert status.derive(session(**fields), at(0)) == expected


def test_every_status_has_a_case_and_there_are_18():
    assert {expected for _, expected in CASES.values()} == {rung.status for rung in status.LADDER}
    assert len(status.LADDER) == 18


def test_a_reason_can_be_read_where_it_stands_alone():
    """Each is a line of ao-status --why, with no other row above it."""
    assert not [rung.status for rung in status.LADDER if "above" in rung.when or " row" in rung.when]


def test_what_ends_a_session_and_what_can_be_restored():
    assert {"cleanup", "merged", "killed", "done", "errored", "terminated"} == status.TERMINAL
    assert {"killed", "done", "errored", "terminated"} == status.RESTORABLE


def test_every_combination_of_facts_has_one_status_and_the_ladder_its_order():
    """The rung that is chosen holds, and none above it does."""
    axes = {
        "runtime_state": ["starting", "alive", "exited"],
        "activity": [None, "active", "idle", "waiting_input", "exited"],
        "pr": [None, OPEN, ready_pull(), pull(RED), CLOSED, MERGED],
        "outcome": [None, "killed", "done"],
        "conditions": [{}, STUCK],
        "pr_unknown_since": [None, ago(1)],
    }
    for values in itertools.product(*axes.values()):
        record = session(**dict(zip(axes, values, strict=True)))
        holding = [rung.status for rung in status.LADDER if rung.holds(record, at(0))]
        assert status.derive(record, at(0)) == holding[0]
        is_over = record["outcome"] or record["pr"] is MERGED
        assert not is_over or holding[0] in status.TERMINAL


def test_merged_work_is_never_recorded_as_killed():
    """F19: neither a kill afterwards nor the end of the terminal is news."""
    for runtime, outcome in itertools.product(["alive", "exited", "gone"], [None, "killed", "errored"]):
        record = session(pr=MERGED, runtime_state=runtime, outcome=outcome)
        assert status.derive(record, at(0)) == "merged"


def test_time_alone_moves_an_idle_agent():
    record = session(activity="idle", activity_since=ago(0))
    assert [status.derive(record, at(seconds)) for seconds in (0, 299, 301)] == ["working", "working", "idle"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": "merged", "pr": MERGED}, "done"),
        ({"status": "terminated"}, "done"),
        ({"status": "mergeable", "pr": ready_pull()}, "merge"),
        ({"status": "merge_failed", "pr": pull()}, "merge"),
        ({"status": "approved", "pr": pull(GREEN)}, "merge"),
        ({"status": "approved", "pr": pull(GREEN, mergeable=None)}, "review"),
        ({"status": "needs_input"}, "respond"),
        ({"status": "stuck"}, "respond"),
        ({"status": "working", "activity": "blocked"}, "respond"),
        ({"status": "changes_requested", "pr": pull(review_decision="changes_requested")}, "respond"),
        ({"status": "ci_failed", "pr": pull(RED)}, "respond"),
        ({"status": "review_pending", "pr": pull()}, "review"),
        ({"status": "pr_open", "pr": pull(records.RUNNING, review_decision="none")}, "pending"),
        ({"status": "pr_open", "pr": pull(review_decision="none")}, "review"),
        ({"status": "working"}, "working"),
        ({"status": "idle", "pr": CLOSED}, "working"),
    ],
)
def test_how_much_a_person_is_wanted(fields, expected):
    assert status.attention(session(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"status": "merged", "pr": MERGED}, True),  # its agent still runs
        ({"status": "merged", "pr": MERGED, "runtime_state": "exited"}, False),
        ({"status": "killed", "outcome": "killed", "runtime_state": "exited"}, False),
        ({"status": "killed", "outcome": "killed", "runtime_state": "exited", "conditions": STUCK}, True),
        ({"status": "killed", "outcome": "killed", "runtime_state": "exited", "doing": {"effect": "prune"}}, True),
        ({"status": "terminated", "runtime_state": "gone"}, False),
        ({"status": "terminated", "runtime_state": "gone", "conditions": {"agent-exited": {}}}, False),
        ({"status": "terminated", "runtime_state": "gone", "inbox": [{"state": "queued"}]}, True),
        ({"status": "ci_failed", "runtime_state": "exited", "pr": pull(RED)}, True),
    ],
)
def test_who_is_looked_at(fields, expected):
    """F18: an agent that exited leaves an open pull request behind, which is still watched."""
    assert status.needs_looking(session(**fields)) is expected
