"""Reactions: what is due is done once, what is not done says why, and nothing is forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT, until
from talking import act, change, clock, configure, confirm, logged_events, look, pull, record, red, told
from terminals import launch

from lib import cli, costs, effects, notify, paths, proc, react, rounds, sessions, status, store, tell
from lib.errors import AoError, Unknown
from lib.notifier import stdout
from lib.rules import KEYS
from lib.runtime import tmux
from lib.scm import Blocked, Comment, Failure, local
from lib.tracker import local as tracker

MINUTE = 60.0


@pytest.fixture(autouse=True)
def forge(monkeypatch):
    """What the forge would say of the checks and reviews of a recorded pull request."""
    monkeypatch.setattr(local, "failures", lambda *args: [Failure("test", "", "make test", "1 failed: the-cause")])
    written = [Comment("r1", "Ada", False, "please rename it", ""), Comment("r2", "Ada", False, "and that", "")]
    monkeypatch.setattr(local, "comments", lambda *args: written)
    monkeypatch.setitem(cli._notices, "to", "")


def texts(home: str, id: str = "shop-1") -> list[str]:
    return [one["text"] for one in sessions.find(home, id)["inbox"]]


def condition(home: str, key: str, id: str = "shop-1") -> dict:
    return sessions.find(home, id)["conditions"][key]


# --- messages --------------------------------------------------------------------------------------------------------


def test_red_checks_are_sent_once_per_head_and_set_of_failures(home):
    """F20"""
    configure(home)
    record(home)
    change(home, pr=red())
    assert act(home) == ["shop-1 ci-failed send-to-agent"]
    assert act(home, 5) == []
    confirm(home, seconds=6)
    assert [act(home, seconds) for seconds in (10, 15, 600, 1700)] == [[], [], [], []]
    change(home, seconds=1701, pr=red("c" * 40))
    assert act(home, 1702) == ["shop-1 ci-failed send-to-agent"]
    assert len(texts(home)) == 2 and "the-cause" in texts(home)[0]


def test_a_failure_of_ci_does_not_hide_what_reviewers_want(home):
    """F26"""
    configure(home)
    record(home)
    change(home, pr=red(threads=["r1"], review_decision="changes_requested"))
    assert act(home) == ["shop-1 ci-failed send-to-agent", "shop-1 changes-requested send-to-agent"]
    assert "the-cause" in texts(home)[0] and "please rename it" in texts(home)[1]


def test_only_new_comments_are_sent(home):
    """F25"""
    configure(home)
    record(home)
    change(home, pr=pull(threads=["r1"]))
    act(home)
    confirm(home)
    change(home, pr=pull(threads=["r1", "r2"]))
    act(home, 5)
    assert "please rename it" not in texts(home)[-1] and "and that" in texts(home)[-1]


def test_comments_that_are_settled_by_now_are_not_sent(home, monkeypatch):
    configure(home)
    record(home)
    change(home, pr=pull(threads=["r1"]))
    monkeypatch.setattr(local, "comments", lambda *args: [])
    assert act(home) == []
    assert condition(home, "changes-requested")["waiting_for"].startswith("an answer: ")


def test_a_message_that_failed_is_due_again_later_and_is_no_attempt(home):
    """F9"""
    configure(home)
    record(home)
    change(home, pr=red())
    act(home)
    confirm(home, state="failed")
    assert act(home, 1) == []
    assert condition(home, "ci-failed")["waiting_for"].startswith("another try at ")
    assert condition(home, "ci-failed")["attempts"] == 0
    assert act(home, 20) == ["shop-1 ci-failed send-to-agent"]


def test_a_message_that_may_have_arrived_is_not_sent_again_and_a_person_is_told(home):
    """F9"""
    configure(home)
    record(home)
    change(home, pr=red())
    act(home)
    confirm(home, state="unconfirmed")
    assert act(home, 60) == ["shop-1 ci-failed escalate"]
    assert "whether the agent has it cannot be known" in told(home)[0]
    assert act(home, 900) == []
    assert len(texts(home)) == 1


def test_a_reaction_configured_later_acts_on_what_has_long_been_open(home):
    """F22"""
    configure(home, reactions={"ci-failed": {"action": "notify", "auto": True}})
    record(home)
    change(home, pr=red(), hold={"reason": "person"})
    configure(home, reactions={"ci-failed": {"action": "send-to-agent"}})
    assert act(home, 5) == []
    assert "its hold" in condition(home, "ci-failed")["waiting_for"]
    change(home, seconds=9, hold=None)
    assert act(home, 10) == ["shop-1 ci-failed send-to-agent"]


def test_what_a_person_was_told_of_is_still_done_when_that_is_configured(home):
    """F22"""
    configure(home, reactions={"ci-failed": {"action": "notify"}})
    record(home)
    change(home, pr=red())
    assert (act(home), act(home, 5)) == (["shop-1 ci-failed notify"], [])
    configure(home)
    assert (act(home, 10), act(home, 15)) == (["shop-1 ci-failed send-to-agent"], [])
    confirm(home)
    configure(home, reactions={"ci-failed": {"action": "notify"}})
    assert act(home, 20) == [], "what its agent was told is no news for a person"


def test_a_partial_override_keeps_the_other_defaults(home):
    """F27"""
    configure(home, reactions={"agent-stuck": {"priority": "info"}})
    record(home)
    change(home, pr=red())
    act(home)
    confirm(home)
    change(home, activity="idle", activity_since=clock().iso)
    change(home, seconds=9 * MINUTE)
    assert "agent-stuck" not in sessions.find(home, "shop-1")["conditions"]
    change(home, seconds=11 * MINUTE)
    assert act(home, 11 * MINUTE) == ["shop-1 agent-stuck notify"]
    assert "[info]" in told(home)[0]


def test_a_reaction_that_has_no_text_of_its_own_sends_what_is_configured(home):
    """F27: the configuration is refused without one."""
    configure(home, reactions={"approved-and-green": {"action": "send-to-agent", "message": "Now update the notes."}})
    record(home)
    change(home, pr=pull(review_decision="approved", approved_by=["Ada"]))
    assert act(home) == ["shop-1 approved-and-green send-to-agent"]
    assert texts(home) == ["Now update the notes."]


def test_what_is_not_automatic_goes_to_a_person(home):
    configure(home, reactions={"ci-failed": {"auto": False}})
    record(home)
    change(home, pr=red())
    assert act(home) == ["shop-1 ci-failed notify"]
    assert texts(home) == []
    assert "checks of pull request 7 fail: test" in told(home)[0]
    assert act(home, 900) == []


def test_a_merge_that_is_refused_says_why_and_is_tried_again_later(home, monkeypatch):
    """F34"""
    configure(home, reactions={"approved-and-green": {"action": "auto-merge"}})
    record(home)
    ready = pull(review_decision="approved", approved_by=["Ada"])
    change(home, pr=ready)
    monkeypatch.setattr(local, "look", lambda home, project, group, clock, fresh=False: {"shop-1": dict(ready)})
    tries = []

    def refuses(*args):
        tries.append(1)
        raise Blocked("the base checkout has local changes")

    monkeypatch.setattr(local, "plan_merge", refuses)
    failed = "shop-1 approved-and-green auto-merge the base checkout has local changes"
    assert act(home) == [failed]
    assert "local changes" in condition(home, "approved-and-green")["waiting_for"]
    assert act(home, 5) == []
    assert condition(home, "approved-and-green")["waiting_for"].startswith("another try at ")
    assert sessions.find(home, "shop-1")["status"] == "merge_failed"
    for seconds in range(20, 3600, 20):
        change(home, seconds=seconds)
        act(home, seconds)
    assert len(tries) == 3 and len(told(home)) == 1 and "local changes" in told(home)[0]


# --- escalation ------------------------------------------------------------------------------------------------------


def test_after_its_retries_a_person_is_told_once_with_the_content(home):
    """F20, F21, F24: the counters are in the record."""
    configure(home, reactions={"ci-failed": {"retries": 2}})
    record(home)
    for number in range(2):
        change(home, seconds=number, pr=red(str(number) * 40))
        assert act(home, number) == ["shop-1 ci-failed send-to-agent"]
        confirm(home, seconds=number)
    change(home, seconds=3, pr=red("d" * 40))
    assert act(home, 4) == ["shop-1 ci-failed escalate"]
    assert "2 send-to-agent attempts" in told(home)[0] and "the-cause" in told(home)[0]
    change(home, seconds=5, pr=red("e" * 40))
    assert act(home, 6) == []
    assert condition(home, "ci-failed")["waiting_for"].startswith("a person, told at ")
    assert len(told(home)) == 1


def test_a_timer_fires_although_nothing_else_happens_and_new_content_is_still_delivered(home):
    """F24"""
    configure(home)
    record(home)
    change(home, pr=pull(threads=["r1"], review_decision="changes_requested"))
    act(home)
    confirm(home)
    change(home, activity="active")
    assert act(home, 29 * MINUTE) == []
    assert act(home, 31 * MINUTE) == ["shop-1 changes-requested escalate"]
    change(home, seconds=32 * MINUTE, pr=pull(threads=["r1", "r2"], review_decision="changes_requested"))
    assert act(home, 33 * MINUTE) == ["shop-1 changes-requested send-to-agent"]
    assert "and that" in texts(home)[-1]


ROUND = """
import os, sys, talking
home, head = os.environ["AO_HOME"], sys.argv[1]
talking.change(home, pr=talking.pull(head_sha=head * 40, mergeable=False))
print("did", *talking.act(home))
talking.confirm(home)
"""


def test_a_restart_forgives_nothing(home):
    """F21: every round is a process of its own, as cron runs it; counters and latches are in the record."""
    configure(home, reactions={"merge-conflicts": {"retries": 2}})
    record(home)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, os.path.join(ROOT, "tests")])}
    done = []
    for head in "abcd":
        argv = [sys.executable, "-c", ROUND, head]
        said = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        done += [line.split()[-1] for line in said.splitlines() if line.startswith("did")]
    assert done == ["send-to-agent", "send-to-agent", "escalate", "did"]
    assert len(told(home)) == 1 and "2 send-to-agent attempts did not settle it" in told(home)[0]
    found = condition(home, "merge-conflicts")
    assert found["attempts"] == 2 and found["escalated_at"]


# --- why nothing is done ---------------------------------------------------------------------------------------------


def test_what_is_not_done_says_why_once_and_an_idle_fleet_is_neither_locked_nor_written(home, monkeypatch):
    """F28"""
    configure(home)
    record(home)
    record(home, "shop-2")
    change(home, pr=red())
    change(home, "shop-2", pr=pull(), runtime_state="alive")
    act(home)
    confirm(home)
    act(home, 10)
    assert condition(home, "ci-failed")["waiting_for"] == "the agent, which was told"
    before = [(one["rev"], one["updated_at"]) for one in sessions.everything(home).records]
    events_before = len(logged_events(home))
    monkeypatch.setattr(effects, "hold", None)
    for seconds in (15, 20, 200, 900):
        assert act(home, seconds) == []
    assert [(one["rev"], one["updated_at"]) for one in sessions.everything(home).records] == before
    assert len(logged_events(home)) == events_before
    assert [event["why"] for event in logged_events(home, "reaction_skipped")] == ["the agent, which was told"]


def test_nothing_is_done_by_a_configuration_that_cannot_be_read(home):
    """F47"""
    project = configure(home)
    record(home)
    change(home, pr=red())
    with open(project.source, "w") as file:
        file.write("projects: [")
    assert act(home) == []
    assert texts(home) == []
    assert react.preview(home, clock())[0]["waiting_for"] == "a configuration that can be read"


def test_each_session_is_served_by_the_file_that_it_was_spawned_with(home, tmp_path, monkeypatch):
    """F47: whichever folder the round is run from."""
    configure(home, reactions={"merge-conflicts": {"action": "notify"}})
    configure(str(tmp_path))
    record(home)
    record(home, "shop-2", config_path=str(tmp_path / "ao.yaml"))
    for id in ("shop-1", "shop-2"):
        change(home, id, pr=pull(mergeable=False))
    monkeypatch.chdir(tmp_path)
    assert act(home) == ["shop-1 merge-conflicts notify", "shop-2 merge-conflicts send-to-agent"]


def test_a_decision_is_taken_again_on_the_newest_record(home, monkeypatch):
    configure(home)
    session = record(home)
    change(home, pr=red())

    def meanwhile(*args):
        sessions.update(home, session, lambda fresh: fresh["conditions"].clear(), clock())
        return "too late"

    monkeypatch.setattr(react, "compose", meanwhile)
    assert act(home) == []
    assert texts(home) == []


def test_a_second_react_leaves_quietly(home):
    configure(home)
    record(home)
    change(home, pr=red())
    with store.lock(paths.lock(home, "react")):
        assert rounds.act(home) == []
    assert texts(home) == []


def test_a_session_with_an_effect_under_way_is_left_alone(home):
    configure(home)
    session = record(home)
    change(home, pr=red())
    with effects.hold(home, session):
        assert act(home) == []
    assert act(home, 1) == ["shop-1 ci-failed send-to-agent"]


def test_one_session_that_fails_stops_no_other_and_is_logged_once(home, monkeypatch):
    configure(home)
    for id in ("shop-1", "shop-2"):
        record(home, id)
        change(home, id, pr=red())

    def failures(home_, project, session):
        if session["id"] == "shop-1":
            raise ValueError("boom")
        return [Failure("test", "", "", "x")]

    with monkeypatch.context() as broken:
        broken.setattr(local, "failures", failures)
        for seconds in (0, 5):
            failed, *others = act(home, seconds)
            assert failed.startswith("shop-1 ci-failed send-to-agent ValueError: boom (test_react.py:")
            assert others == (["shop-2 ci-failed send-to-agent"] if not seconds else [])
        (event,) = logged_events(home, "reaction_skipped")
        assert event["why"].startswith("a remedy: ValueError: boom")
    assert act(home, 10) == ["shop-1 ci-failed send-to-agent"]


def test_an_effect_that_cannot_be_settled_is_said_once_until_it_can_be(home, monkeypatch):
    configure(home)
    record(home, doing={"effect": "merge", "at": clock().iso, "plan": {}, "head_sha": "", "id": "g-1"})

    def fails(*args):
        raise AoError("the repository is gone")

    with monkeypatch.context() as broken:
        broken.setattr(local, "is_merged", fails)
        assert [act(home), act(home, 5)] == [["shop-1 the repository is gone"]] * 2
        assert [event["message"] for event in logged_events(home, "tick_error")] == ["the repository is gone"]
        assert sessions.find(home, "shop-1")["react_error"] == "the repository is gone"
    monkeypatch.setattr(local, "is_merged", lambda *args: False)
    act(home, 10)
    assert (sessions.find(home, "shop-1")["react_error"], sessions.find(home, "shop-1")["doing"]) == (None, None)


def test_an_answer_that_is_unknown_is_waited_for(home, monkeypatch):
    """F11"""
    configure(home)
    record(home)
    change(home, pr=red())

    def failures(*args):
        raise Unknown("the forge is not there")

    monkeypatch.setattr(local, "failures", failures)
    assert [act(home), act(home, 5)] == [[], []]
    assert condition(home, "ci-failed")["waiting_for"] == "an answer: the forge is not there"
    assert len(logged_events(home, "reaction_skipped")) == 1


# --- people ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("died", ["before", "after"])
def test_a_person_is_told_once_also_by_a_round_that_died(home, monkeypatch, died):
    """F23"""
    configure(home)
    record(home, activity="waiting_input", question="which port?")
    change(home)
    send = notify.send

    def dies(*args):
        if died == "after":
            send(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(notify, "send", dies)
        with pytest.raises(KeyboardInterrupt):
            act(home)
    assert len(told(home)) == (died == "after")
    act(home, 5)
    act(home, 10)
    assert len(told(home)) == 1 and "which port?" in told(home)[0]
    assert condition(home, "agent-needs-input")["result"]["ok"]


@pytest.mark.parametrize(
    ("trouble", "key"),
    [
        ({"activity": "waiting_input", "question": "y/n?"}, "agent-needs-input"),
        ({"activity": "blocked", "activity_since": clock(-3600).iso, "turn_since": clock(-3600).iso}, "agent-stuck"),
    ],
)
def test_a_status_that_flickers_is_told_once(home, trouble, key):
    """F17"""
    configure(home)
    record(home)
    for seconds in range(0, 160, 10):
        is_bad = seconds % 20 == 0
        change(home, seconds=seconds, **(trouble if is_bad else {"activity": "active", "question": None}))
        assert act(home, seconds) == ([] if seconds else [f"shop-1 {key} notify"])
    assert len(told(home)) == 1


def test_an_agent_whose_pull_request_was_closed_is_looked_after(home):
    """F18: a person hears of the end of the one and of the questions of the other."""
    configure(home)
    record(home)
    change(home, pr=pull(state="closed"))
    assert act(home) == ["shop-1 pr-closed notify"]
    change(home, seconds=5, activity="waiting_input", question="and now?")
    assert act(home, 5) == ["shop-1 agent-needs-input notify"]
    found = sessions.find(home, "shop-1")
    assert (found["status"], status.is_live(found)) == ("needs_input", True)


def test_a_notification_that_reached_nobody_is_tried_again(home, monkeypatch):
    """F9"""
    configure(home)
    record(home, activity="waiting_input", question="which port?")
    change(home)

    def fails(*args):
        raise AoError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(stdout, "send", fails)
        act(home)
        assert condition(home, "agent-needs-input")["result"]["error"] == "stdout: the disk is full"
    assert act(home, 5) == []
    act(home, 20)
    assert len(told(home)) == 1


def test_sessions_lost_together_are_one_piece_of_news(home):
    """F43"""
    configure(home)
    for number in range(1, 5):
        record(home, f"shop-{number}")
        change(home, f"shop-{number}", runtime_state="gone", ended_at=clock().iso, is_lost=True, activity="exited")
    assert act(home) == ["agent-exited notify"]
    assert len(told(home)) == 1 and "4 agents went with their terminals" in told(home)[0]
    assert "shop-1, shop-2, shop-3, shop-4" in told(home)[0]
    assert act(home, 60) == []
    assert all(condition(home, "agent-exited", f"shop-{number}")["result"]["ok"] for number in range(1, 5))


def test_what_no_budget_counts_is_told_once_with_its_model(home):
    configure(home, budget={"day_usd": 5.0})
    record(home)
    change(home, cost=costs.taken(None, {"2023-11-14": {"new-model": {"input_tokens": 5}}}))
    assert act(home) == ["shop-1 cost-unknown notify"]
    assert "no price of new-model is known" in told(home)[0] and "ao-cost --rebuild" in told(home)[0]
    assert act(home, 60) == [] and len(told(home)) == 1


def test_every_condition_has_a_sentence_for_people():
    assert set(tell.HEADLINES) == set(KEYS)


def test_one_that_is_lost_alone_is_not_called_a_reboot(home):
    configure(home)
    record(home)
    change(home, runtime_state="gone", ended_at=clock().iso, is_lost=True, activity="exited")
    assert act(home) == ["agent-exited notify"]
    assert "the terminal of shop-1 is gone" in told(home)[0] and "ao-restore shop-1" in told(home)[0]


def test_a_round_that_died_telling_of_lost_sessions_is_finished_by_the_next(home, monkeypatch):
    """F23"""
    configure(home)
    for number in (1, 2):
        record(home, f"shop-{number}")
        change(home, f"shop-{number}", runtime_state="gone", ended_at=clock().iso, is_lost=True, activity="exited")

    def dies(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(notify, "send", dies)
        with pytest.raises(KeyboardInterrupt):
            act(home)
    act(home, 5)
    act(home, 10)
    assert len(told(home)) == 1 and "2 agents" in told(home)[0]


def test_lost_sessions_are_restored_where_that_is_configured(home):
    """F43"""
    configure(home, {"command": ["cat"]}, reactions={"agent-exited": {"action": "restore"}})
    record(home, task="go on")
    change(home, runtime_state="gone", ended_at=clock().iso, is_lost=True, activity="exited")
    assert act(home) == ["shop-1 agent-exited restore"]
    assert list(tmux.look(home)) == ["shop-1"]
    assert condition(home, "agent-exited")["result"]["ok"]
    assert told(home) == []


def end(home: str, id: str, seconds: float = 0.0) -> None:
    change(home, id, seconds, runtime_state="exited", activity="exited", pr=pull(state="merged"))


def evaluate_projects(home: str, seconds: float) -> None:
    from lib import concerns

    concerns.evaluate(home, sessions.everything(home).records, [], {}, clock(seconds))


def test_all_complete_is_told_exactly_once_with_a_table_and_again_after_more_work(home, monkeypatch):
    """F19: what was merged is no alarm, whatever became of its agent."""
    shown = []
    monkeypatch.setattr(cli, "notice", shown.append)
    configure(home)
    record(home, issue_title="the first")
    record(home, "shop-2", issue_title="the second")
    end(home, "shop-1")
    evaluate_projects(home, 1)
    assert act(home, 1) == []
    end(home, "shop-2")
    evaluate_projects(home, 2)
    assert act(home, 2) == ["all-complete notify"]
    for seconds in (5, 900):
        evaluate_projects(home, seconds)
        assert act(home, seconds) == []
    assert len(told(home)) == 1 and "all 2 sessions have ended: 2 merged" in told(home)[0]
    assert [line.split()[:2] for line in shown[-1].splitlines()[1:]] == [["shop-1", "merged"], ["shop-2", "merged"]]
    notification = logged_events(home, "ui_notification")[0]["notification"]
    assert notification["reaction_key"] == "all-complete"
    record(home, "shop-3")
    evaluate_projects(home, 1000)
    end(home, "shop-3", 1000)
    evaluate_projects(home, 1005)
    act(home, 1005)
    assert "all 3 sessions" in told(home)[-1]
    assert len([line for line in told(home) if "sessions have ended" in line]) == 2


def test_archiving_and_a_reboot_are_not_the_end_of_all_work(home):
    configure(home)
    for id in ("shop-1", "shop-2"):
        record(home, id)
    end(home, "shop-1")
    change(home, "shop-2", runtime_state="gone", is_lost=True, activity="exited")
    evaluate_projects(home, 1)
    act(home, 1)
    assert not [line for line in told(home) if "have ended" in line]
    end(home, "shop-2")
    evaluate_projects(home, 2)
    act(home, 2)
    sessions.remove(home, sessions.find(home, "shop-1"))
    evaluate_projects(home, 3)
    act(home, 3)
    assert len([line for line in told(home) if "have ended" in line]) == 1


# --- checks ----------------------------------------------------------------------------------------------------------


def pending(number: int, head: str = "a" * 40) -> dict:
    check = {"name": "test", "status": "pending", "url": "", "conclusion": ""}
    return pull(number=number, head_sha=head, ci_status="pending", ci_checks=[check])


def test_checks_are_started_where_nobody_runs_them_and_no_more_than_there_are_processors(home, monkeypatch):
    started = []
    monkeypatch.setattr(proc, "detach", lambda argv, log, environment: started.append(argv[-1]))
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    configure(home, ci=[{"name": "test", "run": "true"}])
    for number in range(1, 7):
        record(home, f"shop-{number}")
        change(home, f"shop-{number}", pr=pending(number))
    with store.lock(paths.lock(home, "effect", "shop", "ci-1")):
        act(home)
        assert len(started) == 2 and "shop-1" not in started
    started.clear()
    change(home, "shop-1", pr=red())
    act(home, 5)
    assert len(started) == 3, "one whose process died is started again"


def test_no_checks_are_started_of_which_no_look_would_see_the_result(home, monkeypatch):
    started = []
    monkeypatch.setattr(proc, "detach", lambda argv, log, environment: started.append(argv[-1]))
    configure(home, ci=[{"name": "test", "run": "true"}])
    record(home)
    change(home, pr=pending(1), outcome="killed", runtime_state="gone")
    act(home)
    assert started == []


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [{"pr": pull(state="merged")}, {"outcome": "done"}])
def test_an_agent_ends_when_its_work_is_over_and_its_turn_too(home, over):
    configure(home)
    record(home, over_since=clock().iso)
    launch(home, "shop-1", ["cat"])
    change(home, activity="active", **over)
    assert act(home, 299) == []
    change(home, seconds=299, activity="ready")
    assert act(home, 299) == ["shop-1 cleanup"]
    assert tmux.look(home) == {}
    assert act(home, 305) == []
    found = sessions.find(home, "shop-1")
    assert (found["status"], found["doing"]) == ("merged" if "pr" in over else "done", None)


def test_an_agent_whose_turn_never_ends_is_ended_after_five_minutes(home):
    configure(home)
    record(home, over_since=clock().iso)
    launch(home, "shop-1", ["cat"])
    change(home, activity="active", pr=pull(state="merged"))
    assert act(home, 301) == ["shop-1 cleanup"]


@pytest.mark.parametrize(("runtime", "on_merge"), [("alive", "stop"), ("alive", "prune"), ("exited", "prune")])
def test_what_is_left_of_merged_work_goes_as_it_is_configured(home, monkeypatch, runtime, on_merge):
    ended = []
    monkeypatch.setattr(
        react.lives, "clean_up", lambda home, project, session, prune_too, clock: ended.append(prune_too)
    )
    configure(home, top={"lifecycle": {"on_merge": on_merge}})
    record(home)
    change(home, runtime_state=runtime, pr=pull(state="merged"))
    assert act(home) == ["shop-1 cleanup"]
    assert ended == [on_merge == "prune"]


def test_nothing_happens_while_the_fleet_is_paused(home):
    from lib import loop

    configure(home)
    record(home)
    change(home, pr=red())
    loop.pause(home, clock(), True)
    assert rounds.act(home) == []
    loop.pause(home, clock(), False)
    assert until(lambda: rounds.act(home))


# --- what comes with a merge, and what a person asks for at once -----------------------------------------------------


def test_the_issue_of_merged_work_is_closed_once(home, monkeypatch):
    closed = []
    monkeypatch.setattr(tracker, "close", lambda home, project, id: closed.append(id))
    configure(home)
    record(home, issue_id="7")
    act(home)
    assert closed == []
    change(home, runtime_state="exited", activity="exited", pr=pull(state="merged"))
    act(home, 5)
    act(home, 10)
    assert closed == ["7"]
    assert [one["issue_id"] for one in logged_events(home, "issue_closed")] == ["7"]


def test_an_issue_that_is_not_the_tracker_s_is_left_alone_and_that_is_said_once(home, monkeypatch):
    configure(home)
    record(home, issue_id="notes", runtime_state="exited", pr=pull(state="merged"))
    act(home)
    act(home, 5)
    (event,) = logged_events(home, "issue_closed")
    assert "notes" in event["why_not"]


def test_comments_are_forwarded_at_once_and_nothing_else_is_done(home):
    configure(home)
    record(home)
    change(home, pr=red(threads=["r1"], review_decision="changes_requested"))
    assert [one["reaction_key"] for one in react.forward(home, clock(1))] == ["changes-requested"]
    assert "please rename it" in texts(home)[0] and len(texts(home)) == 1
    assert react.forward(home, clock(2)) == []


def test_a_person_hears_of_a_configuration_that_cannot_be_read_and_of_what_follows(home):
    """F47: whether the file is broken or gone; what was to be told is told, and nothing else is done."""
    project = configure(home)
    record(home)
    change(home, pr=red())
    with open(project.source) as file:
        sound = file.read()
    with open(project.source, "w") as file:
        file.write("projects: [")
    for seconds in (0, 5, 12, 20, 905, 910):
        look(home, seconds)
        act(home, seconds)
    os.unlink(project.source)
    look(home, 920)
    assert act(home, 920) == []
    urgent, warning = told(home)
    assert "[urgent] shop: nothing is done for shop-1: " in urgent and ": not YAML" in urgent
    assert "[warning] shop: nothing could be learned" in warning
    assert texts(home) == []
    with open(project.source, "w") as file:
        file.write(sound)
    look(home, 930)
    assert "config-error" not in store.read(paths.project(home, "shop"))["conditions"]


def test_what_was_to_be_told_when_the_configuration_broke_is_told(home, monkeypatch):
    project = configure(home)
    record(home)
    change(home, activity="waiting_input", question="which?")
    react.run(home, clock())
    os.unlink(project.source)
    act(home, 5)
    assert "which?" in told(home)[0]


def test_a_slow_effect_keeps_nobody_else_waiting_and_goes_on(home, monkeypatch):
    monkeypatch.setattr(react, "WITHIN", 3.0)
    go_on, real = threading.Event(), local.failures
    monkeypatch.setattr(local, "failures", lambda *args: go_on.wait(120) and real(*args))
    configure(home)
    for id in ("shop-1", "shop-2"):
        record(home, id)
    change(home, "shop-1", pr=red())
    change(home, "shop-2", pr=pull(mergeable=False))
    assert act(home) == ["shop-1 no answer within 3 s", "shop-2 merge-conflicts send-to-agent"]
    assert act(home, 5) == [], "what is under way is left alone"
    go_on.set()
    effects.finish()
    assert "the-cause" in texts(home)[0]


def test_a_round_ends_at_ctrl_c_whatever_is_under_way(home, tmp_path):
    slow = tmp_path / "git"
    slow.write_text(f"#!/bin/sh\ntouch {tmp_path}/begun\nexec sleep 100\n")
    slow.chmod(0o755)
    configure(home)
    for id in ("shop-1", "shop-2"):
        record(home, id, outcome="errored")
        change(home, id, doing={"effect": "prune", "at": clock().iso, "prune": True})
    env = {**os.environ, "AO_HOME": home, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.Popen([sys.executable, os.path.join(ROOT, "bin", "ao-react")], env=env)
    until((tmp_path / "begun").exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    until(lambda: not store.is_held(paths.lock(home, "effect", "shop", "shop-1")))  # a child may be about to start


def test_a_restore_with_set_up_commands_goes_on_by_itself(home, monkeypatch):
    started = []
    monkeypatch.setattr(proc, "detach", lambda argv, log, environment: started.append(argv[-1]))
    configure(home, post_create=["npm install"], reactions={"agent-exited": {"action": "restore"}})
    record(home, workspace_path=os.path.join(home, "pruned"))
    change(home, runtime_state="exited", ended_at=clock().iso, activity="exited")
    assert (act(home), act(home, 5), started) == (["shop-1 agent-exited restore"], [], ["shop-1"])
    act(home, 61)
    assert "was interrupted" in condition(home, "agent-exited")["result"]["error"]
