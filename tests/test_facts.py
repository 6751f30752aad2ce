"""What is seen becomes facts: two definite looks, nothing from what is unknown, and a person's word wins."""

from __future__ import annotations

import copy

import pytest
import records
from records import GREEN, MERGE, RED, RUNNING, ago, at, session

from lib import facts, status
from lib.agent import Reading
from lib.rules import Rules
from lib.scm import UNASKED

RULES = Rules({}, MERGE)
READY, ACTIVE, QUESTION = Reading("ready"), Reading("active"), Reading("waiting_input", "go on?")


def pull(*args, **fields):
    """A pull request as a forge shows it: what is in its way is ours to say."""
    return {field: value for field, value in records.pull(*args, **fields).items() if field != "blockers"}


def look(record, seconds=0.0, **seen):
    """Fold one look into a record."""
    found = facts.Seen(**{"basis": facts.basis(record), "runtime": "alive", "pull": None, **seen})
    facts.fold(record, found, RULES, at(seconds))
    record["status"] = status.derive(record, at(seconds))
    return record


def report(state, seconds, text="", kind="report"):
    return (at(seconds).now, kind, state, text)


# --- the terminal ---------------------------------------------------------------------------------------------------


def test_a_terminal_is_gone_after_two_definite_looks():
    """F10"""
    record = session()
    assert look(record, 0, runtime="gone")["runtime_state"] == "alive"
    assert look(record, 5, runtime="unknown")["runtime_state"] == "alive"
    record = look(record, 10, runtime="gone", is_alone=True)
    assert (record["runtime_state"], record["activity"], record["is_lost"]) == ("gone", "exited", True)


def test_one_look_that_finds_it_forgives_one_that_did_not():
    record = session()
    for seconds, runtime in enumerate(["gone", "alive", "gone", "alive", "gone"]):
        look(record, seconds, runtime=runtime)
    assert record["runtime_state"] == "alive"


def test_an_exit_that_the_launcher_left_is_definite_at_once():
    record = look(session(), runtime="gone", is_alone=True, ended={"code": 3, "at": ago(1)})
    assert (record["runtime_state"], record["exit_code"], record["ended_at"]) == ("exited", 3, ago(1))
    assert not record.get("is_lost")


def test_what_others_note_by_a_clock_that_was_set_back_has_the_time_at_which_it_was_noted():
    """Their hour is not ours any more: what has just happened would seem to have lasted for one."""
    set_back, wall = records.at(0)._replace(ahead=3600.0), at(-3600 - 2)
    asked = session(inbox=[{"id": "m-1", "state": "confirmed", "at": ago(900), "delivered_at": ago(600)}])
    seen = {"runtime": "alive", "pull": None, "reports_end": 1}
    found = facts.Seen(facts.basis(asked), reports=((wall.now, "report", "waiting_input", "go on?"),), **seen)
    facts.fold(asked, found, RULES, set_back)
    assert (asked["activity"], asked["activity_since"]) == ("waiting_input", ago(2)), "no message has answered it"
    ended = session()
    found = facts.Seen(facts.basis(ended), "gone", ended={"code": 0, "at": wall.iso})
    facts.fold(ended, found, RULES, set_back)
    assert ended["ended_at"] == ago(2)


def test_what_is_unknown_changes_nothing_but_since_when():
    """F10, F11"""
    record = look(session(), 0, pull=pull(RED), reading=ACTIVE)
    before = copy.deepcopy(record)
    look(record, 10, runtime="unknown", pull=False)
    assert (record["runtime_unknown_since"], record["pr_unknown_since"]) == (at(10).iso, at(10).iso)
    first = copy.deepcopy(record)
    look(record, 5000, runtime="unknown", pull=False)
    assert record == first, "nothing is written again"
    look(record, 5005, pull=pull(RED))
    for field in ("runtime_state", "status", "conditions", "pr", "turn_since"):
        assert record.get(field) == before.get(field), field
    assert not record["runtime_unknown_since"] and not record["pr_unknown_since"]


def test_the_same_look_twice_changes_nothing_more():
    for fields in (
        {"pull": pull(RED)},
        {"runtime": "gone", "ended": {"code": 0}},
        {"reading": QUESTION},
        {"pull": False},
    ):
        record = look(session(), **fields)
        before = copy.deepcopy(record)
        assert look(record, **fields) == before


# --- a person's word wins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"runtime_state": "exited", "outcome": "killed"},
        {"runtime_state": "starting", "outcome": None},
        {"doing": {"effect": "restore", "at": ago(1)}},
        {"claimed_pr_number": 12},
    ],
)
def test_a_look_from_before_a_kill_restore_or_claim_undoes_nothing(change):
    """F39, F44"""
    record = session(missed_looks=1)
    old = facts.Seen(basis=facts.basis(record), runtime="gone", pull=pull(number=7), reading=ACTIVE)
    record.update(change)
    before = copy.deepcopy(record)
    facts.fold(record, old, RULES, at(0))
    assert record == before


def test_while_an_effect_is_under_way_its_terminal_is_not_judged():
    """F39"""
    record = session(runtime_state="starting", doing={"effect": "spawn", "at": ago(1)})
    for seconds in (0, 5, 10):
        look(record, seconds, runtime="gone")
    assert (record["runtime_state"], record.get("missed_looks")) == ("starting", None)


# --- activity -------------------------------------------------------------------------------------------------------


def test_ready_and_idle_are_one_rest_that_the_clock_measures():
    """F17: a screen that flickers between them starts no timer anew."""
    record = session()
    look(record, 0, reading=READY)
    look(record, 70, reading=READY)
    assert (record["activity"], record["activity_since"]) == ("idle", at(0).iso)
    look(record, 75, reading=READY)
    look(record, 80, reading=None)
    assert (record["activity"], record["activity_since"]) == ("idle", at(0).iso)
    look(record, 85, reading=ACTIVE)
    assert (record["activity"], record["activity_since"]) == ("active", at(85).iso)


def test_a_screen_that_says_nothing_leaves_the_activity_as_it_is():
    record = look(session(), reading=Reading(None))
    assert (record["activity"], record["activity_since"]) == ("active", ago(90_000))


def test_what_hooks_report_is_the_activity_and_an_open_dialog_counts_more():
    record = session(reports_read=0)
    look(record, 10, reading=ACTIVE, reports=(report("ready", 9),), reports_end=30)
    assert (record["activity"], record["activity_source"], record["activity_since"]) == ("ready", "report", at(9).iso)
    look(record, 20, reading=QUESTION, reports_end=30)
    assert (record["activity"], record["activity_source"], record["question"]) == ("waiting_input", "screen", "go on?")


def test_an_answered_question_is_over():
    """F16"""
    asked = report("waiting_input", 9, "which one?")
    by_screen = look(session(), 10, reading=READY, reports=(asked,), reports_end=30)
    assert (by_screen["activity"], by_screen["question"]) == ("waiting_input", "which one?")
    by_message = copy.deepcopy(by_screen)
    assert look(by_screen, 20, reading=ACTIVE, reports_end=30)["activity"] == "active"
    by_message["inbox"] = [{"id": "m-1", "at": at(15).iso, "state": "confirmed", "delivered_at": at(15).iso}]
    assert look(by_message, 20, reports_end=30)["activity"] == "waiting_input", "a message is no answer"
    by_message["inbox"][0]["answer"] = True
    assert look(by_message, 20, reports_end=30)["activity"] == "ready"


# --- done -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (None, "done"),
        (False, None),
        (pull(GREEN), None),
        (pull(GREEN, state="closed"), None),
        (pull(GREEN, state="merged"), None),
    ],
)
def test_done_counts_once_it_is_known_that_there_is_no_pull_request(seen, outcome):
    record = look(session(), pull=seen, reports=(report("", 0, "all good", "done"),), reports_end=9)
    assert record["outcome"] == outcome
    if seen is False:
        assert look(record, 5, pull=None, reports_end=9)["outcome"] == "done"


def test_a_kill_is_not_made_done_by_a_late_report():
    record = session(outcome="killed", runtime_state="exited")
    assert look(record, runtime="gone", reports=(report("", 0, "", "done"),), reports_end=9)["outcome"] == "killed"


# --- pull requests --------------------------------------------------------------------------------------------------


def test_an_agent_that_exits_while_the_forge_cannot_be_asked_has_not_ended_for_good():
    """F18"""
    record = look(session(), runtime="gone", ended={"code": 0}, pull=False)
    assert status.is_live(record)
    assert look(record, 5, runtime="gone", pull=pull(RED))["status"] == "ci_failed"
    record = look(session(), runtime="gone", ended={"code": 0}, pull=False)
    assert look(record, 5, runtime="gone", pull=None)["status"] == "terminated"


def test_an_ended_session_that_is_looked_at_for_its_messages_stays_ended():
    record = look(session(), runtime="gone", ended={"code": 0})
    assert look(record, 5, runtime="gone", pull=False)["status"] == "terminated"


def test_observed_at_is_when_the_facts_changed():
    record = look(session(), 0, pull=pull(RUNNING))
    look(record, 50, pull=pull(RUNNING))
    assert record["pr"]["observed_at"] == at(0).iso
    look(record, 60, pull=pull(GREEN))
    assert record["pr"]["observed_at"] == at(60).iso


def test_a_head_is_new_from_when_it_was_first_seen_and_red_from_the_first_red_check():
    fresh = {"head_seen_at": None}
    record = look(session(), 0, pull=pull(RUNNING, **fresh))
    look(record, 10, pull=pull(RED, **fresh))
    look(record, 20, pull=pull(RED, **fresh))
    assert (record["pr"]["head_seen_at"], record["pr"]["red_since"]) == (at(0).iso, at(10).iso)
    look(record, 30, pull=pull(RED, head_sha="b" * 40, **fresh))
    assert (record["pr"]["head_seen_at"], record["pr"]["red_since"]) == (at(30).iso, at(30).iso)


def test_a_check_that_an_earlier_head_had_is_expected_of_the_next():
    """F31"""
    two = [*GREEN, {"name": "lint", "status": "passed"}]
    record = look(session(), 0, pull=pull(two))
    look(record, 10, pull=pull(GREEN, head_sha="b" * 40))
    assert "check 'lint': missing" in record["pr"]["blockers"]


def test_merged_stays_merged_whatever_is_seen_later():
    """F19"""
    record = look(session(), 0, pull=pull(GREEN, state="merged"))
    for seen in (None, False, pull(GREEN)):
        assert look(record, 10, pull=seen, runtime="gone")["status"] == "merged"


def test_the_branch_follows_the_worktree():
    """F14: a rename is followed, a detached head or the base branch is not."""
    record = session(branch="feat/x", base_branch="main")
    for head, branch in [(("feat/y", "c" * 40), "feat/y"), (("", "d" * 40), "feat/y"), (("main", "e" * 40), "feat/y")]:
        assert look(record, head=head)["branch"] == branch
        assert record["head_sha"] == head[1]


# --- messages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["queued", "sending", "delivered", "unconfirmed"])
def test_a_message_that_the_agent_is_seen_to_have_is_confirmed(state):
    """F1: also one of which it was not known before."""
    message = {"id": "m-1", "at": at(0).iso, "from": "person", "state": state}
    assert look(session(inbox=[dict(message)]), has={"m-1": True})["inbox"][0]["state"] == "confirmed"
    by_hook = look(session(inbox=[dict(message)]), reports=((at(0).now, "received", "m-1", ""),), reports_end=5)
    assert by_hook["inbox"][0]["state"] == "confirmed"
    for has in (False, None):
        assert look(session(inbox=[dict(message)]), has={"m-1": has})["inbox"][0]["state"] == state


def test_a_person_hears_of_a_message_after_ten_minutes():
    record = session(inbox=[{"id": "m-1", "at": at(0).iso, "from": "person", "state": "queued"}])
    assert look(record, 599)["conditions"] == {}
    assert list(look(record, 600)["conditions"]) == ["message-waiting"]


def test_a_question_that_a_hook_told_of_is_over_when_a_sure_screen_does_not_show_it():
    """F16: a person has answered it in the terminal, and the hooks are silent until the end of a long run."""
    record = look(session(), 1, reading=Reading("waiting_input", "go on?", is_sure=True))
    look(record, 2, reports=(report("waiting_input", 1.5),), reports_end=9)
    assert record["activity"] == "waiting_input"
    look(record, 3, reports_end=9, reading=Reading("active"))
    assert record["activity"] == "waiting_input"  # a screen may not show everything
    look(record, 4, reports_end=9, reading=Reading("active", is_sure=True))
    assert record["activity"] == "active" and record["question"] is None


def test_trouble_on_the_screen_counts_although_a_hook_says_that_it_works():
    """F16: that the model does not answer is on the screen only."""
    record = look(session(), 1, reports=(report("active", 1),), reports_end=9)
    look(record, 2, reports_end=9, reading=Reading("blocked", trouble="no answer", is_sure=True))
    assert (record["activity"], record["trouble"], record.get("question")) == ("blocked", "no answer", None)
    look(record, 3, reports_end=9, reading=Reading("active", is_sure=True))
    assert (record["activity"], record["trouble"]) == ("active", None)


def test_a_look_that_did_not_ask_takes_back_nothing_that_was_learned_meanwhile():
    """F32: an answer from the record is as old as the record."""
    record = session(pr=pull(head_sha="b" * 40))
    before = dict(record)
    facts.fold_pull(record, UNASKED, at(5))
    assert record == before


def test_done_counts_only_when_the_forge_was_asked():
    """A pull request may have been opened right before, and not be seen yet."""
    report = {"state": "ready", "at": ago(0), "text": "", "is_done": True}
    record = session(report=report, activity="ready")
    for pull, outcome in ((UNASKED, None), (None, "done")):
        facts.fold(record, facts.Seen(facts.basis(record), "alive", pull=pull), None, at(5))
        assert record.get("outcome") == outcome
