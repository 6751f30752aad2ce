"""What is due: deliveries, retries, back-off, escalation, nudges, and the reason when nothing is."""

from __future__ import annotations

import copy

import pytest
from records import GREEN, RED, RUNNING, ago, at, deliver, evaluate, pull, ready_pull, session

from lib import conditions, due
from lib.clock import iso

SEND = {"auto": True, "action": "send-to-agent", "retries": 3, "escalate_after": None, "threshold": None}
NOTIFY = {**SEND, "action": "notify"}
MERGE = {**SEND, "action": "auto-merge"}
RESTORE = {**SEND, "action": "restore"}


def opened(key, **fields):
    """A record with this condition open."""
    record = session(**copy.deepcopy(fields))
    assert key in evaluate(record)
    return record


def step(record, key, reaction=SEND, seconds=0.0, **overrides):
    return due.next_step(record, key, {**reaction, **overrides}, at(seconds))


def push(record, number, seconds=0.0, checks=RED, **fields):
    """The agent pushed; the checks of the new head are in."""
    record["pr"] = pull(checks, head_sha=f"{number:<040d}", **fields)
    evaluate(record, seconds)


def red():
    return opened("ci-failed", pr=pull(RED))


# --- one step at a time ---------------------------------------------------------------------------------------------


def test_what_was_not_told_is_sent_and_what_was_told_waits_for_the_agent():
    """F20"""
    record = red()
    assert step(record, "ci-failed").action == "send-to-agent"
    deliver(record, "ci-failed")
    evaluate(record, 10)
    assert step(record, "ci-failed", seconds=10) == due.Wait("the agent, which was told")


@pytest.mark.parametrize(
    ("change", "reaction", "reason"),
    [
        ({}, {}, "a person: no reaction is configured for it"),
        ({"config_error": "no such file"}, SEND, "its configuration: no such file"),
        ({"runtime_state": "exited"}, SEND, "the agent, which does not run; see: ao-restore"),
        ({"runtime_state": "starting"}, SEND, "the agent, which does not run; see: ao-restore"),
        ({"hold": {"reason": "budget"}}, SEND, "the end of its hold (budget)"),
        ({"pr": pull(RUNNING)}, SEND, "CI on the current head"),
    ],
)
def test_nothing_is_done_for_a_named_reason(change, reaction, reason):
    """F28"""
    record = red()
    record.update(change)
    assert due.next_step(record, "ci-failed", reaction, at(0)) == due.Wait(reason)


def test_what_was_missed_is_still_due():
    """F22: a reaction that is configured later, a crash before the intent or a failed send miss nothing."""
    record = red()
    assert isinstance(due.next_step(record, "ci-failed", {}, at(0)), due.Wait)
    evaluate(record, 5000)
    assert step(record, "ci-failed", seconds=5000).action == "send-to-agent"


def test_an_effect_under_way_is_waited_for():
    record = red()
    record["conditions"]["ci-failed"]["intent"] = {"id": "m-9", "action": "send-to-agent"}
    assert step(record, "ci-failed") == due.Wait("send-to-agent m-9, which is under way")


@pytest.mark.parametrize("action", ["send-to-agent", "auto-merge", "restore"])
def test_what_must_not_happen_by_itself_is_told_to_a_person(action):
    assert step(red(), "ci-failed", auto=False, action=action).action == "notify"


def test_a_person_is_told_of_a_closed_condition_of_a_parked_or_ended_session_all_the_same():
    record = red()
    record.update(hold={"reason": "person"}, runtime_state="exited")
    assert step(record, "ci-failed", NOTIFY).action == "notify"


def test_reviewers_have_the_next_move_after_a_push():
    record = opened("changes-requested", pr=pull(threads=["t1"]))
    deliver(record, "changes-requested")
    push(record, 2, checks=(), threads=["t1"])
    assert step(record, "changes-requested") == due.Wait("a reviewer")


# --- retries --------------------------------------------------------------------------------------------------------


def test_after_its_retries_the_next_failure_goes_to_a_person_once_with_its_content():
    """F20, F24"""
    record = red()
    for number in range(1, 4):
        assert step(record, "ci-failed").action == "send-to-agent"
        deliver(record, "ci-failed")
        push(record, number)
    found = step(record, "ci-failed")
    assert found.action == "escalate"
    assert found.items == tuple(conditions.due_items(record, "ci-failed")) != ()
    assert found.why == "3 send-to-agent attempts did not settle it"
    deliver(record, "ci-failed", "escalate", seconds=50)
    for seconds in (60, 6000):
        assert step(record, "ci-failed", seconds=seconds) == due.Wait(f"a person, told at {at(50).iso}")
    push(record, 9)
    assert step(record, "ci-failed", seconds=60) == due.Wait(f"a person, told at {at(50).iso}")


def test_a_person_is_told_of_each_new_failure_where_nothing_but_that_is_configured():
    """Retries are for what is tried; news has no end."""
    record = red()
    for number in range(1, 6):
        assert step(record, "ci-failed", NOTIFY).action == "notify"
        deliver(record, "ci-failed", "notify")
        push(record, number)


def test_a_new_episode_has_new_retries():
    record = red()
    record["conditions"]["ci-failed"]["attempts"] = 3
    push(record, 1)
    assert step(record, "ci-failed").action == "escalate"
    push(record, 2, checks=GREEN)
    push(record, 3)
    assert step(record, "ci-failed").action == "send-to-agent"


def test_without_retries_there_is_no_end_of_deliveries():
    record = opened("changes-requested", pr=pull(threads=["t0"]))
    for number in range(1, 20):
        assert step(record, "changes-requested", retries=None).action == "send-to-agent"
        deliver(record, "changes-requested")
        record["pr"]["threads"] = [f"t{number}"]
        evaluate(record)


def test_what_comes_back_unchanged_goes_to_a_person_and_not_to_the_agent_again():
    """F30: a check that flickers wakes nobody twice, and is not passed over in silence either."""
    record = red()
    deliver(record, "ci-failed")
    record["pr"] = pull(GREEN)
    evaluate(record)
    record["pr"] = pull(RED)
    evaluate(record, 10)
    assert step(record, "ci-failed").why == "it is back, and the agent was told of it before"
    deliver(record, "ci-failed", "escalate", seconds=20, error="nobody could be told")
    assert step(record, "ci-failed", seconds=100).action == "escalate"
    deliver(record, "ci-failed", "escalate", seconds=100)
    assert step(record, "ci-failed", seconds=110) == due.Wait(f"a person, told at {at(100).iso}")


# --- escalate_after -------------------------------------------------------------------------------------------------


def test_a_count_escalates_when_the_head_after_that_delivery_is_red_again_and_deliveries_go_on():
    """F24"""
    record = red()
    for number in (1, 2):
        deliver(record, "ci-failed")
        evaluate(record)
        assert isinstance(step(record, "ci-failed", escalate_after=2), due.Wait)
        if number == 1:
            push(record, 1)
    record["pr"]["ci_checks"].append({"name": "lint", "status": "failed"})
    evaluate(record)
    assert step(record, "ci-failed", escalate_after=2).action == "send-to-agent", "more of the same head is no new push"
    push(record, 2)
    found = step(record, "ci-failed", escalate_after=2)
    assert (found.action, found.why) == ("escalate", "it is red again after 2 deliveries")
    assert found.items
    deliver(record, "ci-failed", "escalate")
    assert step(record, "ci-failed", escalate_after=2).action == "send-to-agent"


def test_a_duration_escalates_after_that_much_of_the_agents_own_turn_and_only_once():
    """F24: by time alone, on every run; what is new is delivered all the same."""
    record = red()
    reaction = {**SEND, "escalate_after": "30m", "retries": None}
    assert step(record, "ci-failed", reaction, 100_000).action == "send-to-agent", "nothing was delivered yet"
    deliver(record, "ci-failed")
    evaluate(record)
    assert step(record, "ci-failed", reaction, 1799) == due.Wait("the agent, which was told")
    found = step(record, "ci-failed", reaction, 1800)
    assert (found.action, found.items) == ("escalate", ())
    assert found.why == "the agent was told 30m ago and has not settled it"
    deliver(record, "ci-failed", "escalate", seconds=1800)
    assert isinstance(step(record, "ci-failed", reaction, 9000), due.Wait)
    push(record, 2, 9000)
    assert step(record, "ci-failed", reaction, 9000).action == "send-to-agent"


def test_time_in_which_ci_runs_does_not_count():
    record = red()
    deliver(record, "ci-failed")
    evaluate(record)
    push(record, 2, 1000, RUNNING)
    assert isinstance(step(record, "ci-failed", seconds=9000, escalate_after="30m"), due.Wait)
    push(record, 2, 9000)
    deliver(record, "ci-failed", seconds=9000)
    evaluate(record, 9000)
    assert isinstance(step(record, "ci-failed", seconds=9799, escalate_after="30m"), due.Wait)
    assert step(record, "ci-failed", seconds=9800, escalate_after="30m").action == "escalate"


# --- failures -------------------------------------------------------------------------------------------------------


def test_a_delivery_that_failed_is_due_again_with_back_off_and_is_no_attempt():
    record, waits = red(), []
    for failures in range(1, 9):
        deliver(record, "ci-failed", error="no terminal")
        found = step(record, "ci-failed")
        assert found == due.Wait(f"another try at {found.why[15:39]}: no terminal")
        waits.append(next(s for s in range(0, 601, 5) if isinstance(step(record, "ci-failed", seconds=s), due.Step)))
        assert record["conditions"]["ci-failed"]["failures"] == failures
    assert waits == [15, 30, 60, 120, 240, 480, 600, 600]
    assert record["conditions"]["ci-failed"]["attempts"] == 0


def test_an_agent_that_cannot_be_told_is_a_matter_for_a_person_and_is_told_as_soon_as_it_can():
    """F9"""
    record = red()
    for seconds in (0, 100, 200):
        assert step(record, "ci-failed", seconds=seconds).action == "send-to-agent"
        deliver(record, "ci-failed", seconds=seconds, error="no terminal")
    found = step(record, "ci-failed", seconds=1000)
    assert (found.action, found.why) == ("escalate", "the agent could not be told: no terminal")
    deliver(record, "ci-failed", "escalate", seconds=1000)
    assert step(record, "ci-failed", seconds=1010).action == "send-to-agent"


def test_a_message_that_may_have_arrived_is_told_to_a_person_and_never_sent_again():
    record = red()
    deliver(record, "ci-failed", error="its message m-1 is unconfirmed", is_known=False)
    found = step(record, "ci-failed")
    assert found.why == "its message m-1 is unconfirmed: whether the agent has it cannot be known"
    deliver(record, "ci-failed", "escalate", seconds=10, error="nobody could be told")
    assert step(record, "ci-failed", seconds=99).why == found.why
    deliver(record, "ci-failed", "escalate", seconds=99)
    assert step(record, "ci-failed", seconds=9999) == due.Wait(f"a person, told at {at(99).iso}")


def test_an_agent_that_stays_away_is_not_waited_for_in_silence():
    """F18"""
    record = red()
    record.update(runtime_state="exited", ended_at=ago(0), exit_code=0)
    assert isinstance(step(record, "ci-failed", seconds=599), due.Wait)
    found = step(record, "ci-failed", seconds=600)
    assert (found.action, found.why) == ("escalate", "the agent has ended and cannot be told")
    assert found.items
    record["is_lost"] = True
    assert isinstance(step(record, "ci-failed", seconds=9999), due.Wait), "of those a person hears together"


def test_a_notification_that_reached_nobody_is_due_again():
    """F29"""
    record = opened("pr-closed", pr=pull(state="closed"))
    deliver(record, "pr-closed", "notify", error="ntfy: time-out")
    assert isinstance(step(record, "pr-closed", NOTIFY), due.Wait)
    assert step(record, "pr-closed", NOTIFY, 15).action == "notify"
    deliver(record, "pr-closed", "notify")
    assert step(record, "pr-closed", NOTIFY, 9999) == due.Wait("a person, who was told")


# --- merges and restores --------------------------------------------------------------------------------------------


def test_a_failed_merge_is_retried_with_back_off_and_then_told_once():
    """F34"""
    record = opened("approved-and-green", pr=ready_pull())
    for seconds in (0, 1000, 2000):
        assert step(record, "approved-and-green", MERGE, seconds).action == "auto-merge"
        deliver(record, "approved-and-green", "auto-merge", seconds=seconds, error="local changes")
        assert isinstance(step(record, "approved-and-green", MERGE, seconds), due.Wait)
    found = step(record, "approved-and-green", MERGE, 3000)
    assert (found.action, found.why) == ("escalate", "3 auto-merge attempts did not settle it: local changes")
    deliver(record, "approved-and-green", "escalate", seconds=3000)
    for seconds in (3001, 99_999):
        assert step(record, "approved-and-green", MERGE, seconds) == due.Wait(f"a person, told at {at(3000).iso}")


def test_ready_is_told_once_for_each_head_however_it_flickers():
    """F17"""
    record = opened("approved-and-green", pr=ready_pull())
    deliver(record, "approved-and-green", "notify")
    record["pr"] = ready_pull(mergeable=None)
    assert evaluate(record) == {}
    record["pr"] = ready_pull()
    evaluate(record)
    assert isinstance(step(record, "approved-and-green", NOTIFY), due.Wait)
    record["pr"] = ready_pull(head_sha="b" * 40)
    evaluate(record)
    assert step(record, "approved-and-green", NOTIFY).action == "notify"


def test_an_agent_that_ends_again_and_again_is_not_restored_for_ever():
    record = session()
    for crash in range(4):
        seconds = crash * 60.0
        record.update(runtime_state="exited", exit_code=1, ended_at=at(seconds).iso)
        evaluate(record, seconds)
        found = step(record, "agent-exited", RESTORE, seconds)
        if crash < 3:
            assert found.action == "restore"
            deliver(record, "agent-exited", "restore", seconds=seconds)
            record.update(runtime_state="alive")
            assert evaluate(record, seconds + 5) == {}
    assert (found.action, found.why) == ("escalate", "3 restore attempts did not settle it")
    record["ended_at"] = at(10_000).iso
    evaluate(record, 10_000)
    assert step(record, "agent-exited", RESTORE, 10_000).action == "restore", "the others are long ago"


# --- an idle agent --------------------------------------------------------------------------------------------------

NUDGE = {**SEND, "retries": 2, "escalate_after": "15m", "threshold": "5m"}


def test_an_idle_agent_is_nudged_at_each_threshold_and_the_third_time_a_person_is_told():
    record = opened("agent-idle", activity="idle", activity_since=ago(300))
    assert step(record, "agent-idle", NUDGE).action == "send-to-agent"
    deliver(record, "agent-idle")
    evaluate(record)
    assert step(record, "agent-idle", NUDGE, 299) == due.Wait("the agent, which was told")
    assert step(record, "agent-idle", NUDGE, 300).action == "send-to-agent"
    deliver(record, "agent-idle", seconds=300)
    evaluate(record, 300)
    assert step(record, "agent-idle", NUDGE, 301) == due.Wait("the agent, which was told"), "its second threshold"
    found = step(record, "agent-idle", NUDGE, 600)
    assert (found.action, found.why) == ("escalate", "2 send-to-agent attempts did not settle it")
    deliver(record, "agent-idle", "escalate", seconds=600)
    assert step(record, "agent-idle", NUDGE, 9000) == due.Wait(f"a person, told at {at(600).iso}")


def test_an_agent_that_works_between_two_nudges_is_left_alone():
    record = opened("agent-idle", activity="idle", activity_since=ago(300))
    deliver(record, "agent-idle")
    record.update(activity="active", activity_since=at(10).iso)
    evaluate(record, 700)
    assert isinstance(step(record, "agent-idle", NUDGE, 700), due.Wait)
    record.update(activity="idle", activity_since=at(700).iso)
    evaluate(record, 999)
    assert isinstance(step(record, "agent-idle", NUDGE, 999), due.Wait)
    assert step(record, "agent-idle", NUDGE, 1000).action == "send-to-agent"


def test_the_reasons_of_an_idle_session_do_not_change_with_the_time():
    """An idle fleet is not rewritten: the reason is stored, so it holds still."""
    record = red()
    deliver(record, "ci-failed", error="no terminal")
    assert len({step(record, "ci-failed", seconds=seconds / 10) for seconds in range(150)}) == 1
    assert step(record, "ci-failed").why == f"another try at {iso(at(15).now)}: no terminal"
