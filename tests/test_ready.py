"""When a pull request may be merged: every blocker, alone."""

from __future__ import annotations

import pytest
from records import GREEN, MERGE, ago, at, pull, ready_pull, session

from lib import ready


def blockers(pr, seconds=0.0, **merge):
    return ready.blockers(session(pr=pr), {**MERGE, **merge}, at(seconds))


def checks(*states):
    return {"ci_checks": [{"name": f"c{place}", "status": state} for place, state in enumerate(states)]}


def test_approved_green_clean_and_settled_is_ready():
    assert blockers(ready_pull()) == []
    assert blockers(ready_pull(**checks("passed", "skipped"))) == []


def test_a_fork_s_is_ready_for_who_has_taken_it_over():
    mine = session(pr=ready_pull(from_fork=True), claimed_pr_number=7)
    assert ready.blockers(mine, MERGE, at(0)) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": "closed"}, "it is closed"),
        ({"state": "merged"}, "it is merged"),
        ({"is_draft": True}, "it is a draft"),
        ({"from_fork": True}, "its branch is in another repository"),
        ({"review_decision": "changes_requested"}, "changes are requested"),
        ({"review_decision": "pending"}, "nobody has approved it"),
        ({"review_decision": "none", "approved_by": []}, "nobody has approved it"),
        ({"approved_by": []}, "nobody has approved it"),
        ({"approved_by": ["app-1"]}, "nobody has approved it"),
        (checks(), "there is no check: configure one (ci), or set merge.require_checks: false"),
        (checks("skipped"), "no check has completed"),
        (checks("passed", "failed"), "check 'c1': failed"),
        (checks("passed", "pending"), "check 'c1': pending"),
        (checks("passed", "running"), "check 'c1': running"),
        (checks("passed", "something new"), "check 'c1': something new"),
        ({"expected_checks": ["test", "lint"]}, "check 'lint': missing"),
        ({"mergeable": None}, "whether it can be merged is not known yet"),
        ({"mergeable": False}, "it conflicts with main"),
        ({"forge_blockers": ["base checkout has local changes"]}, "base checkout has local changes"),
        ({"head_seen_at": ago(29)}, "its newest commit is there for less than 30s (merge.settle)"),
        ({"head_seen_at": None}, "its newest commit is there for less than 30s (merge.settle)"),
    ],
)
def test_each_blocker_alone_keeps_it_from_being_merged(change, reason):
    """F31, F12: whatever is unknown blocks."""
    assert blockers(ready_pull(**change)) == [reason]


def test_a_new_pull_request_of_which_nothing_is_known_yet_is_not_ready():
    """F31: no checks yet, no review yet, mergeable unknown, just opened."""
    new = pull(review_decision="none", mergeable=None, head_seen_at=at(0).iso)
    assert len(blockers(new)) == 4


def test_two_results_of_one_name_both_count():
    both = [{"name": "test", "status": "failed"}, {"name": "test", "status": "passed"}]
    assert blockers(ready_pull(ci_checks=both)) == ["check 'test': failed"]


def test_the_project_may_do_without_reviews_or_checks():
    assert blockers(pull(GREEN), require_review=False) == []
    assert blockers(ready_pull(ci_checks=[]), require_checks=False) == []
    asked = ready_pull(review_decision="changes_requested")
    assert blockers(asked, require_review=False) == ["changes are requested"]


def test_another_approval_beside_the_sessions_own_counts():
    assert blockers(ready_pull(approved_by=["app-1", "ann"])) == []


def test_settling_takes_as_long_as_configured():
    assert blockers(ready_pull(head_seen_at=at(0).iso), 100, settle="2m") == [
        "its newest commit is there for less than 2m (merge.settle)"
    ]
    assert blockers(ready_pull(head_seen_at=at(0).iso), 120, settle="2m") == []
